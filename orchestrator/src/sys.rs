//! System calls that no safe library wraps. The only file of this crate with `unsafe`.
#![allow(unsafe_code, reason = "one wrapper per system call, each with its proof")]

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::ptr;
use std::time::Duration;

use tokio::io::unix::AsyncFd;

fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Fills `buffer` from the kernel's random number generator; blocks until it is seeded.
pub(crate) fn random(buffer: &mut [u8]) -> io::Result<()> {
    let mut rest = buffer;
    while !rest.is_empty() {
        // SAFETY: `rest` is writable for its length for the duration of the call.
        let written = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(written) {
            Ok(written) => rest = rest.get_mut(written..).expect("the kernel fills at most the buffer"),
            Err(_negative) if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            Err(_negative) => return Err(io::Error::last_os_error()),
        }
    }
    Ok(())
}

/// RNDADDENTROPY's argument (`struct rand_pool_info`, include/uapi/linux/random.h), with an array of 64 bytes.
#[repr(C)]
struct RandPoolInfo {
    entropy_count: libc::c_int,
    buf_size: libc::c_int,
    buf: [u8; 64],
}

/// Mixes 64 bytes into the kernel's random number generator and credits 512 bits.
///
/// RNDADDENTROPY, not write(2): a write mixes bytes in but credits none (drivers/char/random.c).
pub(crate) fn add_entropy(random: BorrowedFd<'_>, bytes: &[u8; 64]) -> io::Result<()> {
    /// `_IOW('R', 0x03, int [2])`
    const RNDADDENTROPY: libc::c_ulong = 0x4008_5203;
    let info = RandPoolInfo { entropy_count: 512, buf_size: 64, buf: *bytes };
    // SAFETY: the request reads `buf_size` bytes behind the two integers of a valid structure, which it has.
    check(unsafe { libc::ioctl(random.as_raw_fd(), RNDADDENTROPY, ptr::from_ref(&info)) })
}

/// The number of bytes that a terminal has not sent yet.
pub(crate) fn unsent(terminal: BorrowedFd<'_>) -> io::Result<libc::c_int> {
    let mut count: libc::c_int = 0;
    // SAFETY: TIOCOUTQ writes one int to a valid address.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCOUTQ, ptr::from_mut(&mut count)) })?;
    Ok(count)
}

/// Lets the runtime wait for a descriptor.
pub(crate) fn register(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open and refers to the same file for as long as the `AsyncFd` owns it.
    Ok(unsafe { AsyncFd::register(fd) }?)
}

/// Takes ownership of a file descriptor that this process inherited.
pub(crate) fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD has no side effects, and fails for a closed number.
    check(unsafe { libc::fcntl(number, libc::F_GETFD) })?;
    // SAFETY: the descriptor is open, and by the contract of `spawn` nothing else in this process owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Starts `command` in a network namespace. It inherits `descriptors` as numbers 3, 4, ...
pub(crate) fn spawn(
    command: &mut Command,
    namespace: Option<BorrowedFd<'_>>,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<Child> {
    // Above all targets, so that no dup2 overwrites a descriptor that a later one needs.
    let moved = descriptors.iter().map(|fd| duplicate_above(*fd, 64)).collect::<io::Result<Vec<_>>>()?;
    let namespace = namespace.map(|fd| duplicate_above(fd, 64)).transpose()?;
    let enter = move || {
        if let Some(namespace) = &namespace {
            // SAFETY: a valid descriptor; setns only changes the calling thread, the only one after fork.
            check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) })?;
        }
        for (target, fd) in (3..).zip(&moved) {
            // SAFETY: `fd` is open; the target may be overwritten, as every descriptor of PID 1 is close-on-exec.
            check(unsafe { libc::dup2(fd.as_raw_fd(), target) })?;
        }
        // SAFETY: the two sets are valid; signals that PID 1's threads blocked must not stay blocked in the child.
        unsafe {
            let mut none: libc::sigset_t = mem::zeroed();
            check(libc::sigemptyset(&raw mut none))?;
            check(libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut()))?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec `enter` only makes async-signal-safe calls and does not allocate.
    unsafe { command.pre_exec(enter) };
    command.spawn()
}

fn duplicate_above(fd: BorrowedFd<'_>, lowest: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC has no memory effects.
    let duplicate = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, lowest) };
    check(duplicate)?;
    // SAFETY: the call above returned a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(duplicate) })
}

/// Empties the capability bounding set, which execve(2) keeps.
pub(crate) fn drop_bounding_set() -> io::Result<()> {
    for capability in 0..64 {
        // SAFETY: PR_CAPBSET_DROP takes a number and has no memory effects.
        if let Err(error) = check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) }) {
            // EINVAL: the number is above the kernel's last capability (capabilities(7)).
            return if error.raw_os_error() == Some(libc::EINVAL) && capability > 0 { Ok(()) } else { Err(error) };
        }
    }
    Ok(())
}

/// Empties the effective, permitted and inheritable capability sets.
pub(crate) fn drop_capabilities() -> io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: libc::c_int,
    }
    /// _LINUX_CAPABILITY_VERSION_3
    const VERSION: u32 = 0x2008_0522;
    let header = Header { version: VERSION, pid: 0 };
    let none = [[0_u32; 3]; 2];
    // SAFETY: version 3 reads the header and two triples of 32-bit sets, which live until the call returns.
    let result = unsafe { libc::syscall(libc::SYS_capset, ptr::from_ref(&header), none.as_ptr()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Slews the wall clock by `offset`, forwards or backwards. It does not step.
pub(crate) fn slew_clock(offset: Duration, backwards: bool) -> io::Result<()> {
    // SAFETY: all-zero is a valid `timex`.
    let mut timex: libc::timex = unsafe { mem::zeroed() };
    timex.modes = libc::ADJ_OFFSET_SINGLESHOT;
    // The kernel refuses the largest value too.
    let micros = libc::c_long::try_from(offset.as_micros()).unwrap_or(libc::c_long::MAX);
    timex.offset = if backwards { -micros } else { micros };
    // SAFETY: a valid structure for the duration of the call. It returns the clock's state, or -1.
    check(unsafe { libc::adjtimex(&raw mut timex) })
}

/// Makes recvmsg(2) report the TTL of each IPv4 datagram, or the hop limit of each IPv6 datagram.
pub(crate) fn report_ttl(socket: impl AsFd, is_ipv4: bool) -> io::Result<()> {
    let (level, option) =
        if is_ipv4 { (libc::IPPROTO_IP, libc::IP_RECVTTL) } else { (libc::IPPROTO_IPV6, libc::IPV6_RECVHOPLIMIT) };
    let on: libc::c_int = 1;
    let len = libc::socklen_t::try_from(size_of_val(&on)).expect("an int has four bytes");
    // SAFETY: the option value is an int that lives until the call returns, and `len` is its size.
    check(unsafe { libc::setsockopt(socket.as_fd().as_raw_fd(), level, option, ptr::from_ref(&on).cast(), len) })
}

/// The machine's context id, or `u32::MAX` without a vsock device.
pub(crate) fn local_cid(vsock: impl AsFd) -> io::Result<u32> {
    /// `_IO(7, 0xb9)`
    const IOCTL_VM_SOCKETS_GET_LOCAL_CID: libc::c_ulong = 0x7b9;
    let mut cid: u32 = 0;
    // SAFETY: the request writes one unsigned int to a valid address.
    check(unsafe { libc::ioctl(vsock.as_fd().as_raw_fd(), IOCTL_VM_SOCKETS_GET_LOCAL_CID, ptr::from_mut(&mut cid)) })?;
    Ok(cid)
}
