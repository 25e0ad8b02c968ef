//! The messages between PID 1 and its relay and signer, over socket pairs that keep their boundaries.
//!
//! The relay reads what a hostile parent wrote, so PID 1 reads what the relay writes with the same distrust: fixed
//! layouts, exact lengths, nothing else.
//!
//! ```text
//! relay                                    PID 1
//!   | Offer: what the gateway said ->        |  checks it against the measured configuration, sets up wg0
//!   | <- Answer: keys, document; or Rejected |
//!   | Accepted: ciphertext; or Refused ->    |  on Accepted: wg0 has the new keys, and speaks
//!   | Data/Control stream up/down ->         |  for the console
//! ```

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use thiserror::Error;
use tokio::io::unix::AsyncFd;
use tunnel::control::{Answer, KemCiphertext, KemKey, Offer, PublicKey};

use crate::sys;

/// The longest message, either way: an answer with the largest attestation document (0x3000 bytes).
const MAX_LEN: usize = 1 + 32 + 1184 + 2 + 0x3000;

/// What the relay tells PID 1.
///
/// | offset | bytes | meaning                                                                          |
/// |--------|-------|----------------------------------------------------------------------------------|
/// | 0      | 1     | 1 offer, 2 accepted, 3 refused, 4/5 data stream up/down, 6/7 control stream up/down |
///
/// Accepted goes on with the 1088 bytes of the ciphertext. An offer goes on, and is 86 bytes long in all; the others end
/// here.
///
/// | offset | bytes | meaning                                            |
/// |--------|-------|----------------------------------------------------|
/// | 1      | 1     | 1: has an IPv4 address, 2: has an IPv6 address      |
/// | 2      | 32    | nonce                                              |
/// | 34     | 32    | the gateway's public key                           |
/// | 66     | 4     | IPv4 address, or zero                              |
/// | 70     | 16    | IPv6 address, or zero                              |
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ToInit {
    Offer(Offer),
    Accepted(KemCiphertext),
    Refused,
    Stream(Stream, State),
}

/// One of the relay's two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Data,
    Control,
}

/// What it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Up,
    Down,
}

/// What PID 1 tells the relay.
///
/// | offset | bytes | meaning                                                                        |
/// |--------|-------|--------------------------------------------------------------------------------|
/// | 0      | 1     | 1 answer, 2 rejected: the offer does not fit the measured configuration; ends here |
/// | 1      | 32    | wg0's next public key                                                          |
/// | 33     | 1184  | the KEM key                                                                    |
/// | 1217   | 2     | length of the attestation document, big endian                                 |
/// | 1219   |       | the document                                                                   |
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ToRelay {
    Answer(Box<Answer>),
    Rejected,
}

/// What the signer tells PID 1, once, when it is about to serve: SHA-256 of the SubjectPublicKeyInfo of its TLS key, 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FromSigner {
    pub(crate) tls_key: [u8; 32],
}

/// What PID 1 tells the signer, once, when the tunnel is up: one byte, 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ToSigner {
    Serve,
}

/// A message that breaks the layout; whoever sent it is broken.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("a message of {len} bytes that starts with {kind:?} breaks the layout")]
pub(crate) struct Malformed {
    len: usize,
    kind: Option<u8>,
}

/// What crosses the link.
pub(crate) trait Message: Sized {
    fn encode(&self) -> Vec<u8>;
    fn decode(bytes: &[u8]) -> Result<Self, Malformed>;
}

impl Message for ToInit {
    fn encode(&self) -> Vec<u8> {
        match self {
            Self::Offer(offer) => {
                let flags = u8::from(offer.ipv4.is_some()) | (u8::from(offer.ipv6.is_some()) << 1);
                let ipv4 = offer.ipv4.unwrap_or(Ipv4Addr::UNSPECIFIED).octets();
                let ipv6 = offer.ipv6.unwrap_or(Ipv6Addr::UNSPECIFIED).octets();
                [&[1, flags], &offer.nonce[..], &offer.public_key.0, &ipv4, &ipv6].concat()
            }
            Self::Accepted(KemCiphertext(ciphertext)) => [&[2], &ciphertext[..]].concat(),
            Self::Refused => vec![3],
            Self::Stream(Stream::Data, State::Up) => vec![4],
            Self::Stream(Stream::Data, State::Down) => vec![5],
            Self::Stream(Stream::Control, State::Up) => vec![6],
            Self::Stream(Stream::Control, State::Down) => vec![7],
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        Ok(match bytes {
            [1, rest @ ..] => return offer(rest).map(Self::Offer).ok_or_else(|| malformed(bytes)),
            [2, rest @ ..] => return accepted(rest).ok_or_else(|| malformed(bytes)),
            [3] => Self::Refused,
            [4] => Self::Stream(Stream::Data, State::Up),
            [5] => Self::Stream(Stream::Data, State::Down),
            [6] => Self::Stream(Stream::Control, State::Up),
            [7] => Self::Stream(Stream::Control, State::Down),
            _ => return Err(malformed(bytes)),
        })
    }
}

impl Message for ToRelay {
    fn encode(&self) -> Vec<u8> {
        match self {
            Self::Answer(answer) => {
                let Answer { public_key, kem_key, document } = answer.as_ref();
                let len = u16::try_from(document.len()).unwrap_or(u16::MAX).to_be_bytes();
                [&[1], &public_key.0[..], &kem_key.0, &len, document].concat()
            }
            Self::Rejected => vec![2],
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        match bytes {
            [1, rest @ ..] => answer(rest).ok_or_else(|| malformed(bytes)),
            [2] => Ok(Self::Rejected),
            _ => Err(malformed(bytes)),
        }
    }
}

impl Message for FromSigner {
    fn encode(&self) -> Vec<u8> {
        self.tls_key.to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        bytes.try_into().map(|tls_key| Self { tls_key }).map_err(|_| malformed(bytes))
    }
}

impl Message for ToSigner {
    fn encode(&self) -> Vec<u8> {
        match self {
            Self::Serve => vec![1],
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        match bytes {
            [1] => Ok(Self::Serve),
            _ => Err(malformed(bytes)),
        }
    }
}

fn malformed(bytes: &[u8]) -> Malformed {
    Malformed { len: bytes.len(), kind: bytes.first().copied() }
}

fn offer(bytes: &[u8]) -> Option<Offer> {
    let (&[flags], bytes) = bytes.split_first_chunk()?;
    let (nonce, bytes) = bytes.split_first_chunk()?;
    let (public_key, bytes) = bytes.split_first_chunk()?;
    let (ipv4, bytes) = bytes.split_first_chunk()?;
    let ipv6: &[u8; 16] = bytes.try_into().ok()?;
    (flags <= 3).then(|| Offer {
        nonce: *nonce,
        public_key: PublicKey(*public_key),
        ipv4: (flags & 1 != 0).then(|| Ipv4Addr::from_octets(*ipv4)),
        ipv6: (flags & 2 != 0).then(|| Ipv6Addr::from_octets(*ipv6)),
    })
}

fn accepted(bytes: &[u8]) -> Option<ToInit> {
    bytes.try_into().ok().map(|ciphertext| ToInit::Accepted(KemCiphertext(ciphertext)))
}

fn answer(bytes: &[u8]) -> Option<ToRelay> {
    let (public_key, bytes) = bytes.split_first_chunk()?;
    let (kem_key, bytes) = bytes.split_first_chunk()?;
    let (len, document) = bytes.split_first_chunk()?;
    let answer =
        || Answer { public_key: PublicKey(*public_key), kem_key: KemKey(*kem_key), document: document.to_vec() };
    (document.len() == usize::from(u16::from_be_bytes(*len))).then(|| ToRelay::Answer(Box::new(answer())))
}

/// One end of the link.
pub(crate) struct Link(AsyncFd<OwnedFd>);

/// Both ends, not yet attached to a runtime.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?)
}

impl Link {
    /// Takes an end of [`pair`]; needs a runtime.
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        sys::register(socket).map(Self)
    }

    /// The next message, or none when the other side has closed its end; cancel safe.
    ///
    /// # Errors
    /// The socket's own, and [`Malformed`].
    pub(crate) async fn receive<M: Message>(&self) -> io::Result<Option<M>> {
        let mut buffer = [0; MAX_LEN];
        // MSG_TRUNC: the message's own length, so that one that is too long is not taken for its beginning.
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
        let interest = tokio::io::Interest::READABLE;
        let len = self.0.async_io(interest, |socket| Ok(recv(socket.as_raw_fd(), &mut buffer, flags)?)).await?;
        match buffer.get(..len) {
            Some([]) => Ok(None),
            Some(bytes) => M::decode(bytes).map(Some).map_err(io::Error::other),
            None => Err(io::Error::other(Malformed { len, kind: buffer.first().copied() })),
        }
    }

    /// Sends a message; waits while the other side's queue is full. For PID 1's children: PID 1 itself waits for nobody.
    ///
    /// # Errors
    /// The socket's own.
    pub(crate) async fn send<M: Message>(&self, message: &M) -> io::Result<()> {
        let bytes = message.encode();
        let interest = tokio::io::Interest::WRITABLE;
        self.0.async_io(interest, |socket| put(socket, &bytes)).await
    }

    /// Sends a message now or not at all.
    ///
    /// # Errors
    /// `WouldBlock` when the other side's queue is full, and the socket's own.
    pub(crate) fn try_send<M: Message>(&self, message: &M) -> io::Result<()> {
        put(self.0.get_ref(), &message.encode())
    }
}

fn put(socket: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    // A message goes whole or not: these sockets keep boundaries.
    Ok(send(socket.as_raw_fd(), bytes, flags).map(drop)?)
}

#[cfg(test)]
mod tests;
