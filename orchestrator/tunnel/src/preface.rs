//! The eight bytes that each side sends first on every stream.

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The version of everything in this crate that crosses the vsock; raised by any change that an older peer would misread.
pub const VERSION: u8 = 1;

const MAGIC: [u8; 4] = *b"EWGv";

/// What a stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Frames with one WireGuard datagram each.
    Data,
    /// Control messages.
    Control,
}

/// What each side sends first, before anything else, without waiting for the other's.
///
/// | offset | bytes | meaning                                                     |
/// |--------|-------|-------------------------------------------------------------|
/// | 0      | 4     | `EWGv`                                                      |
/// | 4      | 1     | [`VERSION`]                                                 |
/// | 5      | 1     | role: 1 data, 2 control                                     |
/// | 6      | 2     | stream number, big endian: 0 unless a peer uses several     |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preface {
    /// What follows.
    pub role: Role,
    /// Which of the peer's parallel streams of this role this is.
    pub stream: u16,
}

/// Why the first eight bytes of a stream were refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PrefaceError {
    /// Something else than this protocol is on the other side.
    #[error("the stream starts with {0:02x?}, not with {MAGIC:02x?}: the peer is not an orchestrator or wg-server")]
    Magic([u8; 4]),
    /// The other side is older or newer.
    #[error("the peer speaks version {0}, this side speaks {VERSION}: upgrade the older of the two")]
    Version(u8),
    /// A role that this version does not have.
    #[error("unknown stream role {0}, expected 1 (data) or 2 (control)")]
    Role(u8),
    /// A valid preface, but not for this port.
    #[error("expected a stream of role {expected:?}, the peer says {actual:?}")]
    UnexpectedRole {
        /// What this port carries.
        expected: Role,
        /// What the peer announced.
        actual: Role,
    },
}

impl Preface {
    /// Bytes of a preface.
    pub const LEN: usize = 8;

    /// The preface of the first, usually only, stream of a role.
    pub const fn first(role: Role) -> Self {
        Self { role, stream: 0 }
    }

    /// The bytes to send.
    pub const fn encode(self) -> [u8; Self::LEN] {
        let [m0, m1, m2, m3] = MAGIC;
        let role = match self.role {
            Role::Data => 1,
            Role::Control => 2,
        };
        let [hi, lo] = self.stream.to_be_bytes();
        [m0, m1, m2, m3, VERSION, role, hi, lo]
    }

    /// Reads what the peer sent.
    ///
    /// # Errors
    /// Another magic, version or role than this side knows.
    pub fn decode([m0, m1, m2, m3, version, role, hi, lo]: [u8; Self::LEN]) -> Result<Self, PrefaceError> {
        let magic = [m0, m1, m2, m3];
        if magic != MAGIC {
            return Err(PrefaceError::Magic(magic));
        }
        if version != VERSION {
            return Err(PrefaceError::Version(version));
        }
        let role = match role {
            1 => Role::Data,
            2 => Role::Control,
            other => return Err(PrefaceError::Role(other)),
        };
        Ok(Self { role, stream: u16::from_be_bytes([hi, lo]) })
    }

    /// Sends ours and reads the peer's, which must be of the same role.
    ///
    /// The caller sets the deadline: a peer that never sends its preface keeps this future pending.
    ///
    /// # Errors
    /// The stream's own, and [`PrefaceError`] as [`std::io::ErrorKind::InvalidData`].
    pub async fn exchange<S>(self, stream: &mut S) -> std::io::Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        stream.write_all(&self.encode()).await?;
        stream.flush().await?;
        let mut bytes = [0; Self::LEN];
        stream.read_exact(&mut bytes).await?;
        let theirs = Self::decode(bytes).map_err(std::io::Error::other)?;
        if theirs.role != self.role {
            return Err(std::io::Error::other(PrefaceError::UnexpectedRole {
                expected: self.role,
                actual: theirs.role,
            }));
        }
        Ok(theirs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: [u8; 8] = [0x45, 0x57, 0x47, 0x76, 1, 2, 0x01, 0x02];

    #[test]
    fn a_preface_has_these_bytes() {
        assert_eq!(Preface { role: Role::Control, stream: 0x0102 }.encode(), GOLDEN);
    }

    #[test]
    fn these_bytes_are_a_preface() {
        assert_eq!(Preface::decode(GOLDEN), Ok(Preface { role: Role::Control, stream: 0x0102 }));
    }

    #[test]
    fn another_magic_version_or_role_is_refused_by_name() {
        let with = |at: usize, byte| {
            let mut bytes = GOLDEN;
            bytes[at] = byte;
            Preface::decode(bytes)
        };
        assert_eq!(with(0, 0), Err(PrefaceError::Magic([0, 0x57, 0x47, 0x76])));
        assert_eq!(with(4, 2), Err(PrefaceError::Version(2)));
        assert_eq!(with(5, 0), Err(PrefaceError::Role(0)));
    }

    #[tokio::test]
    async fn a_data_stream_on_the_control_port_is_refused() {
        let (mut ours, mut theirs) = tokio::io::duplex(64);
        let (a, _b) = tokio::join!(
            Preface::first(Role::Control).exchange(&mut ours),
            Preface::first(Role::Data).exchange(&mut theirs)
        );
        assert!(a.unwrap_err().to_string().contains("expected a stream of role Control, the peer says Data"));
    }
}
