//! Reaps every process that has ended. PID 1 is the parent of all orphans.

use std::fmt;

use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// A process that has ended.
pub(super) struct Ended {
    pub(super) pid: Pid,
    pub(super) how: How,
}

/// How it ended.
pub(super) enum How {
    Exited(i32),
    Killed(Signal),
}

/// All processes that have ended. One SIGCHLD can stand for several.
pub(super) fn ended() -> impl Iterator<Item = Ended> {
    std::iter::from_fn(|| {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => return Some(Ended { pid, how: How::Exited(code) }),
                Ok(WaitStatus::Signaled(pid, signal, _)) => return Some(Ended { pid, how: How::Killed(signal) }),
                Ok(WaitStatus::StillAlive) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    })
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "ended with status {code}"),
            Self::Killed(Signal::SIGSYS) => {
                f.write_str("was killed by its seccomp filter: it made a forbidden system call")
            }
            Self::Killed(signal) => write!(f, "was killed by {signal}"),
        }
    }
}
