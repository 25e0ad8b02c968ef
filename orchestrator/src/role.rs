//! The processes that PID 1 starts: this same program under another name, with other rights.

use std::fmt;
use std::os::fd::BorrowedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use nix::unistd::Pid;

use crate::sys;

/// One process besides PID 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    /// Carries ciphertext between wg0 and the parent.
    Relay,
    /// Pings through the tunnel.
    Probe,
    /// Signs for clients, with keys from KMS.
    Signer,
}

impl Role {
    const ALL: [Self; 3] = [Self::Relay, Self::Probe, Self::Signer];

    /// Its name as the program's first argument, and in the log.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::Probe => "probe",
            Self::Signer => "signer",
        }
    }

    /// The role of that name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    /// User and group; nothing else on the machine has it.
    pub(crate) const fn user(self) -> u32 {
        match self {
            Self::Relay => 1001,
            Self::Probe => 1002,
            Self::Signer => 1003,
        }
    }

    /// Starts the process, in `namespace` if one is given, with `descriptors` as its numbers 3, 4, ...
    pub(crate) fn start(self, namespace: Option<BorrowedFd<'_>>, descriptors: &[BorrowedFd<'_>]) -> Result<Pid> {
        let child = sys::spawn(command().arg(self.name()), namespace, descriptors);
        pid_of(&child.with_context(|| format!("start the {self}"))?)
    }
}

/// This program, once more.
pub(crate) fn command() -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("orchestrator").env_clear().current_dir("/").stdin(Stdio::null());
    command
}

/// Dropping a `Child` does not wait for it: the reaper does.
pub(crate) fn pid_of(child: &Child) -> Result<Pid> {
    Ok(Pid::from_raw(i32::try_from(child.id()).context("a process id")?))
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
