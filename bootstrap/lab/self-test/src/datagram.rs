//! The datagrams of a UDP test.

/// A datagram's header.
///
/// | offset | bytes | meaning                                          |
/// |--------|-------|--------------------------------------------------|
/// | 0      | 1     | [`Kind`]                                         |
/// | 1      | 8     | transfer, big endian: also the seed of its bytes |
/// | 9      | 4     | number of the datagram, big endian               |
/// | 13     | -     | payload                                          |
///
/// The server answers each datagram with one of the same transfer and number that is not longer, except for the 64
/// bytes that answer [`Kind::End`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) transfer: u64,
    pub(crate) number: u32,
}

/// What a datagram is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// 1: client's bytes; answered by as many of the server's.
    Data,
    /// 2: the server's bytes.
    DataAnswer,
    /// 3: the client has all answers; `number` is how many datagrams there were.
    End,
    /// 4: payload is SHA-256 of what the server sent, then of what it received.
    EndAnswer,
    /// 5: comes back as it is.
    Echo,
    /// 6: came back.
    EchoAnswer,
}

impl Header {
    pub(crate) const LEN: usize = 13;

    pub(crate) const fn encode(self) -> [u8; Self::LEN] {
        let kind = match self.kind {
            Kind::Data => 1,
            Kind::DataAnswer => 2,
            Kind::End => 3,
            Kind::EndAnswer => 4,
            Kind::Echo => 5,
            Kind::EchoAnswer => 6,
        };
        let [a, b, c, d, e, f, g, h] = self.transfer.to_be_bytes();
        let [w, x, y, z] = self.number.to_be_bytes();
        [kind, a, b, c, d, e, f, g, h, w, x, y, z]
    }

    /// The header and the payload after it; `None` if malformed.
    pub(crate) fn decode(datagram: &[u8]) -> Option<(Self, &[u8])> {
        let ([kind, a, b, c, d, e, f, g, h, w, x, y, z], payload) = datagram.split_first_chunk::<{ Self::LEN }>()?;
        let kind = match kind {
            1 => Kind::Data,
            2 => Kind::DataAnswer,
            3 => Kind::End,
            4 => Kind::EndAnswer,
            5 => Kind::Echo,
            6 => Kind::EchoAnswer,
            _ => return None,
        };
        let transfer = u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
        let number = u32::from_be_bytes([*w, *x, *y, *z]);
        Some((Self { kind, transfer, number }, payload))
    }

    /// The header followed by `payload`.
    pub(crate) fn with(self, payload: &[u8]) -> Vec<u8> {
        [&self.encode(), payload].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: [u8; 15] = [4, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 1, 2, 0xaa, 0xbb];
    const HEADER: Header = Header { kind: Kind::EndAnswer, transfer: 0x0102_0304_0506_0708, number: 0x0102 };

    #[test]
    fn a_datagram_has_these_bytes() {
        assert_eq!(HEADER.with(&[0xaa, 0xbb]), GOLDEN);
    }

    #[test]
    fn these_bytes_are_a_datagram() {
        assert_eq!(Header::decode(&GOLDEN), Some((HEADER, &[0xaa, 0xbb][..])));
    }

    #[test]
    fn a_short_or_unknown_datagram_is_none() {
        assert_eq!(Header::decode(&GOLDEN[..12]), None);
        assert_eq!(Header::decode(&[7; 15]), None);
    }
}
