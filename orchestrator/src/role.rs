//! The processes that PID 1 starts: this same program under another name, with other rights.

use std::fmt;
use std::os::fd::BorrowedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use nix::unistd::Pid;

use crate::{boot, sys};

/// One process besides PID 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    /// Carries ciphertext between wg0 and the parent.
    Relay,
    /// Pings through the tunnel.
    Probe,
    /// Signs for clients, with keys from KMS.
    Signer,
    /// Answers the lab.
    SelfTest,
}

impl Role {
    const ALL: [Self; 4] = [Self::Relay, Self::Probe, Self::Signer, Self::SelfTest];

    /// Its name as the program's first argument, and in the log.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::Probe => "probe",
            Self::Signer => "signer",
            Self::SelfTest => "self-test",
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
            Self::SelfTest => 1003,
            Self::Signer => 1004,
        }
    }

    /// All that it sees of the file system.
    pub(crate) const fn root_dir(self) -> &'static str {
        match self {
            Self::Relay | Self::Probe | Self::Signer => boot::EMPTY_DIR,
            Self::SelfTest => boot::SELF_TEST_DIR,
        }
    }

    /// Starts the process, in `namespace` if one is given, with `descriptors` as its numbers 3, 4, ...
    pub(crate) fn start(self, namespace: Option<BorrowedFd<'_>>, descriptors: &[BorrowedFd<'_>]) -> Result<Pid> {
        let mut command = Command::new("/proc/self/exe");
        command.arg0("orchestrator").arg(self.name()).env_clear().current_dir("/").stdin(Stdio::null());
        let child = sys::spawn(&mut command, namespace, descriptors).with_context(|| format!("start the {self}"))?;
        // Dropping a `Child` does not wait for it: the reaper does.
        Ok(Pid::from_raw(i32::try_from(child.id()).context("a process id")?))
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
