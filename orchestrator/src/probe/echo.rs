//! ICMP echo over a ping socket (icmp(7), net.ipv4.ping_group_range), which needs no privilege: the kernel sets the
//! identifier and the checksum, and hands over only the answers to our own requests.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, send};
use socket2::{Domain, Protocol, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

use super::Reply;
use crate::sys;

/// Header and payload, as ping(8) sends them: 64 bytes.
const LEN: usize = 64;

/// One destination.
pub(super) struct Socket {
    socket: AsyncFd<OwnedFd>,
    address: IpAddr,
}

impl Socket {
    pub(super) fn open(address: IpAddr) -> io::Result<Self> {
        let (domain, protocol) = match address {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
        };
        let socket = socket2::Socket::new(domain, Type::DGRAM.nonblocking().cloexec(), Some(protocol))?;
        sys::report_ttl(&socket, address.is_ipv4())?;
        socket.connect(&SocketAddr::new(address, 0).into())?;
        Ok(Self { socket: sys::register(socket.into())?, address })
    }

    /// Sends one request, and waits for its reply until `deadline`; none: there was no reply.
    pub(super) async fn ping(&self, sequence: u16, deadline: Duration) -> io::Result<Option<Reply>> {
        let start = Instant::now();
        let request = request(self.address.is_ipv4(), sequence);
        self.socket
            .async_io(Interest::WRITABLE, |socket| Ok(send(socket.as_raw_fd(), &request, MsgFlags::MSG_DONTWAIT)?))
            .await?;
        match timeout(deadline, self.reply(sequence)).await {
            Ok(reply) => reply.map(|ttl| Some(Reply { sequence, bytes: LEN, ttl, time: start.elapsed() })),
            Err(_) => Ok(None),
        }
    }

    /// The TTL of the reply to `sequence`; late replies to earlier requests are passed over.
    async fn reply(&self, sequence: u16) -> io::Result<Option<u8>> {
        loop {
            let (answer, ttl) = self.socket.async_io(Interest::READABLE, receive).await?;
            if is_reply(self.address.is_ipv4(), sequence, answer) {
                return Ok(ttl);
            }
        }
    }
}

fn receive(socket: &OwnedFd) -> io::Result<([u8; 8], Option<u8>)> {
    let mut buffer = [0; LEN];
    let mut slices = [IoSliceMut::new(&mut buffer)];
    let mut control = nix::cmsg_space!(libc::c_int);
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut control), MsgFlags::MSG_DONTWAIT)?;
    let ttl = message.cmsgs()?.find_map(|message| {
        let (ControlMessageOwned::Ipv4Ttl(ttl) | ControlMessageOwned::Ipv6HopLimit(ttl)) = message else { return None };
        Some(u8::try_from(ttl).expect("a hop limit is one byte of the packet"))
    });
    let header = *buffer.first_chunk().expect("LEN is larger than a header");
    Ok((header, ttl))
}

/// Type, code, checksum and identifier (both the kernel's), sequence (RFC 792, RFC 4443 section 4.1), and a pattern.
fn request(is_ipv4: bool, sequence: u16) -> [u8; LEN] {
    let kind = if is_ipv4 { 8 } else { 128 };
    let [hi, lo] = sequence.to_be_bytes();
    let header = [kind, 0, 0, 0, 0, 0, hi, lo];
    let mut bytes = *b"wireguard in an enclave, one echo at a time; 56 bytes...--------";
    bytes.rotate_right(header.len());
    for (to, from) in bytes.iter_mut().zip(header) {
        *to = from;
    }
    bytes
}

fn is_reply(is_ipv4: bool, sequence: u16, [kind, code, _, _, _, _, hi, lo]: [u8; 8]) -> bool {
    let expected = if is_ipv4 { 0 } else { 129 };
    kind == expected && code == 0 && u16::from_be_bytes([hi, lo]) == sequence
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_these_bytes() {
        assert_eq!(&request(true, 0x0102)[..16], b"\x08\0\0\0\0\0\x01\x02wireguar");
        assert_eq!(request(false, 1)[0], 128);
    }

    #[test]
    fn only_the_reply_to_this_request_is_one() {
        assert!(is_reply(true, 0x0102, [0, 0, 9, 9, 9, 9, 1, 2]));
        assert!(is_reply(false, 0x0102, [129, 0, 9, 9, 9, 9, 1, 2]));
        assert!(!is_reply(true, 0x0102, [0, 0, 9, 9, 9, 9, 1, 1]), "another sequence number");
        assert!(!is_reply(true, 0x0102, [3, 0, 9, 9, 9, 9, 1, 2]), "destination unreachable");
        assert!(!is_reply(true, 0x0102, [0, 1, 9, 9, 9, 9, 1, 2]), "another code");
    }
}
