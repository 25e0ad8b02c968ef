//! A Nitro host: its verbs, for the command line and for tests.

mod blind;
mod bring_up;
mod capture;
mod enclave;
mod hypervisor;
mod parent;
mod status;
mod wallet;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use parent_vm::{ENCLAVE_CIDS, EnclaveId};

use crate::layout::Layout;
use crate::lock::Lock;
use crate::plan::Plan;
use crate::process::{PARENT, Process, SSH, SWITCH};
use crate::programs::Programs;
use crate::progress::Progress;
use crate::project::Project;

pub use blind::Blind;
pub use bring_up::Options;
pub use capture::Captures;
pub(crate) use enclave::SELF_TEST_PORT;
pub use enclave::{Enclave, Handshake};
pub use parent::Parent;
pub use status::Status;
pub use wallet::{URL, Wallet};

/// A machine that is told to stop has nothing to save.
const GRACE: Duration = Duration::from_secs(2);

/// One lab, up or not.
#[derive(Debug)]
pub struct Lab {
    pub(crate) layout: Layout,
    pub(crate) project: Project,
    pub(crate) programs: Programs,
    pub(crate) progress: Progress,
}

impl Lab {
    /// The lab in `dir` (default: see the manual), from the checkout `project` (default: around this program), with the
    /// programs beside `program` (default: this one).
    ///
    /// # Errors
    /// A folder that cannot hold a lab, no checkout, or no wg-server.
    pub fn open(dir: Option<PathBuf>, project: Option<PathBuf>, program: Option<PathBuf>) -> Result<Self> {
        Ok(Self {
            layout: Layout::new(dir)?,
            project: Project::find(project)?,
            programs: Programs::beside(program.as_deref())?,
            progress: Progress::default(),
        })
    }

    /// Stops everything and leaves nothing behind. False if there was nothing.
    ///
    /// # Errors
    /// A process that does not stop, or a file that cannot be removed.
    pub fn down(&self) -> Result<bool> {
        let lock = self.lock()?;
        let existed = self.layout.exists();
        if existed {
            // The parent first, which would start others in the place of enclaves that end.
            let enclaves = EnclaveId::first(ENCLAVE_CIDS.count()).map(EnclaveId::name);
            for name in [PARENT.to_owned()].into_iter().chain(enclaves).chain([SSH, SWITCH].map(str::to_owned)) {
                if let Some(process) = self.process(&name)? {
                    process.stop(&self.layout.process_dir(), GRACE)?;
                }
            }
            self.layout.remove()?;
        }
        lock.remove()?;
        Ok(existed)
    }

    /// Runs `meanwhile` while the switch stands still, as a hypervisor does that has something else to do.
    ///
    /// # Errors
    /// No switch runs.
    pub fn freeze_switch<T>(&self, meanwhile: impl FnOnce() -> T) -> Result<T> {
        let switch = self.process(SWITCH)?.context("no lab is up: `lab up`")?;
        switch.signal(Signal::SIGSTOP)?;
        let result = meanwhile();
        switch.signal(Signal::SIGCONT)?;
        Ok(result)
    }

    /// The parent.
    ///
    /// # Errors
    /// No lab is up.
    pub fn parent(&self) -> Result<Parent> {
        Parent::of(&self.layout)
    }

    /// The image that enclaves boot unless told otherwise; its measurements are beside it.
    ///
    /// # Errors
    /// No lab is up.
    pub fn eif_path(&self) -> Result<PathBuf> {
        Ok(Plan::load(&self.layout)?.eif_path)
    }

    /// One of the enclaves, running or not.
    pub fn enclave(&self, id: EnclaveId) -> Enclave<'_> {
        Enclave::new(self, id)
    }

    /// The lab's folder.
    pub fn dir(&self) -> &std::path::Path {
        self.layout.dir()
    }

    pub(crate) fn lock(&self) -> Result<Lock> {
        Lock::take(&self.layout.lock_path(), || self.progress.line("another `lab` is at work here: waiting for it"))
    }

    pub(crate) fn process(&self, name: &str) -> Result<Option<Process>> {
        Process::find(&self.layout.process_dir(), name)
    }
}
