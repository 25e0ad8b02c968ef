//! The eight bytes in front of a control stream that a parent carries to a remote gateway: which enclave the stream
//! comes from.
//!
//! The enclave's own bytes follow, from its preface on. The CID is only the parent's claim: the gateway
//! chooses the addresses by it, and the enclave's document has to name the same one.

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::port::Cid;

/// The version of this header alone; the stream behind it has its own.
pub const VERSION: u8 = 1;

const MAGIC: [u8; 3] = *b"EWv";

/// What a parent sends first to a remote gateway, without waiting for a reply.
///
/// | offset | bytes | meaning                       |
/// |--------|-------|-------------------------------|
/// | 0      | 3     | `EWv`                         |
/// | 3      | 1     | [`VERSION`]                   |
/// | 4      | 4     | the enclave's CID, big endian |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Via {
    /// The enclave on that parent.
    pub cid: Cid,
}

/// Why the first eight bytes of a connection were refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ViaError {
    /// The other side is not a parent.
    #[error("the connection starts with {0:02x?}, not with {MAGIC:02x?}: the peer is not `wg-server relay`")]
    Magic([u8; 3]),
    /// The other side is older or newer.
    #[error("the parent's header has version {0}, this side knows {VERSION}: upgrade the older of the two")]
    Version(u8),
}

impl Via {
    /// Bytes of a header.
    pub const LEN: usize = 8;

    /// The bytes to send.
    #[must_use]
    pub const fn encode(self) -> [u8; Self::LEN] {
        let [m0, m1, m2] = MAGIC;
        let [a, b, c, d] = self.cid.0.to_be_bytes();
        [m0, m1, m2, VERSION, a, b, c, d]
    }

    /// Reads what the parent sent.
    ///
    /// # Errors
    /// Another magic or version than this side knows.
    pub fn decode([m0, m1, m2, version, a, b, c, d]: [u8; Self::LEN]) -> Result<Self, ViaError> {
        let magic = [m0, m1, m2];
        if magic != MAGIC {
            return Err(ViaError::Magic(magic));
        }
        if version != VERSION {
            return Err(ViaError::Version(version));
        }
        Ok(Self { cid: Cid(u32::from_be_bytes([a, b, c, d])) })
    }

    /// Reads the header and not one byte more.
    ///
    /// The caller sets the deadline: a peer that never sends it keeps this future pending.
    ///
    /// # Errors
    /// The stream's own, and [`ViaError`] as [`std::io::Error::other`].
    pub async fn read<R: AsyncRead + Unpin>(reader: &mut R) -> std::io::Result<Self> {
        let mut bytes = [0; Self::LEN];
        reader.read_exact(&mut bytes).await?;
        Self::decode(bytes).map_err(std::io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: [u8; 8] = [0x45, 0x57, 0x76, 1, 0x01, 0x02, 0x03, 0x04];

    #[test]
    fn a_header_has_these_bytes() {
        assert_eq!(Via { cid: Cid(0x0102_0304) }.encode(), GOLDEN);
    }

    #[test]
    fn these_bytes_are_a_header() {
        assert_eq!(Via::decode(GOLDEN), Ok(Via { cid: Cid(0x0102_0304) }));
    }

    #[test]
    fn another_magic_or_version_is_refused_by_name() {
        let with = |at: usize, byte| {
            let mut bytes = GOLDEN;
            bytes[at] = byte;
            Via::decode(bytes)
        };
        assert_eq!(with(2, 0), Err(ViaError::Magic([0x45, 0x57, 0])));
        assert_eq!(with(3, 2), Err(ViaError::Version(2)));
    }

    #[test]
    fn an_enclave_that_connects_without_a_parent_in_between_is_refused() {
        let preface = crate::preface::Preface::new(crate::preface::Role::Control).encode();
        assert_eq!(Via::decode(preface), Err(ViaError::Magic(*b"EWG")));
    }

    #[tokio::test]
    async fn what_follows_the_header_is_left_for_the_next_reader() {
        let bytes = [&GOLDEN[..], b"rest"].concat();
        let mut reader = &bytes[..];
        assert_eq!(Via::read(&mut reader).await.unwrap(), Via { cid: Cid(0x0102_0304) });
        assert_eq!(reader, b"rest");
        let error = Via::read(&mut &GOLDEN[..7]).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
    }
}
