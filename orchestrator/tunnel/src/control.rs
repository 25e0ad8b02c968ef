//! Control messages: how a gateway and an enclave exchange WireGuard keys, with an attestation document as proof.
//!
//! Each message is a [`Message`] behind its length, a big-endian `u16`. The gateway sends first. The stream stays open
//! as long as the enclave is a peer. The gateway may send a further [`Offer`] on it at any time. The end of the stream
//! means that the other side is gone.
//!
//! ```text
//! gateway                                   enclave
//!    | Offer: nonce, public key, addresses ->  |   makes new keys, has the NSM sign a document over them
//!    | <- Answer: keys, document               |
//!    |   verifies the document, adds the peer  |
//!    | Accepted: ciphertext,                   |
//!    |   or Refused with the reason ->         |   switches to the new keys and sends first
//! ```

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minicbor::{Decode, Encode};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::message::{self, Message, MessageError};

/// A Curve25519 public key, as WireGuard prints it: standard base64.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct PublicKey(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 32]);

/// An ML-KEM-768 encapsulation key (FIPS 203).
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct KemKey(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 1184]);

/// An ML-KEM-768 ciphertext (FIPS 203).
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct KemCiphertext(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 1088]);

/// The gateway's first message, sent again for each renewal of the keys.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Offer {
    /// Random and never used twice; the enclave's document binds it.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub nonce: [u8; 32],
    /// The gateway's WireGuard key.
    #[n(1)]
    pub public_key: PublicKey,
    /// The enclave's own address in the tunnel; the enclave refuses one outside of its measured networks.
    #[cbor(n(2), with = "address", has_nil)]
    pub ipv4: Option<Ipv4Addr>,
    /// As `ipv4`.
    #[cbor(n(3), with = "address", has_nil)]
    pub ipv6: Option<Ipv6Addr>,
}

/// What the enclave answers to an [`Offer`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Answer {
    /// The enclave's WireGuard key, made for this exchange.
    #[n(0)]
    pub public_key: PublicKey,
    /// What the gateway encapsulates the pre-shared key to, made for this exchange.
    #[n(1)]
    pub kem_key: KemKey,
    /// The NSM's attestation document: the offer's nonce, and the tunnel's binding of these keys, see the crate `binding`.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub document: Vec<u8>,
}

/// Messages from the gateway.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ToEnclave {
    /// Starts an exchange.
    #[n(0)]
    Offer(#[n(0)] Offer),
    /// The enclave is now a peer, with the pre-shared key that opens from this.
    #[n(1)]
    Accepted(#[n(0)] KemCiphertext),
    /// The enclave is not a peer, for the reason given.
    #[n(2)]
    Refused(#[n(0)] String),
}

/// Messages from the enclave.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ToGateway {
    /// The enclave's part of an exchange.
    #[n(0)]
    Answer(#[n(0)] Answer),
}

impl Message for ToEnclave {}
impl Message for ToGateway {}

/// Why a message could not be read or written.
#[derive(Debug, Error)]
pub enum ControlError {
    /// The peer closed the stream, between two messages.
    #[error("the peer closed the control stream")]
    Closed,
    /// The stream's own.
    #[error("the control stream")]
    Stream(#[from] io::Error),
    /// The message's own.
    #[error(transparent)]
    Message(#[from] MessageError),
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

/// Why text is not a public key.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PublicKeyError {
    /// Not standard base64.
    #[error("not base64")]
    Base64(#[from] base64::DecodeError),
    /// Another length.
    #[error("{0} bytes, expected 32")]
    Length(usize),
}

impl FromStr for PublicKey {
    type Err = PublicKeyError;

    fn from_str(text: &str) -> Result<Self, PublicKeyError> {
        let bytes = STANDARD.decode(text)?;
        bytes.try_into().map(Self).map_err(|bytes: Vec<u8>| PublicKeyError::Length(bytes.len()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for KemKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KemKey(..)")
    }
}

impl fmt::Debug for KemCiphertext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KemCiphertext(..)")
    }
}

/// Reads one message.
///
/// Not cancel safe: a future that is dropped may have taken a part of the message, and the stream is of no use then.
/// The caller sets the deadline.
///
/// # Errors
/// See [`ControlError`]; every one of them ends the stream.
pub async fn read<M: Message, R: AsyncRead + Unpin>(reader: &mut R) -> Result<M, ControlError> {
    let mut header = [0; 2];
    if reader.read(&mut header[..1]).await? == 0 {
        return Err(ControlError::Closed);
    }
    reader.read_exact(&mut header[1..]).await?;
    let len = usize::from(u16::from_be_bytes(header));
    message::check_len(len)?;
    let mut bytes = vec![0; len];
    reader.read_exact(&mut bytes).await?;
    Ok(message::decode(&bytes)?)
}

/// Writes one message, and flushes.
///
/// Not cancel safe, as [`read`].
///
/// # Errors
/// The stream's own, and a message over [`message::MAX_LEN`], of which nothing is written.
pub async fn write<M: Message, W: AsyncWrite + Unpin>(writer: &mut W, message: &M) -> Result<(), ControlError> {
    let message = message::encode(message)?;
    let len = u16::try_from(message.len()).expect("MAX_LEN fits into 16 bits");
    writer.write_all(&[&len.to_be_bytes(), &message[..]].concat()).await?;
    Ok(writer.flush().await?)
}

/// An address as its 4 or 16 bytes; none is null, or absent at the end.
mod address {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use minicbor::data::Type;
    use minicbor::decode::{self, Decoder};
    use minicbor::encode::{self, Encoder, Write};

    pub(super) trait Octets: Copy + Into<IpAddr> {
        fn from_octets(octets: &[u8]) -> Option<Self>;
    }

    impl Octets for Ipv4Addr {
        fn from_octets(octets: &[u8]) -> Option<Self> {
            <[u8; 4]>::try_from(octets).ok().map(Self::from)
        }
    }

    impl Octets for Ipv6Addr {
        fn from_octets(octets: &[u8]) -> Option<Self> {
            <[u8; 16]>::try_from(octets).ok().map(Self::from)
        }
    }

    pub(super) fn encode<C, A: Octets, W: Write>(
        address: &Option<A>,
        encoder: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        match (*address).map(Into::into) {
            Some(IpAddr::V4(v4)) => encoder.bytes(&v4.octets())?.ok(),
            Some(IpAddr::V6(v6)) => encoder.bytes(&v6.octets())?.ok(),
            None => encoder.null()?.ok(),
        }
    }

    pub(super) fn decode<C, A: Octets>(decoder: &mut Decoder<'_>, _: &mut C) -> Result<Option<A>, decode::Error> {
        if decoder.datatype()? == Type::Null {
            decoder.skip()?;
            return Ok(None);
        }
        let at = decoder.position();
        let wrong_length = || decode::Error::message("an IP address of another length").at(at);
        A::from_octets(decoder.bytes()?).ok_or_else(wrong_length).map(Some)
    }

    pub(super) fn is_nil<A>(address: &Option<A>) -> bool {
        address.is_none()
    }

    pub(super) fn nil<A>() -> Option<Option<A>> {
        Some(None)
    }
}

#[cfg(test)]
mod tests;
