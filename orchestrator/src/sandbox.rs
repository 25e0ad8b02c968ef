//! The sandbox of PID 1's child processes: each drops what it does not need before it reads a byte from outside.

mod service;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use anyhow::{Context, Result};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, chdir, chroot, setgroups, setresgid, setresuid};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use crate::boot::EMPTY_DIR;
use crate::role::Role;
use crate::sys;

pub(crate) use service::enter as enter_service;

/// Limit of the address space. The relay's queues take a few MiB.
const MEMORY: u64 = 640 << 20;
/// The signer's part of it without its clients' connections: the program, the memories of nonces and windows, the key
/// cache, the connections to AWS, and the allocator's arena for the NSM's thread: 64 MiB, with an alignment of 64 MiB.
const SIGNER_MEMORY: u64 = 320 << 20;
const _: () = assert!(signer::service::MOST_MEMORY as u64 + SIGNER_MEMORY <= MEMORY, "clients could end the signer");
const FILES: u64 = 64;
/// The clients' connections, up to the service's limit, and those to AWS.
const SIGNER_FILES: u64 = 1024;
/// More connections than all services can open, so that none keeps the others' queries out.
const RESOLVER_FILES: u64 = 16 * 1024;

/// Drops files, root's user, capabilities, and every system call that is not on the role's list. Irreversible.
///
/// # Errors
/// The step that the kernel refused. The caller must then exit.
pub(crate) fn enter(role: Role) -> Result<()> {
    enter_with(role, |_filter| Ok(()))
}

/// The same with a second thread. `start` starts it after every step but the filter, which forbids new threads, and the
/// thread has to apply the filter itself.
///
/// # Errors
/// As above, and those of `start`.
pub(crate) fn enter_with<T>(role: Role, start: impl FnOnce(Filter) -> Result<T>) -> Result<T> {
    enter_at(role, Path::new(EMPTY_DIR), start)
}

/// A seccomp filter. It applies to one thread.
#[derive(Clone)]
pub(crate) struct Filter(BpfProgram);

impl Filter {
    /// Applies the filter to the calling thread.
    pub(crate) fn apply(&self) -> Result<()> {
        seccompiler::apply_filter(&self.0).context("seccomp filter")
    }
}

fn enter_at<T>(role: Role, root_dir: &Path, start: impl FnOnce(Filter) -> Result<T>) -> Result<T> {
    limit(role)?;
    change_root(root_dir)?;
    drop_rights(role.user())?;
    // After the change of user, which resets the flag (prctl(2)).
    prctl::set_dumpable(false).map_err(io::Error::from).context("forbid core dumps and ptrace")?;
    end_with_parent()?;
    let filter = Filter(filter(role)?);
    let started = start(filter.clone())?;
    filter.apply()?;
    Ok(started)
}

fn limit(role: Role) -> Result<()> {
    // The limit counts the user's threads: this one, and the signer's second one, which asks the NSM.
    let (files, tasks) = match role {
        Role::Relay | Role::Probe => (FILES, 1),
        Role::Resolver => (RESOLVER_FILES, 1),
        Role::Signer => (SIGNER_FILES, 2),
    };
    set_limits(
        role.name(),
        [
            (Resource::RLIMIT_NOFILE, files),
            (Resource::RLIMIT_AS, MEMORY),
            (Resource::RLIMIT_CORE, 0),
            (Resource::RLIMIT_FSIZE, 0),
            (Resource::RLIMIT_NPROC, tasks),
        ],
    )
}

fn set_limits<const N: usize>(of: &str, limits: [(Resource, u64); N]) -> Result<()> {
    limits.into_iter().try_for_each(|(resource, most)| {
        let result = setrlimit(resource, most, most).map_err(io::Error::from);
        result.with_context(|| format!("limit {resource:?} of the {of}"))
    })
}

fn change_root(root_dir: &Path) -> Result<()> {
    chroot(root_dir).map_err(io::Error::from).with_context(|| format!("chroot to {}", root_dir.display()))?;
    chdir("/").map_err(io::Error::from).context("chdir to the new root")
}

/// Has to follow the change of user, which clears the setting.
fn end_with_parent() -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(io::Error::from).context("end with the parent process")
}

/// The bounding set first, as that needs CAP_SETPCAP; then groups, group and user; then the remaining capabilities.
fn drop_rights(user: u32) -> Result<()> {
    sys::drop_bounding_set().context("empty the capability bounding set")?;
    setgroups(&[]).map_err(io::Error::from).context("leave all groups")?;
    let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
    setresgid(gid, gid, gid).map_err(io::Error::from).with_context(|| format!("become group {user}"))?;
    setresuid(uid, uid, uid).map_err(io::Error::from).with_context(|| format!("become user {user}"))?;
    sys::drop_capabilities().context("drop all capabilities")?;
    prctl::set_no_new_privs().map_err(io::Error::from).context("no new privileges")
}

/// System calls that every role needs: memory, clocks, waiting, and sockets that are already open.
const COMMON: &[libc::c_long] = &[
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_connect,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_wait,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_fcntl,
    libc::SYS_futex,
    libc::SYS_getpeername,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_gettid,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmmsg,
    libc::SYS_recvmsg,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_yield,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
    libc::SYS_write,
    libc::SYS_writev,
];

/// The socket families that a role may open.
const fn families(role: Role) -> &'static [libc::c_int] {
    match role {
        Role::Relay => &[libc::AF_VSOCK],
        Role::Resolver | Role::Probe | Role::Signer => &[libc::AF_INET, libc::AF_INET6],
    }
}

/// System calls that only this role needs.
const fn own(role: Role) -> &'static [libc::c_long] {
    match role {
        Role::Relay => &[],
        Role::Probe => &[libc::SYS_bind],
        Role::Resolver | Role::Signer => &[libc::SYS_accept4, libc::SYS_bind],
    }
}

/// A role's seccomp filter: any other system call kills the process.
fn filter(role: Role) -> Result<BpfProgram> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        COMMON.iter().chain(own(role)).map(|call| (*call, Vec::new())).collect();
    let sockets = families(role).iter().map(|family| all([is(0, *family)?])).collect::<Result<_>>()?;
    rules.insert(libc::SYS_socket, sockets);
    // No new memory is executable.
    let data = vec![all([lacks(2, libc::PROT_EXEC)?])?];
    rules.insert(libc::SYS_mmap, data.clone());
    rules.insert(libc::SYS_mprotect, data);
    let requests = if role == Role::Signer { &[FIONBIO, NSM_REQUEST][..] } else { &[FIONBIO] };
    let requests = requests.iter().map(|request| all([is(1, *request)?])).collect::<Result<_>>()?;
    rules.insert(libc::SYS_ioctl, requests);
    let filter = SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, TargetArch::x86_64);
    BpfProgram::try_from(filter.context("seccomp rules")?).context("seccomp program")
}

/// std makes a socket non-blocking with it.
const FIONBIO: libc::c_int = 0x5421;

/// NSM_IOCTL_RAW (include/uapi/linux/nsm.h): `_IOWR(0x0a, 0, struct nsm_raw)`, a structure of 32 bytes.
const NSM_REQUEST: libc::c_int = 0xc020_0a00_u32.cast_signed();

fn as_mask(bits: libc::c_int) -> u64 {
    u64::from(bits.cast_unsigned())
}

/// Allows a call whose arguments meet all conditions.
fn all<const N: usize>(conditions: [SeccompCondition; N]) -> Result<SeccompRule> {
    SeccompRule::new(conditions.into()).context("seccomp rule")
}

/// The argument is this value.
fn is(argument: u8, value: libc::c_int) -> Result<SeccompCondition> {
    condition(argument, SeccompCmpOp::Eq, value)
}

/// The argument has all of these bits.
fn has(argument: u8, bits: libc::c_int) -> Result<SeccompCondition> {
    condition(argument, SeccompCmpOp::MaskedEq(as_mask(bits)), bits)
}

/// The argument has none of these bits.
fn lacks(argument: u8, bits: libc::c_int) -> Result<SeccompCondition> {
    condition(argument, SeccompCmpOp::MaskedEq(as_mask(bits)), 0)
}

/// A condition on an argument's lower 32 bits: the kernel does not read the others of these arguments.
fn condition(argument: u8, operator: SeccompCmpOp, value: libc::c_int) -> Result<SeccompCondition> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, as_mask(value)).context("seccomp condition")
}

#[cfg(test)]
mod tests;
