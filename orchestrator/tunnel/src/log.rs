//! The log stream: the enclave's console lines on their way to the parent's journal.
//!
//! | offset | bytes    | meaning                                                                   |
//! |--------|----------|---------------------------------------------------------------------------|
//! | 0      | 8        | [`HEADER`]: `EWGl`, the version of this format (1), three zeros           |
//! | 8      | any      | [`Line`]s, each a [`Message`] behind its length, a big-endian `u16`       |
//!
//! Only the enclave sends. A parent that does not read costs lines, and nothing else.

use std::time::Duration;

use minicbor::{Decode, Encode};
use thiserror::Error;

use crate::message::Message;

/// The first bytes of the stream.
pub const HEADER: [u8; 8] = *b"EWGl\x01\0\0\0";

/// The most bytes of one line's text.
pub const MAX_TEXT: usize = 2048;

/// A line of the console.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Line {
    /// How bad it is.
    #[n(0)]
    pub level: Level,
    /// Since the enclave's kernel started.
    #[cbor(n(1), with = "micros")]
    pub uptime: Duration,
    /// How many lines were lost before this one, since the line before.
    #[n(2)]
    pub lost: u64,
    /// Without its end, its time and its level; 0 to [`MAX_TEXT`] bytes.
    #[n(3)]
    pub text: String,
}

/// The priorities of syslog(3) that the enclave uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Level {
    /// Something does not work.
    #[n(3)]
    Error,
    /// Something may not work.
    #[n(4)]
    Warning,
    /// The normal course of things.
    #[n(6)]
    Info,
}

impl Message for Line {}

/// The peer is not an orchestrator, or one of another version.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("the log stream starts with {0:02x?}, expected {HEADER:02x?}: upgrade the older of enclave and parent")]
pub struct HeaderError([u8; 8]);

/// Checks the first bytes of a stream.
///
/// # Errors
/// Other bytes than [`HEADER`].
pub fn check(header: [u8; 8]) -> Result<(), HeaderError> {
    if header == HEADER { Ok(()) } else { Err(HeaderError(header)) }
}

/// Splits text into lines, and each line into pieces of at most [`MAX_TEXT`] bytes. Nothing is lost but the lines' ends.
pub fn pieces(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| {
        let mut rest = Some(line);
        std::iter::from_fn(move || {
            let (piece, behind) = cut(rest?);
            rest = (!behind.is_empty()).then_some(behind);
            Some(piece)
        })
    })
}

fn cut(line: &str) -> (&str, &str) {
    line.split_at(line.floor_char_boundary(MAX_TEXT))
}

/// A duration as its microseconds.
mod micros {
    use std::time::Duration;

    use minicbor::decode::{self, Decoder};
    use minicbor::encode::{self, Encoder, Write};

    pub(super) fn encode<C, W: Write>(
        duration: &Duration,
        encoder: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        // Half a million years.
        encoder.u64(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)).map(drop)
    }

    pub(super) fn decode<C>(decoder: &mut Decoder<'_>, _: &mut C) -> Result<Duration, decode::Error> {
        decoder.u64().map(Duration::from_micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{decode, encode};

    const GOLDEN: [u8; 15] = [0x84, 4, 0x1a, 0, 0x12, 0xd6, 0x87, 2, 0x66, b's', b'i', b'g', b'n', b'e', b'd'];

    fn line() -> Line {
        Line { level: Level::Warning, uptime: Duration::from_micros(1_234_567), lost: 2, text: "signed".into() }
    }

    #[test]
    fn a_line_has_these_bytes_and_these_bytes_are_the_line() {
        assert_eq!(encode(&line()).unwrap(), GOLDEN);
        assert_eq!(decode::<Line>(&GOLDEN).unwrap(), line());
    }

    #[test]
    fn another_level_and_bytes_behind_the_line_are_refused() {
        let with = |at: usize, byte| {
            let mut bytes = GOLDEN;
            bytes[at] = byte;
            decode::<Line>(&bytes).is_err()
        };
        assert!(with(1, 5) && with(0, 0x85));
        assert!(decode::<Line>(&[&GOLDEN[..], &[0]].concat()).is_err());
    }

    #[test]
    fn a_stream_of_another_version_is_refused_with_its_bytes() {
        assert_eq!(check(HEADER), Ok(()));
        let error = check(*b"EWGv\x01\x02\0\0").unwrap_err().to_string();
        assert!(
            error.starts_with("the log stream starts with [45, 57, 47, 76, 01, 02, 00, 00], expected ["),
            "{error}"
        );
    }

    #[test]
    fn text_is_cut_into_lines_and_long_lines_between_characters() {
        assert_eq!(pieces("one\n\ntwo\r\n").collect::<Vec<_>>(), ["one", "", "two"]);
        assert_eq!(pieces("").count(), 0);
        let long = format!("{}é{}", "x".repeat(MAX_TEXT - 1), "y".repeat(MAX_TEXT));
        let found: Vec<_> = pieces(&long).collect();
        assert_eq!(found.concat(), long);
        assert_eq!(found.iter().map(|piece| piece.len()).collect::<Vec<_>>(), [MAX_TEXT - 1, MAX_TEXT, 2]);
    }
}
