//! The roles of PID 1's child processes. Each runs this program again with its own first argument and privileges.

use std::fmt;
use std::os::fd::BorrowedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use nix::unistd::Pid;

use crate::sys;

/// The role of a child process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    /// Relays ciphertext between wg0 and the parent.
    Relay,
    /// Asks the name servers for the other processes, for the names of their destinations.
    Resolver,
    /// Pings through the tunnel.
    Probe,
    /// Signs for clients, with keys from KMS.
    Signer,
}

impl Role {
    const ALL: [Self; 4] = [Self::Relay, Self::Resolver, Self::Probe, Self::Signer];

    /// The program's first argument, and the name in the log.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::Resolver => "resolver",
            Self::Probe => "probe",
            Self::Signer => "signer",
        }
    }

    /// The role with this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    /// UID and GID, which no other process has.
    pub(crate) const fn user(self) -> u32 {
        match self {
            Self::Relay => 1001,
            Self::Probe => 1002,
            Self::Signer => 1003,
            Self::Resolver => 1004,
        }
    }

    /// Starts the process in the network `namespace`, or in PID 1's. It inherits `descriptors` as numbers 3, 4, ...
    pub(crate) fn start(self, namespace: Option<BorrowedFd<'_>>, descriptors: &[BorrowedFd<'_>]) -> Result<Pid> {
        let child = sys::spawn(command().arg(self.name()), namespace, descriptors);
        pid_of(&child.with_context(|| format!("start the {self}"))?)
    }
}

/// A command that runs this program again.
pub(crate) fn command() -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("orchestrator").env_clear().current_dir("/").stdin(Stdio::null());
    command
}

/// The child's process id. The caller can drop the `Child`: the reaper waits for it.
pub(crate) fn pid_of(child: &Child) -> Result<Pid> {
    Ok(Pid::from_raw(i32::try_from(child.id()).context("a process id")?))
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
