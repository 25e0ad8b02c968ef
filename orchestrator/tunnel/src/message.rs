//! The one encoding of every message: between gateway and enclave ([`crate::control`]), and between PID 1 and its
//! children ([`crate::internal`]).
//!
//! A message is a CBOR array (RFC 8949) of at most [`MAX_LEN`] bytes. Each message has exactly one encoding, the one
//! that [`encode`] writes. [`decode`] refuses all others: unknown or missing fields, indefinite lengths, numbers that
//! take more bytes than they need, and bytes after the message.

use minicbor::{Decode, Encode};
use thiserror::Error;

/// The longest message in bytes: an attestation document (at most 0x3000 bytes, the NSM driver's response limit) and
/// what goes with it.
pub const MAX_LEN: usize = 16_000;

/// A type that is sent as a whole message, and not only as part of one.
pub trait Message: Encode<()> + for<'b> Decode<'b, ()> {}

/// Why bytes are not a message, or a message cannot be sent.
#[derive(Debug, Error)]
pub enum MessageError {
    /// Longer than [`MAX_LEN`], or empty.
    #[error("a message of {0} bytes, expected 1 to {MAX_LEN}")]
    Length(usize),
    /// Not CBOR, or another message.
    #[error("a message of another shape")]
    Malformed(#[from] minicbor::decode::Error),
    /// The right values, but written in another way.
    #[error("a message of {0} bytes that is not in its one encoding: unknown fields, other lengths or trailing bytes")]
    Encoding(usize),
}

/// The bytes of a message.
///
/// # Errors
/// A message over [`MAX_LEN`].
pub fn encode<M: Message>(message: &M) -> Result<Vec<u8>, MessageError> {
    let bytes = to_vec(message);
    check_len(bytes.len()).map(|()| bytes)
}

/// The message in `bytes`.
///
/// # Errors
/// Anything but the bytes that [`encode`] writes for exactly one message.
pub fn decode<M: Message>(bytes: &[u8]) -> Result<M, MessageError> {
    check_len(bytes.len())?;
    let message = minicbor::decode(bytes)?;
    // The decoder skips what it does not know, and takes a length in any form.
    if to_vec(&message) == bytes { Ok(message) } else { Err(MessageError::Encoding(bytes.len())) }
}

/// Checks a length before anything is allocated for it.
pub(crate) fn check_len(len: usize) -> Result<(), MessageError> {
    if (1..=MAX_LEN).contains(&len) { Ok(()) } else { Err(MessageError::Length(len)) }
}

fn to_vec<M: Message>(message: &M) -> Vec<u8> {
    minicbor::to_vec(message).expect("a Vec takes every byte, and no encoder here has errors of its own")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{KemCiphertext, ToEnclave};

    /// `[2, ["no"]]`
    const REFUSED: [u8; 6] = [0x82, 0x02, 0x81, 0x62, b'n', b'o'];

    fn is_of_another_encoding(bytes: &[u8]) -> bool {
        matches!(decode::<ToEnclave>(bytes), Err(MessageError::Encoding(len)) if len == bytes.len())
    }

    #[test]
    fn a_message_has_these_bytes_and_back() {
        let refused = ToEnclave::Refused("no".into());
        assert_eq!(encode(&refused).unwrap(), REFUSED);
        assert_eq!(decode::<ToEnclave>(&REFUSED).unwrap(), refused);
    }

    #[test]
    fn bytes_after_a_message_are_refused() {
        assert!(is_of_another_encoding(&[&REFUSED[..], &[0]].concat()));
    }

    #[test]
    fn a_field_that_no_version_has_is_refused() {
        assert!(is_of_another_encoding(&[0x82, 0x02, 0x82, 0x62, b'n', b'o', 0x00]), "[2, [\"no\", 0]]");
    }

    #[test]
    fn an_array_of_indefinite_length_is_refused() {
        assert!(is_of_another_encoding(&[0x82, 0x02, 0x9f, 0x62, b'n', b'o', 0xff]), "[2, [_ \"no\"]]");
    }

    #[test]
    fn a_length_that_takes_more_bytes_than_it_needs_is_refused() {
        assert!(is_of_another_encoding(&[0x82, 0x02, 0x81, 0x78, 0x02, b'n', b'o']));
        assert!(is_of_another_encoding(&[0x82, 0x18, 0x02, 0x81, 0x62, b'n', b'o']));
    }

    #[test]
    fn a_field_of_another_length_is_malformed() {
        for len in [0, 1087, 1089] {
            let mut bytes = vec![0x82, 0x01, 0x81, 0x59];
            bytes.extend(u16::try_from(len).unwrap().to_be_bytes());
            bytes.extend(vec![0x66; len]);
            let error = decode::<ToEnclave>(&bytes).unwrap_err();
            assert!(matches!(error, MessageError::Malformed(_)), "{len}: {error:?}");
        }
    }

    #[test]
    fn a_message_cut_anywhere_is_malformed() {
        let bytes = encode(&ToEnclave::Accepted(KemCiphertext([0x66; 1088]))).unwrap();
        for len in 1..bytes.len() {
            assert!(matches!(decode::<ToEnclave>(&bytes[..len]), Err(MessageError::Malformed(_))), "{len}");
        }
    }

    #[test]
    fn a_length_beyond_the_message_allocates_nothing() {
        // A text of 2^62 bytes.
        let error = decode::<ToEnclave>(&[0x82, 0x02, 0x81, 0x7b, 0x40, 0, 0, 0, 0, 0, 0, 0]).unwrap_err();
        assert!(matches!(error, MessageError::Malformed(_)), "{error:?}");
    }

    #[test]
    fn an_empty_or_oversized_message_is_neither_read_nor_sent() {
        assert!(matches!(decode::<ToEnclave>(&[]), Err(MessageError::Length(0))));
        let longest = ToEnclave::Refused("x".repeat(MAX_LEN - 6));
        let mut bytes = encode(&longest).unwrap();
        assert_eq!(bytes.len(), MAX_LEN);
        assert_eq!(decode::<ToEnclave>(&bytes).unwrap(), longest);
        bytes.push(0);
        assert!(matches!(decode::<ToEnclave>(&bytes), Err(MessageError::Length(len)) if len == MAX_LEN + 1));
        let too_long = ToEnclave::Refused("x".repeat(MAX_LEN - 5));
        assert!(matches!(encode(&too_long), Err(MessageError::Length(len)) if len == MAX_LEN + 1));
    }
}
