//! The verbs of the host, for the command line and for tests.

mod blind;
mod bring_up;
mod capture;
mod chain;
mod clients;
mod daemon;
mod enclave;
mod hub;
mod hypervisor;
mod parent;
mod prometheus;
mod status;
mod variant;
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
pub use chain::{Chain, Proxy};
pub use clients::Clients;
pub(crate) use clients::{CHAIN_ID, run as run_clients};
pub(crate) use enclave::SELF_TEST_PORT;
pub use enclave::{Enclave, Handshake};
pub use hub::Hub;
pub use parent::Parent;
pub use prometheus::Prometheus;
pub use status::Status;
pub use variant::{More, Variant};
pub use wallet::{URL, Wallet};

/// A VM has nothing to save when it stops.
const GRACE: Duration = Duration::from_secs(2);

/// One lab, running or not.
#[derive(Debug)]
pub struct Lab {
    pub(crate) layout: Layout,
    pub(crate) project: Project,
    pub(crate) programs: Programs,
    pub(crate) progress: Progress,
}

impl Lab {
    /// The lab in `dir`, from the checkout `project`, with the programs in the folder of `program`. By default, the
    /// folder is the user's, and the checkout and the program are those of the program that runs.
    ///
    /// # Errors
    /// A folder that cannot hold a lab, a missing checkout, or a missing program.
    pub fn open(dir: Option<PathBuf>, project: Option<PathBuf>, program: Option<PathBuf>) -> Result<Self> {
        Ok(Self {
            layout: Layout::new(dir)?,
            project: Project::find(project)?,
            programs: Programs::beside(program.as_deref())?,
            progress: Progress::default(),
        })
    }

    /// Stops everything and removes the lab's folder. False if there was no lab.
    ///
    /// # Errors
    /// A process that does not stop, or a file that cannot be removed.
    pub fn down(&self) -> Result<bool> {
        let lock = self.lock()?;
        let existed = self.layout.exists();
        if existed {
            // The parent first: it would restart enclaves that end.
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

    /// Runs `meanwhile` while the switch is stopped, as a hypervisor is that is not scheduled.
    ///
    /// # Errors
    /// No lab is running.
    pub fn freeze_switch<T>(&self, meanwhile: impl FnOnce() -> T) -> Result<T> {
        let switch = self.process(SWITCH)?.context("no lab is running: start one with `lab up`")?;
        switch.signal(Signal::SIGSTOP)?;
        let result = meanwhile();
        switch.signal(Signal::SIGCONT)?;
        Ok(result)
    }

    /// The parent.
    ///
    /// # Errors
    /// No lab is running.
    pub fn parent(&self) -> Result<Parent> {
        Parent::of(&self.layout)
    }

    /// The image that enclaves boot by default, with its measurements in the same folder.
    ///
    /// # Errors
    /// No lab is running.
    pub fn eif_path(&self) -> Result<PathBuf> {
        Ok(Plan::load(&self.layout)?.eif_path)
    }

    /// An enclave, running or not.
    pub fn enclave(&self, id: EnclaveId) -> Enclave<'_> {
        Enclave::new(self, id)
    }

    /// The lab's folder.
    pub fn dir(&self) -> &std::path::Path {
        self.layout.dir()
    }

    pub(crate) fn lock(&self) -> Result<Lock> {
        Lock::take(&self.layout.lock_path(), || self.progress.line("waiting for another `lab` command to finish"))
    }

    pub(crate) fn process(&self, name: &str) -> Result<Option<Process>> {
        Process::find(&self.layout.process_dir(), name)
    }
}
