//! What must happen between fork and exec, a socket option that no crate has, and waiting for a kind of socket that tokio does
//! not know.
#![allow(unsafe_code, reason = "calls without a safe wrapper; this file is their one address")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::libc;
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Pid, Uid};
use tokio::io::unix::AsyncFd;
use tokio::process::Command;

/// include/uapi/linux/capability.h
const CAP_NET_BIND_SERVICE: u32 = 10;
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct CapabilityData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// The child gets SIGTERM when the thread that starts it ends.
pub(crate) fn end_with_parent(command: &mut Command) {
    let parent = nix::unistd::getpid();
    // SAFETY: as in `confine`: two system calls on a copied integer, no lock, no allocation.
    unsafe {
        command.pre_exec(move || end_with(parent));
    }
}

fn end_with(parent: Pid) -> io::Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)?;
    // The parent may have died before the signal was set up. Then this child has another parent.
    if nix::unistd::getppid() != parent {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    Ok(())
}

/// The child runs as this user, in this group and no other, with CAP_NET_BIND_SERVICE and no other capability, and never gets
/// more. It gets SIGTERM when the thread that starts it ends.
///
/// To start it, CAP_SETUID, CAP_SETGID and CAP_NET_BIND_SERVICE are needed, and CAP_KILL for that SIGTERM to arrive.
pub(crate) fn confine(command: &mut Command, uid: Uid, gid: Gid) {
    let parent = nix::unistd::getpid();
    let prepare = move || {
        become_user(uid, gid)?;
        // After the change of user, which would take it back (kernel/cred.c, commit_creds).
        end_with(parent)
    };
    // SAFETY: the closure runs in the forked child before exec, where only async-signal-safe calls are allowed. It makes system
    // calls on copied integers and on structures of its own stack, takes no lock, and allocates nothing.
    unsafe {
        command.pre_exec(prepare);
    }
}

fn become_user(uid: Uid, gid: Gid) -> io::Result<()> {
    let (uid, gid) = (uid.as_raw(), gid.as_raw());
    let only_bind = CapabilityData {
        effective: 1 << CAP_NET_BIND_SERVICE,
        permitted: 1 << CAP_NET_BIND_SERVICE,
        inheritable: 1 << CAP_NET_BIND_SERVICE,
    };
    let none = CapabilityData { effective: 0, permitted: 0, inheritable: 0 };
    let (header, data) = (CapabilityHeader { version: CAPABILITY_VERSION_3, pid: 0 }, [only_bind, none]);
    // Root would lose every capability with its user ID; who is not root keeps them, and drops them below.
    nix::sys::prctl::set_keepcaps(true)?;
    // SAFETY: raw system calls that change this thread alone, which is all of the forked child. setgroups(2) with a length of 0
    // reads no memory; setresgid(2) and setresuid(2) take integers; capset(2) reads one header and, for version 3, two data
    // structures, which `header` and `data` are.
    unsafe {
        ok(libc::syscall(libc::SYS_setgroups, 0_usize, std::ptr::null::<libc::gid_t>()))?;
        ok(libc::syscall(libc::SYS_setresgid, gid, gid, gid))?;
        ok(libc::syscall(libc::SYS_setresuid, uid, uid, uid))?;
        ok(libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()))?;
        // What is ambient is still there after exec. Dropped capabilities are not ambient any more.
        let ambient = libc::PR_CAP_AMBIENT_RAISE;
        ok(libc::prctl(libc::PR_CAP_AMBIENT, ambient, libc::c_ulong::from(CAP_NET_BIND_SERVICE), 0, 0).into())?;
    }
    Ok(nix::sys::prctl::set_no_new_privs()?)
}

fn ok(returned: libc::c_long) -> io::Result<()> {
    if returned == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Lets a socket be bound to an address that this host does not have yet.
pub(crate) fn set_free_bind(socket: BorrowedFd<'_>, is_ipv6: bool) -> nix::Result<()> {
    let (level, option) =
        if is_ipv6 { (libc::SOL_IPV6, libc::IPV6_FREEBIND) } else { (libc::SOL_IP, libc::IP_FREEBIND) };
    let on: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of_val(&on)).expect("an int has four bytes");
    // SAFETY: setsockopt(2) reads `length` bytes at the pointer, which are those of `on`; the descriptor is open while borrowed.
    let returned = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const on).cast(), length) };
    nix::errno::Errno::result(returned).map(drop)
}

/// Has the runtime tell when there is something to read. The descriptor does not block.
pub(crate) fn watchable(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor must stay open and the same until the registration ends. An OwnedFd is closed only when it is
    // dropped, always gives the same number, and is owned by the AsyncFd, which ends the registration before it drops it.
    Ok(unsafe { AsyncFd::register(socket) }?)
}
