//! The eight bytes that each side sends first on every stream.

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The version of everything in this crate that crosses the vsock; raised by any change that an older peer would
/// misread.
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
/// | offset | bytes | meaning                 |
/// |--------|-------|-------------------------|
/// | 0      | 4     | `EWGv`                  |
/// | 4      | 1     | [`VERSION`]             |
/// | 5      | 1     | role: 1 data, 2 control |
/// | 6      | 2     | zero                    |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preface {
    /// What the stream carries after the preface.
    pub role: Role,
}

/// Why the first eight bytes of a stream were refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PrefaceError {
    /// The other side does not speak this protocol.
    #[error("the stream starts with {0:02x?}, not with {MAGIC:02x?}: the peer is not an orchestrator or wg-server")]
    Magic([u8; 4]),
    /// The other side is older or newer.
    #[error("the peer speaks version {0}, this side speaks {VERSION}: upgrade the older of the two")]
    Version(u8),
    /// A role that this version does not have.
    #[error("unknown stream role {0}, expected 1 (data) or 2 (control)")]
    Role(u8),
    /// Bytes that this version does not use.
    #[error("reserved bytes {0:02x?} in the preface, expected zeros")]
    Reserved([u8; 2]),
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

    /// The preface of a stream.
    pub const fn new(role: Role) -> Self {
        Self { role }
    }

    /// The bytes to send.
    pub const fn encode(self) -> [u8; Self::LEN] {
        let [m0, m1, m2, m3] = MAGIC;
        let role = match self.role {
            Role::Data => 1,
            Role::Control => 2,
        };
        [m0, m1, m2, m3, VERSION, role, 0, 0]
    }

    /// Reads what the peer sent.
    ///
    /// # Errors
    /// Another magic, version or role than this side knows, or reserved bytes that are not zero.
    pub fn decode([m0, m1, m2, m3, version, role, r0, r1]: [u8; Self::LEN]) -> Result<Self, PrefaceError> {
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
        if [r0, r1] != [0; 2] {
            return Err(PrefaceError::Reserved([r0, r1]));
        }
        Ok(Self { role })
    }

    /// Sends ours and reads the peer's, which must be of the same role.
    ///
    /// The caller sets the deadline: a peer that never sends its preface keeps this future pending.
    ///
    /// # Errors
    /// The stream's own, and [`PrefaceError`] as [`std::io::Error::other`].
    pub async fn exchange<S>(self, stream: &mut S) -> std::io::Result<()>
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
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: [u8; 8] = [0x45, 0x57, 0x47, 0x76, 1, 2, 0, 0];

    #[test]
    fn a_preface_has_these_bytes() {
        assert_eq!(Preface::new(Role::Control).encode(), GOLDEN);
    }

    #[test]
    fn these_bytes_are_a_preface() {
        assert_eq!(Preface::decode(GOLDEN), Ok(Preface::new(Role::Control)));
    }

    #[test]
    fn another_magic_version_or_role_and_reserved_bytes_are_refused_by_name() {
        let with = |at: usize, byte| {
            let mut bytes = GOLDEN;
            bytes[at] = byte;
            Preface::decode(bytes)
        };
        assert_eq!(with(0, 0), Err(PrefaceError::Magic([0, 0x57, 0x47, 0x76])));
        assert_eq!(with(4, 2), Err(PrefaceError::Version(2)));
        assert_eq!(with(5, 0), Err(PrefaceError::Role(0)));
        assert_eq!(with(6, 1), Err(PrefaceError::Reserved([1, 0])));
        assert_eq!(with(7, 1), Err(PrefaceError::Reserved([0, 1])));
    }

    #[tokio::test]
    async fn a_data_stream_on_the_control_port_is_refused() {
        let (mut ours, mut theirs) = tokio::io::duplex(64);
        let (a, _b) = tokio::join!(
            Preface::new(Role::Control).exchange(&mut ours),
            Preface::new(Role::Data).exchange(&mut theirs)
        );
        assert!(a.unwrap_err().to_string().contains("expected a stream of role Control, the peer says Data"));
    }
}
