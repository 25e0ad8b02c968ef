//! What has to happen between fork and exec.
#![allow(unsafe_code, reason = "Command::pre_exec is unsafe to call; this file is its one address")]

use std::io;

use nix::sys::signal::Signal;
use tokio::process::Command;

/// The child gets SIGTERM when the thread that starts it ends, and loses CAP_NET_ADMIN, which only wg-server needs.
pub(crate) fn bind_to_parent(command: &mut Command) {
    let parent = nix::unistd::getpid();
    let prepare = move || {
        nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)?;
        // The parent may have died before the signal was set up; then this child belongs to somebody else.
        if nix::unistd::getppid() != parent {
            return Err(io::Error::from_raw_os_error(nix::libc::ESRCH));
        }
        caps::drop(None, caps::CapSet::Ambient, caps::Capability::CAP_NET_ADMIN)
            .map_err(|_| io::Error::from_raw_os_error(nix::libc::EPERM))
    };
    // SAFETY: the closure runs in the forked child before exec, where only async-signal-safe calls are allowed. It makes three
    // system calls (prctl, getppid, prctl) on copied integers, takes no lock, and allocates only if the last prctl fails;
    // PR_CAP_AMBIENT_LOWER of a valid capability does not fail on Linux 4.3 and later (kernel/capability: cap_task_prctl).
    unsafe {
        command.pre_exec(prepare);
    }
}
