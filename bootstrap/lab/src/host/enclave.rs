//! One enclave: its service on the parent, its VM on the host, its console.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parent_vm::EnclaveId;
use parent_vm::paths::{LAB, WG_SERVER};
use self_test::{Command as Test, Report};

use super::{GRACE, Lab};
use crate::console::Console;
use crate::evidence;
use crate::layout::Layout;
use crate::plan::Plan;
use crate::process::Process;
use crate::qemu::EnclaveMachine;
use crate::rogue::{self, Rogue};

const TUNNEL_PATIENCE: Duration = Duration::from_secs(60);
/// From the start of the service to the start of the VM. The parent measures the image in between.
const START_PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);
/// `self_test.port` of the lab's measured configuration.
pub(crate) const SELF_TEST_PORT: u16 = 7007;
/// Of the agent whose destinations are limited.
const LIMITED_PORT: u16 = 7010;

/// An enclave of a lab, running or not.
#[derive(Debug)]
pub struct Enclave<'lab> {
    lab: &'lab Lab,
    id: EnclaveId,
}

/// The VM that nitro-cli asks for.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) image_path: PathBuf,
    pub(super) cpus: u32,
    pub(super) memory_mib: u64,
}

/// The time until a tunnel was up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Handshake {
    /// From the start of QEMU, by the host's clock.
    pub since_power_on: Duration,
    /// From the start of the enclave's kernel, by its own clock.
    pub since_kernel_start: Duration,
}

impl<'lab> Enclave<'lab> {
    pub(super) const fn new(lab: &'lab Lab, id: EnclaveId) -> Self {
        Self { lab, id }
    }

    /// Starts the enclave. Does nothing if it is running.
    ///
    /// # Errors
    /// No lab is running, or QEMU does not start.
    pub fn start(&self, eif: Option<&Path>) -> Result<()> {
        let _lock = self.lab.lock()?;
        let plan = Plan::load(&self.lab.layout)?;
        image(&plan, eif)?;
        if self.is_running()? { Ok(()) } else { self.boot(&plan, eif) }
    }

    /// Checks that the image for [`Enclave::start`] exists, before an enclave is stopped for it.
    ///
    /// # Errors
    /// No lab is running, or there is no such file.
    pub fn check_image(&self, eif: Option<&Path>) -> Result<()> {
        image(&Plan::load(&self.lab.layout)?, eif).map(drop)
    }

    /// Stops the enclave's service, which terminates the enclave. False if it was not running.
    ///
    /// # Errors
    /// The enclave does not stop.
    pub fn stop(&self) -> Result<bool> {
        let _lock = self.lab.lock()?;
        let was_running = self.is_running()?;
        // Also if the enclave has ended: its service would restart it.
        self.lab.parent()?.hold(&parent_vm::enclave_service(self.id))?;
        let end = Instant::now() + GRACE;
        while self.is_running()? {
            ensure!(Instant::now() < end, "enclave {} is still running, without its process in the parent", self.id);
            sleep(POLL);
        }
        Ok(was_running)
    }

    /// True while the enclave's VM is running.
    ///
    /// # Errors
    /// A state file that cannot be read.
    pub fn is_running(&self) -> Result<bool> {
        Ok(self.process()?.is_some_and(|process| process.is_running()))
    }

    /// The console since the last start.
    pub fn console(&self) -> Console {
        Console::new(self.console_path())
    }

    /// Waits for a console line with `text`, and returns it.
    ///
    /// # Errors
    /// No such line within `patience`, or the enclave has ended.
    pub fn wait_console(&self, text: &str, patience: Duration) -> Result<String> {
        let find = |console: &str| console.lines().find(|line| line.contains(text)).map(str::to_owned);
        self.console().wait(
            &format!("`{text}` on the console of enclave {}", self.id),
            patience,
            || self.expect_running(),
            find,
        )
    }

    /// Waits until the tunnel is up.
    ///
    /// # Errors
    /// The tunnel is not up within a minute, or the enclave has ended. With the last lines of the console.
    pub fn wait_tunnel(&self) -> Result<Handshake> {
        let what = format!("tunnel of enclave {}", self.id);
        let since_kernel_start =
            self.console().wait(&what, TUNNEL_PATIENCE, || self.expect_running(), evidence::first_handshake)?;
        let process = self.process()?.context("the enclave has no VM")?;
        let since_power_on = process.age().context("the enclave has ended")?;
        Ok(Handshake { since_power_on, since_kernel_start })
    }

    /// Replaces the enclave with one that the gateway must refuse; the gateway's reason.
    ///
    /// # Errors
    /// The gateway accepts it, or it does not boot. For a replay: the enclave to record is not running.
    pub fn replace(&self, rogue: Rogue) -> Result<String> {
        let progress = &self.lab.progress;
        let recording = match rogue {
            Rogue::Replay => progress.phase("record an answer of the enclave", |_| self.record())?,
            Rogue::ChangedConfig | Rogue::OtherImage => Vec::new(),
        };
        let eif = progress.phase("build the image to refuse", |phase| {
            rogue::build(rogue, &recording, &self.lab.project, &self.lab.layout, phase)
        })?;
        self.stop()?;
        self.start(Some(&eif))?;
        progress.phase("wait for the gateway's verdict", |_| self.wait_refusal())
    }

    /// Waits until the gateway refuses the enclave; the reason on the console.
    ///
    /// # Errors
    /// No refusal within a minute, or the gateway accepts the enclave.
    pub fn wait_refusal(&self) -> Result<String> {
        let what = format!("verdict on enclave {}", self.id);
        let verdict =
            self.console().wait(&what, TUNNEL_PATIENCE, || self.expect_running(), evidence::gateway_verdict)?;
        verdict.map_err(|line| anyhow!("the gateway did not refuse enclave {}: {line}", self.id))
    }

    /// Records the enclave's answer to another gateway than wg-server. Sessions stay up, as after a crash of
    /// wg-server.
    fn record(&self) -> Result<Vec<u8>> {
        self.expect_running()?;
        let parent = self.lab.parent()?;
        let gateway = parent.output(&["wg", "show", "wg0", "public-key"])?;
        let addresses = self.addresses()?;
        parent.hold_killed("wg-server")?;
        let mut command: Vec<_> = [LAB, "record"].map(str::to_owned).into();
        command.extend([self.id.to_string(), gateway.trim().to_owned()]);
        command.extend(addresses.iter().map(ToString::to_string));
        let answer = parent.output(&command);
        parent.release("wg-server")?;
        STANDARD.decode(answer?.trim()).context("read the recorded answer")
    }

    /// The addresses that wg-server leased to the enclave.
    ///
    /// # Errors
    /// wg-server has no lease for it, or not yet.
    pub fn addresses(&self) -> Result<Vec<IpAddr>> {
        let text = self.lab.parent()?.output(&[WG_SERVER, "status", "--json"])?;
        let addresses = evidence::leased_addresses(&text, self.id.cid()).with_context(|| format!("read {text}"))?;
        if addresses.is_empty() {
            bail!("wg-server has no address for enclave {}: check with `lab status` that its tunnel is up", self.id);
        }
        Ok(addresses)
    }

    /// Runs a test on the enclave's self-test agent.
    ///
    /// # Errors
    /// The agent's error.
    pub fn self_test(&self, test: &Test) -> Result<Report> {
        let address = *self.addresses()?.first().context("no address")?;
        self.lab.parent()?.self_test(SocketAddr::new(address, SELF_TEST_PORT), test)
    }

    /// As [`Enclave::self_test`], on the agent whose destinations are limited.
    ///
    /// # Errors
    /// The agent's error.
    pub fn limited_self_test(&self, test: &Test) -> Result<Report> {
        let address = *self.addresses()?.first().context("no address")?;
        self.lab.parent()?.self_test(SocketAddr::new(address, LIMITED_PORT), test)
    }

    /// An error with the last lines of its log if the enclave has ended.
    pub(crate) fn expect_running(&self) -> Result<()> {
        let process = self.process()?;
        process
            .with_context(|| format!("enclave {} was never started: start it with `lab enclave start {0}`", self.id))?
            .expect_running()
    }

    /// Starts the enclave's service on the parent, and returns when the VM is running.
    pub(super) fn boot(&self, plan: &Plan, eif: Option<&Path>) -> Result<()> {
        let service = parent_vm::enclave_service(self.id);
        let parent = self.lab.parent()?;
        parent.install(&parent_vm::image_path(self.id), &image(plan, eif)?)?;
        // The job ends when the enclave has booted. If it does not boot, its console says why.
        parent.output(&["systemctl", "start", "--no-block", &service])?;
        let end = Instant::now() + START_PATIENCE;
        while !self.is_running()? {
            if Instant::now() > end || !parent.is_starting(&service)? {
                bail!(
                    "{service} did not start enclave {}; the end of its log:\n{}",
                    self.id,
                    parent.last_words(&service)?
                );
            }
            sleep(POLL);
        }
        Ok(())
    }

    /// Starts the VM.
    pub(super) fn power_on(&self, plan: &Plan, machine: Machine) -> Result<Process> {
        let layout: &Layout = &self.lab.layout;
        match fs::remove_file(self.console_path()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).context("remove the old console")?
            }
            Ok(()) | Err(_) => {}
        }
        let machine = EnclaveMachine {
            cid: self.id.cid(),
            eif_path: machine.image_path,
            cpus: machine.cpus,
            memory_mib: machine.memory_mib,
            vsock_path: layout.guest_socket_path(self.id.cid()),
            console_path: self.console_path(),
            signer_dir: layout.signer_dir(),
        };
        let name = self.id.name();
        Process::start(&layout.process_dir(), &name, &plan.qemu().enclave(&machine), &layout.log_path(&name))
    }

    pub(super) fn process(&self) -> Result<Option<Process>> {
        self.lab.process(&self.id.name())
    }

    fn console_path(&self) -> PathBuf {
        self.lab.layout.console_path(&self.id.name())
    }
}

/// The given image, or that of `lab up`.
fn image(plan: &Plan, eif: Option<&Path>) -> Result<PathBuf> {
    let path = match eif {
        Some(path) => std::path::absolute(path)?,
        None => plan.eif_path.clone(),
    };
    if !path.is_file() {
        bail!("there is no image {}, expected a file such as target/eif/enclave.eif", path.display());
    }
    Ok(path)
}
