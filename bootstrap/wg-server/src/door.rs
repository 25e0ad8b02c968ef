//! The port that WireGuard's datagrams are sent to in place of its own: only the firewall's rules lead from it to wg0.
//!
//! Relays of this host send to a port of 127.0.0.1 that wg-server chose, and WireGuard listens on the configured one. Parents
//! elsewhere send to the configured one, and WireGuard listens on a port that wg-server chose.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use anyhow::{Context, Result};
use nix::sys::socket::{setsockopt, sockopt::RcvBuf};

/// Both of the ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Passage {
    /// Where datagrams are sent, and seem to come from.
    pub(crate) door: u16,
    /// Where WireGuard listens.
    pub(crate) wireguard: u16,
}

/// Held as long as it lives, so that no other program gets what was meant for wg0, or speaks in its place.
#[derive(Debug)]
pub(crate) struct Door {
    port: u16,
    /// Nobody reads it: what comes while the firewall is missing is lost, and that is what a door is for.
    _socket: UdpSocket,
}

impl Door {
    /// Takes a port of 127.0.0.1 that nobody has.
    pub(crate) fn hold() -> Result<Self> {
        let local = |port| UdpSocket::bind((Ipv4Addr::LOCALHOST, port));
        local(0).and_then(Self::new).context("hold a UDP port on 127.0.0.1 for the relays")
    }

    /// Takes this port of every address.
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

/// A port for WireGuard that nobody has at this moment, and not this one.
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
        let error = format!("{:#}", Door::hold_everywhere(port).unwrap_err());
        assert!(error.starts_with(&format!("wireguard.listen_port: hold UDP port {port}, expected ")), "{error}");
        drop(taken);
        let door = Door::hold_everywhere(port).unwrap();
        assert_eq!(door.port(), port);
        UdpSocket::bind(("127.0.0.1", port)).unwrap_err();
        assert_ne!(other_port(port).unwrap(), port);
    }
}
