//! The packets that the rules refused, as the kernel logs them over netlink (NFLOG).

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_netfilter::nflog::{ConfigCmd, ConfigMode, PacketNla, ULogMessage, config_request};
use netlink_packet_netfilter::{NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{AsyncSocket, AsyncSocketExt, TokioSocket};

use crate::destination::Port;
use crate::kernel::{BUFFER, parse, receive, serialize};
use crate::rules::LOG_GROUP;

/// What is copied of each packet: an IPv6 header and two ports.
const COPIED: u32 = 44;

/// Datagrams of the kernel that are read at a time: a process that floods would keep the reader for ever.
const MAX_DATAGRAMS: usize = 16;

/// A packet that a process may not send, or an enclave.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Refusal {
    /// The process, by the name in its rules: the prefix of the rule that logged the packet.
    pub process: String,
    /// The packet's source.
    pub from: IpAddr,
    protocol: u8,
    to: IpAddr,
    /// Of TCP and UDP.
    port: Option<u16>,
}

/// The stream of refused packets in the network namespace of the thread that opened it.
pub struct Refusals {
    socket: TokioSocket,
}

impl Refusals {
    /// Subscribes to the packets that [`Rules`](crate::Rules) refuse; needs a runtime.
    ///
    /// # Errors
    /// The socket's, or the kernel's answer.
    pub fn open() -> io::Result<Self> {
        Self::of_group(LOG_GROUP)
    }

    /// Subscribes to the packets that rules with `log group` send to this group; needs a runtime.
    ///
    /// # Errors
    /// As [`Refusals::open`]. A group has one subscriber.
    pub fn of_group(group: u16) -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
        socket.socket_mut().bind_auto()?;
        let commands = vec![ConfigCmd::Bind.into(), ConfigMode::new_packet(COPIED).into()];
        let request = serialize(config_request(NetfilterProtoFamily::Unspec, group, commands));
        socket.socket_ref().send(&request, 0)?;
        for answer in receive(socket.socket_ref())? {
            if let NetlinkPayload::Error(error) = answer.payload
                && error.code.is_some()
            {
                return Err(error.to_io());
            }
        }
        Ok(Self { socket })
    }

    /// Waits for refused packets, and returns those that are there, with their number. The kernel gathers them for up to a
    /// second, and drops those that do not fit into the socket's buffer. Cancel safe.
    ///
    /// # Errors
    /// The socket's.
    pub async fn next(&mut self) -> io::Result<HashMap<Refusal, u32>> {
        let mut datagram = Vec::with_capacity(BUFFER);
        loop {
            let mut messages = Vec::new();
            datagram.clear();
            match self.socket.recv(&mut datagram).await {
                Ok(()) => parse(&datagram, &mut messages)?,
                // The buffer was full (netlink(7)). What is in it follows.
                Err(error) if error.raw_os_error() == Some(ENOBUFS) => {}
                Err(error) => return Err(error),
            }
            self.drain(&mut messages)?;
            let mut refusals = HashMap::new();
            for refusal in messages.into_iter().filter_map(|message| refusal(message.payload)) {
                *refusals.entry(refusal).or_insert(0) += 1;
            }
            if !refusals.is_empty() {
                return Ok(refusals);
            }
        }
    }
}

impl Refusals {
    /// Reads what else is there, up to a limit.
    fn drain(&self, messages: &mut Vec<NetlinkMessage<NetfilterMessage>>) -> io::Result<()> {
        let mut datagram = Vec::with_capacity(BUFFER);
        for _ in 0..MAX_DATAGRAMS {
            datagram.clear();
            match self.socket.socket_ref().recv(&mut datagram, 0) {
                Ok(_) => parse(&datagram, messages)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.raw_os_error() == Some(ENOBUFS) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refusals").finish_non_exhaustive()
    }
}

/// errno(3), asm-generic/errno.h.
const ENOBUFS: i32 = 105;

fn refusal(payload: NetlinkPayload<NetfilterMessage>) -> Option<Refusal> {
    let NetlinkPayload::InnerMessage(NetfilterMessage {
        inner: NetfilterMessageInner::ULog(ULogMessage::Packet(attributes)),
        ..
    }) = payload
    else {
        return None;
    };
    let (mut process, mut packet) = (None, None);
    for attribute in attributes {
        if let PacketNla::Prefix(prefix) = attribute {
            process = prefix.into_string().ok();
        } else if let PacketNla::Payload(bytes) = attribute {
            packet = ends(&bytes);
        }
    }
    let Ends { from, protocol, to, port } = packet?;
    Some(Refusal { process: process?, from, protocol, to, port })
}

/// What is read of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ends {
    from: IpAddr,
    protocol: u8,
    to: IpAddr,
    port: Option<u16>,
}

/// Source, protocol, address and port of an IP packet (RFC 791, RFC 8200). The kernel made it, so its lengths are right, but
/// only its first bytes are here.
fn ends(packet: &[u8]) -> Option<Ends> {
    let version = packet.first()? >> 4;
    let v4 = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?).into());
    let v6 = |at: usize| Some(Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?).into());
    let (protocol, from, to, header) = match version {
        4 => (*packet.get(9)?, v4(12)?, v4(16)?, usize::from(packet.first()? & 15) * 4),
        6 => (*packet.get(6)?, v6(8)?, v6(24)?, 40),
        _ => return None,
    };
    let port = matches!(protocol, TCP | UDP).then(|| packet.get(header + 2..header + 4)).flatten();
    let port = port.map(|port| u16::from_be_bytes(port.try_into().expect("two bytes")));
    Some(Ends { from, protocol, to, port })
}

/// IP protocol numbers (IANA).
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

impl Refusal {
    /// Of a packet of this IP protocol. TCP and UDP have ports.
    #[must_use]
    pub fn new(process: &str, from: IpAddr, protocol: u8, to: IpAddr, port: Option<u16>) -> Self {
        Self { process: process.to_owned(), from, protocol, to, port }
    }

    /// Where the packet would have gone.
    #[must_use]
    pub fn to(&self) -> IpAddr {
        self.to
    }

    /// What a configuration would have to list to allow it, beside the address. `None`: no single port would.
    #[must_use]
    pub fn port(&self) -> Option<Port> {
        match (self.protocol, self.port) {
            (TCP, Some(port)) => Some(Port::Tcp(port)),
            (UDP, Some(port)) => Some(Port::Udp(port)),
            (ICMP | ICMPV6, _) => Some(Port::Ping),
            _ => None,
        }
    }
}

impl fmt::Display for Refusal {
    /// Protocol and destination.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol {
            ICMP => f.write_str("ICMP")?,
            TCP => f.write_str("TCP")?,
            UDP => f.write_str("UDP")?,
            ICMPV6 => f.write_str("ICMPv6")?,
            other => write!(f, "IP protocol {other}")?,
        }
        match self.port {
            Some(port) => write!(f, " to {}", SocketAddr::new(self.to, port)),
            None => write!(f, " to {}", self.to),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_refused_packet_is_told_by_protocol_and_destination() {
        let mut ipv4 = [0; 28];
        (ipv4[0], ipv4[9]) = (0x45, TCP);
        ipv4[12..16].copy_from_slice(&[203, 0, 113, 2]);
        ipv4[16..20].copy_from_slice(&[198, 51, 100, 7]);
        ipv4[22..24].copy_from_slice(&443_u16.to_be_bytes());
        let (from, to) = ([203, 0, 113, 2].into(), [198, 51, 100, 7].into());
        assert_eq!(ends(&ipv4), Some(Ends { from, protocol: TCP, to, port: Some(443) }));
        let mut ipv6 = [0; 44];
        (ipv6[0], ipv6[6], ipv6[23], ipv6[39]) = (0x60, 58, 2, 7);
        let to: IpAddr = "::7".parse().unwrap();
        assert_eq!(ends(&ipv6), Some(Ends { from: "::2".parse().unwrap(), protocol: ICMPV6, to, port: None }));
        let refusal = |protocol, to, port| Refusal { process: "hello".to_owned(), from, protocol, to, port };
        let text = |protocol, to, port| refusal(protocol, to, port).to_string();
        assert_eq!(text(TCP, [198, 51, 100, 7].into(), Some(443)), "TCP to 198.51.100.7:443");
        assert_eq!(text(58, to, None), "ICMPv6 to ::7");
        let ports = [(TCP, Some(443)), (UDP, Some(53)), (ICMP, None), (ICMPV6, None), (47, None)]
            .map(|(protocol, port)| refusal(protocol, to, port).port());
        assert_eq!(ports, [Some(Port::Tcp(443)), Some(Port::Udp(53)), Some(Port::Ping), Some(Port::Ping), None]);
    }

    proptest! {
        #[test]
        fn no_packet_makes_it_panic(packet: Vec<u8>) {
            let _ = ends(&packet);
        }
    }
}
