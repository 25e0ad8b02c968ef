//! Finds which other program has port 53 of the gateway's addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket, sockopt,
};
use nix::unistd::{Uid, User};
use tokio::time::{Instant, sleep};

use super::probe::Transport;
use crate::sys;

const PORT: u16 = 53;
/// A named whose wg-server was killed releases the port within this time.
const RELEASE_DEADLINE: Duration = Duration::from_secs(3);

/// A process that has a port.
#[derive(Debug, PartialEq, Eq)]
struct Holder {
    transport: Transport,
    address: IpAddr,
    uid: u32,
    inode: u64,
}

/// Refuses if another program has port 53 of one of these addresses. The host need not have the addresses yet.
pub(super) async fn ensure_free(addresses: &[IpAddr]) -> Result<()> {
    let deadline = Instant::now() + RELEASE_DEADLINE;
    for address in addresses {
        for transport in [Transport::Udp, Transport::Tcp] {
            loop {
                match take(SocketAddr::new(*address, PORT), transport) {
                    Ok(()) => break,
                    Err(Errno::EADDRINUSE) if Instant::now() < deadline => sleep(Duration::from_millis(100)).await,
                    Err(Errno::EADDRINUSE) => bail!("{}", taken(*address, transport)),
                    Err(error) => {
                        return Err(error).with_context(|| format!("bind {transport} port {PORT} of {address}"));
                    }
                }
            }
        }
    }
    Ok(())
}

/// One sentence that names the program, and what to do.
pub(super) fn taken(address: IpAddr, transport: Transport) -> String {
    let holder = find(address, transport).map_or_else(|| "another program".to_owned(), |holder| holder.to_string());
    format!(
        "{holder} has {transport} port {PORT} of {address}, where named has to answer the enclaves; expected the port to be free: stop the program \
         (`systemctl disable --now named` for Debian's bind9), or make it listen on other addresses \
         (BIND: listen-on and listen-on-v6; dnsmasq: bind-interfaces; unbound: interface)"
    )
}

/// Binds the port and releases it. This fails if another program has it, since this socket does not share ports.
fn take(address: SocketAddr, transport: Transport) -> nix::Result<()> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let kind = match transport {
        Transport::Udp => SockType::Datagram,
        Transport::Tcp => SockType::Stream,
    };
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
    if address.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    sys::set_free_bind(socket.as_fd(), address.is_ipv6())?;
    if transport == Transport::Tcp {
        // Ignores connections of an earlier named in TIME_WAIT.
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    if transport == Transport::Tcp {
        listen(&socket, Backlog::new(1)?)?;
    }
    Ok(())
}

fn find(address: IpAddr, transport: Transport) -> Option<Holder> {
    let name = match transport {
        Transport::Udp => "udp",
        Transport::Tcp => "tcp",
    };
    ["", "6"].into_iter().find_map(|version| {
        let text = std::fs::read_to_string(format!("/proc/net/{name}{version}")).ok()?;
        holders(&text, transport).into_iter().find(|holder| holder.has(address))
    })
}

/// The sockets on port 53 in a file like /proc/net/udp (Documentation/networking/proc_net_tcp.rst).
fn holders(text: &str, transport: Transport) -> Vec<Holder> {
    text.lines().skip(1).filter_map(|line| holder(line, transport)).collect()
}

fn holder(line: &str, transport: Transport) -> Option<Holder> {
    const LISTENING: &str = "0A";
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [_, local, _, state, _, _, _, uid, _, inode, ..] = fields[..] else { return None };
    if transport == Transport::Tcp && state != LISTENING {
        return None;
    }
    let (address, port) = local.split_once(':')?;
    if u16::from_str_radix(port, 16).ok()? != PORT {
        return None;
    }
    Some(Holder { transport, address: parse(address)?, uid: uid.parse().ok()?, inode: inode.parse().ok()? })
}

/// 32-bit words in network order, each printed as a number in host order.
fn parse(address: &str) -> Option<IpAddr> {
    let words = address.as_bytes().chunks(8).map(|word| {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        Some(word.to_ne_bytes())
    });
    let octets = words.collect::<Option<Vec<[u8; 4]>>>()?.concat();
    if let Ok(octets) = <[u8; 4]>::try_from(octets.as_slice()) {
        return Some(Ipv4Addr::from(octets).into());
    }
    <[u8; 16]>::try_from(octets).ok().map(|octets| Ipv6Addr::from(octets).into())
}

impl Holder {
    fn has(&self, address: IpAddr) -> bool {
        self.address == address || self.address.is_unspecified()
    }

    /// The process, if this user may see it.
    fn process(&self) -> Option<String> {
        let socket = format!("socket:[{}]", self.inode);
        let processes = std::fs::read_dir("/proc").ok()?.flatten();
        processes.into_iter().find_map(|process| {
            let pid: u32 = process.file_name().to_str()?.parse().ok()?;
            let mut files = std::fs::read_dir(process.path().join("fd")).ok()?.flatten();
            files.find(|file| std::fs::read_link(file.path()).is_ok_and(|link| link.as_os_str() == socket.as_str()))?;
            let name = std::fs::read_to_string(process.path().join("comm")).ok()?;
            Some(format!("{} (process {pid})", name.trim()))
        })
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = User::from_uid(Uid::from_raw(self.uid)).ok().flatten();
        let user = user.map_or_else(|| format!("UID {}", self.uid), |user| user.name);
        match self.process() {
            Some(process) => write!(f, "{process} of the user {user}"),
            None => write!(f, "a process of the user {user}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UDP: &str = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  204: 017100CB:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000   102        0 4711 2 0000000000000000 0
  205: 00000000:0043 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4712 2 0000000000000000 0
";
    const TCP6: &str = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000000000000:0035 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 0000000000000000 100 0 0 10 0
   1: AC743BFD0000219D0000000001000000:0035 AC743BFD0000219D0000000002000000:9C40 01 00000000:00000000 00:00000000 00000000     0        0 4714 1 0000000000000000 100 0 0 10 0
";

    #[test]
    fn who_has_a_port_is_read_from_the_kernel_s_list() {
        let gateway: IpAddr = "203.0.113.1".parse().unwrap();
        let holder = Holder { transport: Transport::Udp, address: gateway, uid: 102, inode: 4711 };
        assert!(holder.has(gateway) && !holder.has("203.0.113.2".parse().unwrap()));
        assert_eq!(holders(UDP, Transport::Udp), [holder]);
        let any: IpAddr = "::".parse().unwrap();
        let holder = Holder { transport: Transport::Tcp, address: any, uid: 0, inode: 4713 };
        assert!(holder.has("fd3b:74ac:9d21::1".parse().unwrap()));
        assert_eq!(holders(TCP6, Transport::Tcp), [holder], "who listens, and no connections");
    }
}
