//! `lab up`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use parent_vm::{ENCLAVE_CIDS, EnclaveId};

use super::{Lab, Parent};
use crate::authority::Authority;
use crate::fault::FaultCommand;
use crate::payload;
use crate::plan::Plan;
use crate::process::{PARENT, Process, SSH, SWITCH};
use crate::progress::{Phase, seconds};
use crate::qemu::{Accelerator, ParentMachine, Qemu};
use crate::ssh::{self, Ssh};
use crate::web_authority::WebAuthority;
use tunnel::port::Cid;

/// How to bring a lab up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Number of enclaves.
    pub enclaves: usize,
    /// Faults to inject from the start.
    pub faults: Vec<FaultCommand>,
    /// The enclaves' image; by default one is built from the lab's configuration.
    pub eif: Option<PathBuf>,
    /// Whether to wait for the tunnels.
    pub wait: bool,
    /// Whether the parent is at its first boot, with nothing of this project installed.
    pub is_bare: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { enclaves: 1, faults: Vec::new(), eif: None, wait: true, is_bare: false }
    }
}

const SWITCH_PATIENCE: Duration = Duration::from_secs(10);
const PARENT_PATIENCE: Duration = Duration::from_secs(120);
const SSH_PATIENCE: Duration = Duration::from_secs(30);

impl Lab {
    /// Boots what is not running yet, and waits for the tunnels.
    ///
    /// # Errors
    /// The step that failed, with the last lines of its log. What is running keeps running, for you to look at.
    pub fn up(&self, options: &Options) -> Result<()> {
        if options.is_bare && options.enclaves > 0 {
            bail!("a bare parent has no enclaves; expected --enclaves 0");
        }
        if options.enclaves > ENCLAVE_CIDS.count() {
            bail!("--enclaves: a lab has at most {} enclaves", ENCLAVE_CIDS.count());
        }
        let lock = self.lock()?;
        if self.layout.exists() {
            self.check_running()?;
        } else {
            self.boot_host(options)?;
        }
        let plan = Plan::load(&self.layout)?;
        let mut started = Vec::new();
        for id in EnclaveId::first(options.enclaves) {
            let enclave = self.enclave(id);
            if !enclave.is_running()? {
                enclave.boot(&plan, None)?;
                started.push(id);
            }
        }
        drop(lock);
        for id in started.into_iter().filter(|_| options.wait) {
            let handshake =
                self.progress.phase(&format!("boot enclave {id}, tunnel up"), |_| self.enclave(id).wait_tunnel())?;
            self.progress
                .line(&format!("enclave {id}: first handshake {} after power-on", seconds(handshake.since_power_on)));
        }
        // moto takes seconds to load; the tunnels do not need it.
        self.parent()?.release(parent_vm::AWS_SERVICE)
    }

    /// Reports what is running. It is an error if a process of the lab has ended.
    fn check_running(&self) -> Result<()> {
        for name in [SWITCH, PARENT] {
            let Some(process) = self.process(name)? else {
                bail!("the lab in {} did not start completely: run `lab down`, then `lab up`", self.dir().display());
            };
            process.expect_running().context("a process of the lab has ended: run `lab down`, then `lab up`")?;
            let age = process.age().with_context(|| format!("{name} has just ended"))?;
            self.progress.line(&format!("{name} is already running, for {}", seconds(age)));
        }
        for id in EnclaveId::first(ENCLAVE_CIDS.count()) {
            if let Some(process) = self.process(&id.name())? {
                match process.age() {
                    Some(age) => self.progress.line(&format!("enclave {id} is already running, for {}", seconds(age))),
                    None => self.progress.line(&format!("enclave {id} has ended; `lab console {id}` shows why")),
                }
            }
        }
        Ok(())
    }

    fn boot_host(&self, options: &Options) -> Result<()> {
        let artefacts =
            self.progress.phase("build or find QEMU and the parent's system", |phase| self.project.artefacts(phase))?;
        self.layout.create()?;
        let now = SystemTime::now();
        Authority::new(now).and_then(|authority| authority.save(&self.layout)).context("the lab's CA")?;
        let web = WebAuthority::new(now).context("the lab's web CA")?;
        web.save(&self.layout)?;
        let eif_path = match &options.eif {
            Some(path) => std::path::absolute(path)?,
            // Not built: a bare parent has no enclaves.
            None if options.is_bare => self.layout.eif_dir().join("enclave.eif"),
            None => self.progress.phase("build the enclave's image", |phase| {
                let (from, dir) = (self.project.config_dir(), self.layout.config_dir());
                let config = self.project.measured_config(&from, &self.layout, dir, phase)?;
                self.project.image(&[], &config, &self.layout.eif_dir(), phase)
            })?,
        };
        let ssh_port = ssh::free_port()?;
        let kernel_path = artefacts.parent_dir.join("vmlinuz");
        let qemu = self.progress.phase("check whether KVM works", |_| Qemu::new(artefacts.qemu_dir, &kernel_path))?;
        let ssh = Ssh::new(&self.layout, ssh_port);
        ssh.make_keys()?;
        payload::write(&self.layout, &self.project, &self.programs, (!options.is_bare).then_some(&*eif_path), &web)?;
        self.progress.phase("start the vsock switch", |_| self.start_switch())?;
        for fault in &options.faults {
            self.fault(fault)?;
        }
        let how =
            if qemu.accelerator == Accelerator::Kvm { "with KVM" } else { "with TCG, because KVM does not work here" };
        let machine = self.parent_machine(&artefacts.parent_dir, ssh_port);
        self.progress
            .phase(&format!("boot the parent ({how})"), |phase| self.boot_parent(&qemu, &machine, &ssh, phase))?;
        let is_kvm = qemu.accelerator == Accelerator::Kvm;
        Plan { ssh_port, qemu_dir: qemu.dir, is_kvm, eif_path }.save(&self.layout)
    }

    fn parent_machine(&self, parent_dir: &Path, ssh_port: u16) -> ParentMachine {
        let layout = &self.layout;
        let hypervisor: [&OsStr; 6] = [
            self.programs.lab.as_ref(),
            "--dir".as_ref(),
            layout.dir().as_ref(),
            "--project".as_ref(),
            self.project.root().as_ref(),
            "hypervisor".as_ref(),
        ];
        ParentMachine {
            kernel_path: parent_dir.join("vmlinuz"),
            initrd_path: parent_dir.join("initrd.img"),
            rootfs_path: parent_dir.join("rootfs.img"),
            payload_path: layout.payload_path(),
            vsock_path: layout.guest_socket_path(Cid::PARENT),
            console_path: layout.console_path(PARENT),
            ssh_port,
            hypervisor: (parent_vm::HYPERVISOR, hypervisor.map(OsStr::to_owned).into()),
        }
    }

    fn start_switch(&self) -> Result<()> {
        let mut command = Command::new(&self.programs.lab);
        command.arg("switch").arg("--dir").arg(self.layout.socket_dir());
        for cid in [Cid::PARENT.0].into_iter().chain(ENCLAVE_CIDS) {
            command.arg("--cid").arg(cid.to_string());
        }
        let log_path = self.layout.log_path(SWITCH);
        let process = Process::start(&self.layout.process_dir(), SWITCH, &command, &log_path)?;
        wait("the switch's sockets", SWITCH_PATIENCE, &process, || {
            [Cid::PARENT.0].into_iter().chain(ENCLAVE_CIDS).all(|cid| self.layout.guest_socket_path(Cid(cid)).exists())
                && self.layout.control_socket_path().exists()
        })
    }

    fn boot_parent(&self, qemu: &Qemu, machine: &ParentMachine, ssh: &Ssh, phase: &Phase) -> Result<()> {
        let dir = self.layout.process_dir();
        let process = Process::start(&dir, PARENT, &qemu.parent(machine), &self.layout.log_path(PARENT))?;
        let parent = Parent::new(&self.layout, ssh.clone());
        let ready = |text: &str| text.lines().find(|line| line.starts_with(parent_vm::READY)).map(str::to_owned);
        let said = parent
            .console()
            .wait("parent", PARENT_PATIENCE, || process.expect_running(), ready)
            .with_context(|| format!("QEMU's output is in {}", process.log_path.display()))?;
        phase.note(&said);
        let process = Process::start(&dir, SSH, &ssh.master(), &self.layout.log_path(SSH))?;
        wait("connection to the parent's sshd", SSH_PATIENCE, &process, || ssh.has_master())
    }
}

/// Polls until `is_done`, while the process is running.
fn wait(what: &str, patience: Duration, process: &Process, is_done: impl Fn() -> bool) -> Result<()> {
    let end = std::time::Instant::now() + patience;
    while !is_done() {
        process.expect_running().with_context(|| format!("wait for the {what}"))?;
        if std::time::Instant::now() > end {
            bail!("no {what} within {} s; its log is {}", patience.as_secs(), process.log_path.display());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
