//! The sandbox of a service: any network program can run in it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use landlock::{AccessNet, CompatLevel, Compatible, NetPort, Ruleset, RulesetAttr, RulesetCreatedAttr};
use nix::sys::resource::Resource;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, SeccompRule, TargetArch};
use service::Service;

use super::{COMMON, FIONBIO, Filter, all, change_root, drop_rights, end_with_parent, has, is, lacks, set_limits};

const FILES: u64 = 1024;
const THREADS: u64 = 64;

/// Drops files, root's user, capabilities, ports, memory and system calls. Irreversible; then execute the program.
///
/// # Errors
/// The step that the kernel refused. The caller must then exit.
pub(crate) fn enter(service: &Service, root_dir: &Path) -> Result<()> {
    let filter = Filter(filter(service)?);
    set_limits(
        &service.name,
        [
            (Resource::RLIMIT_NOFILE, FILES),
            (Resource::RLIMIT_CORE, 0),
            (Resource::RLIMIT_FSIZE, 0),
            (Resource::RLIMIT_NPROC, THREADS),
        ],
    )?;
    change_root(root_dir)?;
    drop_rights(service.user)?;
    end_with_parent()?;
    bind_only(&service.listen).context("Landlock")?;
    // RLIMIT_DATA, not RLIMIT_AS: runtimes reserve far more address space than they use.
    set_limits(&service.name, [(Resource::RLIMIT_DATA, service.memory)])?;
    filter.apply()
}

/// Allows bind(2) only for these TCP ports. Landlock does not restrict UDP.
fn bind_only(ports: &[u16]) -> Result<()> {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessNet::BindTcp)?
        .create()?
        .add_rules(ports.iter().map(|port| Ok::<_, landlock::RulesetError>(NetPort::new(*port, AccessNet::BindTcp))))?
        .restrict_self()?;
    Ok(())
}

/// System calls of the Rust, Go and C runtimes at start and in a server: threads, read-only files, clocks, sockets.
const CALLS: &[libc::c_long] = &[
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_access,
    libc::SYS_arch_prctl,
    libc::SYS_bind,
    libc::SYS_clock_getres,
    libc::SYS_dup,
    libc::SYS_dup2,
    libc::SYS_dup3,
    libc::SYS_epoll_create,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    // Its root directory contains no other program, and no_new_privs is set.
    libc::SYS_execve,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fstat,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getppid,
    libc::SYS_getrlimit,
    libc::SYS_getrusage,
    libc::SYS_gettimeofday,
    libc::SYS_getuid,
    libc::SYS_listen,
    libc::SYS_lseek,
    libc::SYS_lstat,
    libc::SYS_membarrier,
    libc::SYS_nanosleep,
    libc::SYS_newfstatat,
    libc::SYS_pipe,
    libc::SYS_pipe2,
    libc::SYS_pread64,
    libc::SYS_prlimit64,
    libc::SYS_pselect6,
    libc::SYS_readlink,
    libc::SYS_readlinkat,
    libc::SYS_rseq,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sched_getaffinity,
    libc::SYS_select,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_setitimer,
    libc::SYS_stat,
    libc::SYS_statx,
    libc::SYS_sysinfo,
    libc::SYS_time,
    libc::SYS_timer_create,
    libc::SYS_timer_delete,
    libc::SYS_timer_settime,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_tkill,
    libc::SYS_uname,
];

/// Other system calls fail with ENOSYS, so that a runtime which tries a newer call first falls back to an older one.
fn filter(service: &Service) -> Result<BpfProgram> {
    let families: &[libc::c_int] = match service.vsock {
        true => &[libc::AF_INET, libc::AF_INET6, libc::AF_VSOCK],
        false => &[libc::AF_INET, libc::AF_INET6],
    };
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        COMMON.iter().chain(CALLS).map(|call| (*call, Vec::new())).collect();
    let sockets = families.iter().map(|family| all([is(0, *family)?])).collect::<Result<_>>()?;
    rules.extend([
        (libc::SYS_socket, sockets),
        (libc::SYS_socketpair, vec![all([is(0, libc::AF_UNIX)?])?]),
        // Never executable, and never shared: RLIMIT_DATA does not count shared memory.
        (libc::SYS_mmap, vec![all([lacks(2, libc::PROT_EXEC)?, lacks(3, libc::MAP_SHARED)?])?]),
        (libc::SYS_mprotect, vec![all([lacks(2, libc::PROT_EXEC)?])?]),
        (libc::SYS_openat, vec![all([lacks(2, libc::O_ACCMODE)?])?]),
        (libc::SYS_open, vec![all([lacks(1, libc::O_ACCMODE)?])?]),
        // Threads, but not processes: the memory limit is per process.
        (libc::SYS_clone, vec![all([has(0, libc::CLONE_THREAD)?])?]),
        (libc::SYS_ioctl, vec![all([is(1, FIONBIO)?])?]),
        (libc::SYS_prctl, vec![all([is(0, libc::PR_SET_NAME)?])?]),
    ]);
    let no_such_call = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
    let filter = SeccompFilter::new(rules, no_such_call, SeccompAction::Allow, TargetArch::x86_64);
    BpfProgram::try_from(filter.context("seccomp rules")?).context("seccomp program")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Applies a service's filter to this process.
    pub(in super::super) fn apply(vsock: bool) {
        let service = Service { vsock, ..Service::default() };
        nix::sys::prctl::set_no_new_privs().unwrap();
        Filter(filter(&service).unwrap()).apply().unwrap();
    }
}
