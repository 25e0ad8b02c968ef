//! The port of 127.0.0.1 that relays send to in place of WireGuard's: only the firewall's rules lead from it to wg0.

use std::net::{Ipv4Addr, UdpSocket};

use anyhow::{Context, Result};
use nix::sys::socket::{setsockopt, sockopt::RcvBuf};

/// Held as long as it lives, so that no other program gets what was meant for wg0, or speaks to the relays in its place.
#[derive(Debug)]
pub(crate) struct Door {
    port: u16,
    /// Nobody reads it: what comes while the firewall is missing is lost, and that is what a door is for.
    _socket: UdpSocket,
}

impl Door {
    /// Takes a port that nobody has.
    pub(crate) fn hold() -> Result<Self> {
        let doing = "hold a UDP port on 127.0.0.1 for the relays";
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context(doing)?;
        // As little as the kernel allows.
        setsockopt(&socket, RcvBuf, &0).context(doing)?;
        Ok(Self { port: socket.local_addr().context(doing)?.port(), _socket: socket })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}
