//! The entry port: WireGuard's datagrams are sent to it in place of WireGuard's own port. Only the firewall's rules lead from it
//! to wg0.
//!
//! For relays on this host, wg-server chooses the entry port, on 127.0.0.1, and WireGuard listens on the configured port. For
//! parents elsewhere, the configured port is the entry port, and WireGuard listens on a port that wg-server chooses.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use anyhow::{Context, Result};
use nix::sys::socket::{setsockopt, sockopt::RcvBuf};

/// The two UDP ports of the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TunnelPorts {
    /// Peers send datagrams to this port and receive them from it.
    pub(crate) entry: u16,
    /// WireGuard listens on this port.
    pub(crate) wireguard: u16,
}

/// The port, bound for as long as this value lives, so that no other program receives what is meant for wg0 or sends in its name.
#[derive(Debug)]
pub(crate) struct EntryPort {
    port: u16,
    /// Nothing reads it. Datagrams that arrive while the firewall is missing are lost, which is the purpose of an entry port.
    _socket: UdpSocket,
}

impl EntryPort {
    /// Binds a free port of 127.0.0.1.
    pub(crate) fn hold() -> Result<Self> {
        let local = |port| UdpSocket::bind((Ipv4Addr::LOCALHOST, port));
        local(0).and_then(Self::new).context("hold a UDP port on 127.0.0.1 for the relays")
    }

    /// Binds this port of every address.
    pub(crate) fn hold_everywhere(port: u16) -> Result<Self> {
        everywhere(port).and_then(Self::new).with_context(|| {
            format!(
                "wireguard.listen_port: hold UDP port {port}, expected one that no other program has: `ss -ulpn sport = :{port}` \
                 shows who has it"
            )
        })
    }

    fn new(socket: UdpSocket) -> io::Result<Self> {
        // As little as the kernel allows.
        setsockopt(&socket, RcvBuf, &0)?;
        Ok(Self { port: socket.local_addr()?.port(), _socket: socket })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

/// Finds a port for WireGuard that is free at this moment and is not `than`.
pub(crate) fn other_port(than: u16) -> Result<u16> {
    loop {
        let free = everywhere(0).and_then(|socket| socket.local_addr());
        let port = free.context("look for a UDP port for WireGuard")?.port();
        if port != than {
            return Ok(port);
        }
    }
}

fn everywhere(port: u16) -> io::Result<UdpSocket> {
    let both = UdpSocket::bind((IpAddr::from(Ipv6Addr::UNSPECIFIED), port));
    match both {
        // A host without IPv6.
        Err(error)
            if error.kind() == ErrorKind::Unsupported || error.raw_os_error() == Some(nix::libc::EAFNOSUPPORT) =>
        {
            UdpSocket::bind((IpAddr::from(Ipv4Addr::UNSPECIFIED), port))
        }
        Err(error) => Err(error),
        Ok(socket) => Ok(socket),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_somebody_else_has_is_named_with_its_key() {
        let taken = UdpSocket::bind("0.0.0.0:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = format!("{:#}", EntryPort::hold_everywhere(port).unwrap_err());
        assert!(error.starts_with(&format!("wireguard.listen_port: hold UDP port {port}, expected ")), "{error}");
        drop(taken);
        let entry_port = EntryPort::hold_everywhere(port).unwrap();
        assert_eq!(entry_port.port(), port);
        UdpSocket::bind(("127.0.0.1", port)).unwrap_err();
        assert_ne!(other_port(port).unwrap(), port);
    }
}
