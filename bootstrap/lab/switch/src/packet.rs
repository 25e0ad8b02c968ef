//! The virtio-vsock packet header.

use serde::{Deserialize, Serialize};
use tunnel::port::{Cid, Port};

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Address {
    /// The guest.
    pub cid: Cid,
    /// Its port.
    pub port: Port,
}

/// The operation of a packet (virtio 1.2, 5.10.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Request,
    Response,
    Reset,
    Shutdown,
    Data,
    CreditUpdate,
    CreditRequest,
}

/// How much the sender of a packet can receive on the connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Credit {
    /// Size of its receive buffer in bytes.
    pub(crate) buf_alloc: u32,
    /// Bytes that its application has taken out of the buffer since the connection began, modulo 2^32.
    pub(crate) fwd_cnt: u32,
}

/// The 44 bytes in front of every packet, all little endian (virtio 1.2, 5.10.6).
///
/// | offset | bytes | meaning                                                    |
/// |--------|-------|------------------------------------------------------------|
/// | 0      | 8     | source CID; the upper half is reserved and zero            |
/// | 8      | 8     | destination CID; likewise                                  |
/// | 16     | 4     | source port                                                |
/// | 20     | 4     | destination port                                           |
/// | 24     | 4     | payload length, at most [`Header::MAX_PAYLOAD`]            |
/// | 28     | 2     | socket type, 1 is a stream                                 |
/// | 30     | 2     | operation, see [`Operation`]                               |
/// | 32     | 4     | flags of the operation                                     |
/// | 36     | 4     | see [`Credit::buf_alloc`]                                  |
/// | 40     | 4     | see [`Credit::fwd_cnt`]                                    |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) source: Address,
    pub(crate) destination: Address,
    pub(crate) payload_len: usize,
    pub(crate) socket_type: u16,
    pub(crate) operation: Operation,
    pub(crate) flags: u32,
    pub(crate) credit: Credit,
}

/// Why 44 bytes are not a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeaderError {
    /// The upper half of a CID is in use.
    #[error("CID {0:#x} does not fit 32 bits")]
    WideCid(u64),
    /// No such operation.
    #[error("operation {0} does not exist")]
    UnknownOperation(u16),
    /// More payload than a packet may carry.
    #[error("payload of {0} bytes is longer than {max}", max = Header::MAX_PAYLOAD)]
    TooLong(usize),
    /// Only data packets carry payload.
    #[error("{0:?} packet has payload")]
    UnexpectedPayload(Operation),
}

impl Header {
    /// Length of a header.
    pub(crate) const LEN: usize = 44;
    /// The most that Linux puts into one packet (`VIRTIO_VSOCK_MAX_PKT_BUF_SIZE`).
    pub(crate) const MAX_PAYLOAD: usize = 64 * 1024;
    /// The socket type of a stream.
    pub(crate) const STREAM: u16 = 1;

    /// Reads a header.
    pub(crate) fn decode(bytes: &[u8; Self::LEN]) -> Result<Self, HeaderError> {
        let mut fields = Fields(bytes);
        let source_cid = narrow(u64::from_le_bytes(fields.take()))?;
        let destination_cid = narrow(u64::from_le_bytes(fields.take()))?;
        let source_port = Port(u32::from_le_bytes(fields.take()));
        let destination_port = Port(u32::from_le_bytes(fields.take()));
        let payload_len = u32::from_le_bytes(fields.take()) as usize;
        let socket_type = u16::from_le_bytes(fields.take());
        let operation = Operation::from_wire(u16::from_le_bytes(fields.take()))?;
        let flags = u32::from_le_bytes(fields.take());
        let buf_alloc = u32::from_le_bytes(fields.take());
        let fwd_cnt = u32::from_le_bytes(fields.take());
        if payload_len > Self::MAX_PAYLOAD {
            return Err(HeaderError::TooLong(payload_len));
        }
        if payload_len > 0 && operation != Operation::Data {
            return Err(HeaderError::UnexpectedPayload(operation));
        }
        Ok(Self {
            source: Address { cid: source_cid, port: source_port },
            destination: Address { cid: destination_cid, port: destination_port },
            payload_len,
            socket_type,
            operation,
            flags,
            credit: Credit { buf_alloc, fwd_cnt },
        })
    }

    /// Writes the header.
    pub(crate) fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let mut fields = FieldsMut(&mut bytes);
        fields.put(u64::from(self.source.cid.0).to_le_bytes());
        fields.put(u64::from(self.destination.cid.0).to_le_bytes());
        fields.put(self.source.port.0.to_le_bytes());
        fields.put(self.destination.port.0.to_le_bytes());
        let payload_len = u32::try_from(self.payload_len).expect("at most MAX_PAYLOAD: decoded, or a piece of that");
        fields.put(payload_len.to_le_bytes());
        fields.put(self.socket_type.to_le_bytes());
        fields.put(self.operation.to_wire().to_le_bytes());
        fields.put(self.flags.to_le_bytes());
        fields.put(self.credit.buf_alloc.to_le_bytes());
        fields.put(self.credit.fwd_cnt.to_le_bytes());
        bytes
    }

    /// The header of a piece of this packet. The credit is the same in each: it is a state, not an increment.
    pub(crate) fn piece(&self, payload_len: usize) -> Self {
        Self { payload_len, ..*self }
    }

    /// A reset of the connection between these two ends, as if `source` had sent it.
    pub(crate) fn reset(source: Address, destination: Address, socket_type: u16) -> Self {
        Self {
            source,
            destination,
            payload_len: 0,
            socket_type,
            operation: Operation::Reset,
            flags: 0,
            credit: Credit::default(),
        }
    }
}

impl Operation {
    fn from_wire(number: u16) -> Result<Self, HeaderError> {
        Ok(match number {
            1 => Self::Request,
            2 => Self::Response,
            3 => Self::Reset,
            4 => Self::Shutdown,
            5 => Self::Data,
            6 => Self::CreditUpdate,
            7 => Self::CreditRequest,
            _ => return Err(HeaderError::UnknownOperation(number)),
        })
    }

    fn to_wire(self) -> u16 {
        match self {
            Self::Request => 1,
            Self::Response => 2,
            Self::Reset => 3,
            Self::Shutdown => 4,
            Self::Data => 5,
            Self::CreditUpdate => 6,
            Self::CreditRequest => 7,
        }
    }
}

fn narrow(cid: u64) -> Result<Cid, HeaderError> {
    match u32::try_from(cid) {
        Ok(narrow) => Ok(Cid(narrow)),
        Err(_) => Err(HeaderError::WideCid(cid)),
    }
}

/// The rest of a header to read.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self.0.split_first_chunk().expect("the fields add up to Header::LEN");
        self.0 = rest;
        *field
    }
}

/// The rest of a header to write.
struct FieldsMut<'a>(&'a mut [u8]);

impl FieldsMut<'_> {
    fn put<const N: usize>(&mut self, value: [u8; N]) {
        let (field, rest) =
            std::mem::take(&mut self.0).split_first_chunk_mut().expect("the fields add up to Header::LEN");
        *field = value;
        self.0 = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: [u8; Header::LEN] = [
        16, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, // CIDs
        0x78, 0x56, 0x34, 0x12, 0x34, 0x03, 0, 0, // ports
        0x00, 0x7d, 0, 0, 1, 0, 5, 0, // 32,000 bytes, stream, data
        2, 0, 0, 0, 0, 0, 4, 0, 0x0d, 0x0c, 0x0b, 0x0a, // flags, credit
    ];

    fn header() -> Header {
        Header {
            source: Address { cid: Cid(16), port: Port(0x1234_5678) },
            destination: Address { cid: Cid(3), port: Port(820) },
            payload_len: 32_000,
            socket_type: Header::STREAM,
            operation: Operation::Data,
            flags: 2,
            credit: Credit { buf_alloc: 262_144, fwd_cnt: 0x0a0b_0c0d },
        }
    }

    fn golden_with(offset: usize, value: u8) -> [u8; Header::LEN] {
        let mut bytes = GOLDEN;
        bytes[offset] = value;
        bytes
    }

    #[test]
    fn a_header_is_read_as_virtio_lays_it_out() {
        assert_eq!(Header::decode(&GOLDEN), Ok(header()));
    }

    #[test]
    fn a_header_is_written_as_virtio_lays_it_out() {
        assert_eq!(header().encode(), GOLDEN);
    }

    #[test]
    fn every_operation_survives_the_wire() {
        for number in 1..=7 {
            let bytes = golden_with(30, number);
            let mut bytes = bytes;
            bytes[24..28].fill(0);
            assert_eq!(Header::decode(&bytes).unwrap().encode(), bytes);
        }
    }

    #[test]
    fn a_cid_that_needs_more_than_32_bits_is_refused() {
        assert_eq!(Header::decode(&golden_with(4, 1)), Err(HeaderError::WideCid(0x1_0000_0010)));
        assert_eq!(Header::decode(&golden_with(15, 1)), Err(HeaderError::WideCid(0x0100_0000_0000_0003)));
    }

    #[test]
    fn an_operation_that_does_not_exist_is_refused() {
        assert_eq!(Header::decode(&golden_with(30, 0)), Err(HeaderError::UnknownOperation(0)));
        assert_eq!(Header::decode(&golden_with(30, 8)), Err(HeaderError::UnknownOperation(8)));
    }

    #[test]
    fn a_length_over_64_kib_is_refused() {
        let mut bytes = golden_with(26, 1);
        bytes[24..26].fill(0);
        assert!(Header::decode(&bytes).is_ok());
        bytes[24] = 1;
        assert_eq!(Header::decode(&bytes), Err(HeaderError::TooLong(65_537)));
        bytes[24..28].fill(0xff);
        assert_eq!(Header::decode(&bytes), Err(HeaderError::TooLong(0xffff_ffff)));
    }

    #[test]
    fn payload_in_a_control_packet_is_refused() {
        assert_eq!(Header::decode(&golden_with(30, 1)), Err(HeaderError::UnexpectedPayload(Operation::Request)),);
    }
}
