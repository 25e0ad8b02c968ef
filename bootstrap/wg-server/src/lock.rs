//! Locks that allow one wg-server at a time. They end with the process.
//!
//! One is a file in the runtime folder. The other is the name of an abstract socket (unix(7)), which belongs to the network
//! namespace, as do the nftables and sysctls that two wg-servers would both change, whatever their folders.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, socket, sockopt};

const NETWORK_NAME: &str = "wg-server";

/// Both locks, held for as long as this value lives.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: Flock<File>,
    /// Never accepts a connection.
    _network: UnixListener,
}

impl Lock {
    /// Takes the locks. The error names the process that holds one.
    pub(crate) fn take(runtime_dir: &Path) -> Result<Self> {
        Ok(Self { _file: lock_file(runtime_dir)?, _network: lock_network()? })
    }
}

fn lock_file(runtime_dir: &Path) -> Result<Flock<File>> {
    let path = runtime_dir.join("lock");
    let doing = || format!("lock {}", path.display());
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let file = file.with_context(doing)?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut file) => {
            file.set_len(0).and_then(|()| file.rewind()).with_context(doing)?;
            writeln!(file, "{}", std::process::id()).with_context(doing)?;
            Ok(file)
        }
        Err((file, Errno::EWOULDBLOCK)) => {
            let mut pid = String::new();
            (&file).take(32).read_to_string(&mut pid).with_context(doing)?;
            bail!("another wg-server runs, process {}: it holds {}", pid.trim(), path.display())
        }
        Err((_, errno)) => Err(errno).with_context(doing),
    }
}

fn lock_network() -> Result<UnixListener> {
    let doing = || format!("lock this network namespace by the abstract socket @{NETWORK_NAME}");
    let bound = SocketAddr::from_abstract_name(NETWORK_NAME).and_then(|address| UnixListener::bind_addr(&address));
    match bound {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            let (who, to_do) = match holder() {
                Ok((pid, uid)) => (format!("process {pid} of user {uid}"), format!("`kill {pid}`")),
                Err(error) => {
                    (format!("a process that is not visible from here ({error})"), "stop that one".to_owned())
                }
            };
            bail!(
                "another wg-server runs in this network namespace, {who}: it holds the abstract socket @{NETWORK_NAME}. Expected only one, because \
                 two would change the same nftables and sysctls: {to_do}, or run this one in its own network namespace"
            )
        }
        bound => bound.with_context(doing),
    }
}

/// The process and user that listen, from the kernel. Does not block: connecting does not wait for an accept.
fn holder() -> io::Result<(i32, u32)> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(socket.as_raw_fd(), &UnixAddr::new_abstract(NETWORK_NAME.as_bytes())?)?;
    let holder = getsockopt(&socket, sockopt::PeerCredentials)?;
    // Of another PID namespace (unix(7), SO_PEERCRED).
    if holder.pid() == 0 {
        return Err(io::Error::other("it is in another PID namespace"));
    }
    Ok((holder.pid(), holder.uid()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::alone;

    #[test]
    fn the_second_one_is_told_who_the_first_is_and_may_follow_it() {
        alone("lock::tests::inside_second");
    }

    #[test]
    #[ignore = "run by the test above in a network of its own"]
    fn inside_second() {
        let dir = tempfile::tempdir().unwrap();
        let first = Lock::take(dir.path()).unwrap();
        let refused = |dir: &Path| Lock::take(dir).unwrap_err().to_string();
        let error = refused(dir.path());
        assert!(error.starts_with(&format!("another wg-server runs, process {}", std::process::id())), "{error}");
        // With a folder of its own, it would take the firewall from the first.
        let other = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let error = refused(other.path());
            let (pid, uid) = (std::process::id(), nix::unistd::getuid());
            let expected = format!("another wg-server runs in this network namespace, process {pid} of user {uid}: ");
            assert!(error.starts_with(&expected) && error.contains(&format!("`kill {pid}`")), "{error}");
        }
        drop(first);
        Lock::take(other.path()).unwrap();
        Lock::take(dir.path()).unwrap();
    }
}
