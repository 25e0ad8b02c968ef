//! The messages between the handshake and HTTP.
//!
//! | offset | bytes | meaning                                |
//! |--------|-------|----------------------------------------|
//! | 0      | 1     | the kind, see below                    |
//! | 1      | 1     | zero                                   |
//! | 2      | 2     | length of the body, big endian         |
//! | 4      | ...   | the body                               |
//!
//! | kind | message  | from    | bytes of the body | body                                               |
//! |------|----------|---------|-------------------|----------------------------------------------------|
//! | 1    | Nonce    | hub     | 32                | random, made for this connection                   |
//! | 2    | Document | enclave | 1 to 12,288       | an attestation document, COSE_Sign1                |
//! | 3    | Accepted | hub     | 0                 |                                                    |
//! | 4    | Refused  | hub     | 1 to 512          | the reason in UTF-8, without control characters    |
//!
//! A message has exactly one encoding. ALPN has the version, see [`crate::ALPN`].

use thiserror::Error;

/// A number that is used once, so that a document cannot be older than the connection.
pub type Nonce = [u8; 32];

/// The longest document in bytes: the NSM driver's limit for a response (drivers/misc/nsm.c, `NSM_RESPONSE_MAX_SIZE`).
pub const MAX_DOCUMENT: usize = 0x3000;

/// The longest reason in bytes.
pub const MAX_REASON: usize = 512;

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Asks the enclave for a document with this nonce.
    Nonce(Nonce),
    /// The enclave's proof.
    Document(Vec<u8>),
    /// The hub has verified the document. HTTP begins.
    Accepted,
    /// The hub does not accept the document, and closes the connection.
    Refused(String),
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// See [`Message::Nonce`].
    Nonce = 1,
    /// See [`Message::Document`].
    Document = 2,
    /// See [`Message::Accepted`].
    Accepted = 3,
    /// See [`Message::Refused`].
    Refused = 4,
}

/// The first four bytes of a message: they say how many follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    kind: Kind,
    len: u16,
}

/// Why bytes are not a message, or a message cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MessageError {
    /// No such kind.
    #[error("a message of kind {0}, expected 1 to 4")]
    Kind(u8),
    /// The second byte.
    #[error("a message with {0} in its second byte, expected zero")]
    Reserved(u8),
    /// A length that no message of this kind has.
    #[error("a {kind:?} message with {len} bytes, expected {least} to {most}")]
    Length {
        /// What it would be.
        kind: Kind,
        /// In bytes.
        len: usize,
        /// In bytes.
        least: usize,
        /// In bytes.
        most: usize,
    },
    /// The reason would not be one line of text.
    #[error("a reason that is not a line of text, expected UTF-8 without control characters")]
    Text,
}

impl Kind {
    fn of(byte: u8) -> Result<Self, MessageError> {
        [Self::Nonce, Self::Document, Self::Accepted, Self::Refused]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
            .ok_or(MessageError::Kind(byte))
    }

    /// The shortest and the longest body.
    const fn bounds(self) -> (usize, usize) {
        match self {
            Self::Nonce => (32, 32),
            Self::Document => (1, MAX_DOCUMENT),
            Self::Accepted => (0, 0),
            Self::Refused => (1, MAX_REASON),
        }
    }

    fn check_len(self, len: usize) -> Result<(), MessageError> {
        let (least, most) = self.bounds();
        let is_right = (least..=most).contains(&len);
        if is_right { Ok(()) } else { Err(MessageError::Length { kind: self, len, least, most }) }
    }
}

impl Header {
    /// Its length in bytes.
    pub const LEN: usize = 4;

    /// Reads a header. Nothing has to be allocated before.
    ///
    /// # Errors
    /// Another kind, a second byte that is not zero, or a length that this kind cannot have.
    pub fn decode([kind, reserved, high, low]: [u8; Self::LEN]) -> Result<Self, MessageError> {
        let kind = Kind::of(kind)?;
        if reserved != 0 {
            return Err(MessageError::Reserved(reserved));
        }
        let len = u16::from_be_bytes([high, low]);
        kind.check_len(len.into()).map(|()| Self { kind, len })
    }

    /// What follows.
    #[must_use]
    pub const fn kind(self) -> Kind {
        self.kind
    }

    /// How many bytes follow.
    #[must_use]
    pub fn body_len(self) -> usize {
        self.len.into()
    }
}

impl Message {
    /// A refusal for this reason, shortened and without what is not text.
    #[must_use]
    pub fn refusal(reason: &str) -> Self {
        let mut text = String::new();
        for character in reason.chars().filter(|character| !character.is_control()) {
            if text.len() + character.len_utf8() > MAX_REASON {
                break;
            }
            text.push(character);
        }
        if text.is_empty() { Self::Refused("no reason given".to_owned()) } else { Self::Refused(text) }
    }

    /// What it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Nonce(_) => Kind::Nonce,
            Self::Document(_) => Kind::Document,
            Self::Accepted => Kind::Accepted,
            Self::Refused(_) => Kind::Refused,
        }
    }

    /// Its bytes.
    ///
    /// # Errors
    /// A body of a length that its kind cannot have, or a reason that is not a line of text.
    pub fn encode(&self) -> Result<Vec<u8>, MessageError> {
        let body = match self {
            Self::Nonce(nonce) => nonce.as_slice(),
            Self::Document(document) => document,
            Self::Accepted => &[],
            Self::Refused(reason) => check_text(reason)?.as_bytes(),
        };
        let kind = self.kind();
        kind.check_len(body.len())?;
        let len = u16::try_from(body.len()).expect("no kind has a longer body");
        let [high, low] = len.to_be_bytes();
        Ok([&[kind as u8, 0, high, low], body].concat())
    }

    /// The message with this header and this body.
    ///
    /// # Errors
    /// A body of another length than the header's, or a reason that is not a line of text.
    pub fn decode(header: Header, body: Vec<u8>) -> Result<Self, MessageError> {
        let Header { kind, len } = header;
        let (least, most) = (usize::from(len), usize::from(len));
        let other_len = MessageError::Length { kind, len: body.len(), least, most };
        if body.len() != least {
            return Err(other_len);
        }
        Ok(match kind {
            Kind::Nonce => Self::Nonce(body.try_into().map_err(|_other| other_len)?),
            Kind::Document => Self::Document(body),
            Kind::Accepted => Self::Accepted,
            Kind::Refused => {
                let text = String::from_utf8(body).ok().ok_or(MessageError::Text)?;
                check_text(&text)?;
                Self::Refused(text)
            }
        })
    }
}

fn check_text(text: &str) -> Result<&str, MessageError> {
    if text.chars().any(char::is_control) { Err(MessageError::Text) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(bytes: &[u8]) -> Result<Message, MessageError> {
        let (header, body) = bytes.split_first_chunk().unwrap();
        Message::decode(Header::decode(*header)?, body.to_vec())
    }

    #[test]
    fn each_message_has_these_bytes_and_they_are_one() {
        for (message, bytes) in [
            (Message::Nonce([7; 32]), [&[1, 0, 0, 32], [7; 32].as_slice()].concat()),
            (Message::Document(vec![9; 300]), [&[2, 0, 1, 44], [9; 300].as_slice()].concat()),
            (Message::Accepted, vec![3, 0, 0, 0]),
            (Message::Refused("no".into()), vec![4, 0, 0, 2, b'n', b'o']),
        ] {
            assert_eq!(message.encode().unwrap(), bytes);
            assert_eq!(decode(&bytes), Ok(message));
        }
    }

    #[test]
    fn a_kind_that_no_version_has_is_refused() {
        for kind in [0, 5, b'H', 0xff] {
            assert_eq!(decode(&[kind, 0, 0, 0]), Err(MessageError::Kind(kind)));
        }
    }

    #[test]
    fn a_second_byte_that_is_not_zero_is_refused() {
        assert_eq!(decode(&[3, 1, 0, 0]), Err(MessageError::Reserved(1)));
    }

    #[test]
    fn a_length_that_its_kind_cannot_have_is_refused_by_the_header_alone() {
        for (header, kind, len, least, most) in [
            ([1, 0, 0, 31], Kind::Nonce, 31, 32, 32),
            ([1, 0, 0, 33], Kind::Nonce, 33, 32, 32),
            ([2, 0, 0, 0], Kind::Document, 0, 1, 12_288),
            ([2, 0, 0x30, 1], Kind::Document, 12_289, 1, 12_288),
            ([3, 0, 0, 1], Kind::Accepted, 1, 0, 0),
            ([4, 0, 0, 0], Kind::Refused, 0, 1, 512),
            ([4, 0, 2, 1], Kind::Refused, 513, 1, 512),
        ] {
            assert_eq!(Header::decode(header), Err(MessageError::Length { kind, len, least, most }));
        }
    }

    #[test]
    fn no_header_asks_for_more_than_the_longest_document() {
        for kind in 0..=5 {
            for len in 0..=u16::MAX {
                let [high, low] = len.to_be_bytes();
                let header = Header::decode([kind, 0, high, low]);
                assert!(header.is_err() || usize::from(len) <= MAX_DOCUMENT, "{kind} {len}");
            }
        }
    }

    #[test]
    fn a_body_of_another_length_than_the_headers_is_refused() {
        let header = Header::decode([4, 0, 0, 2]).unwrap();
        let error = MessageError::Length { kind: Kind::Refused, len: 3, least: 2, most: 2 };
        assert_eq!(Message::decode(header, b"yes".to_vec()), Err(error));
    }

    #[test]
    fn a_reason_that_would_write_more_than_one_line_is_neither_read_nor_sent() {
        for text in ["a\nb", "\u{1b}[31m", "\0"] {
            assert_eq!(Message::Refused(text.into()).encode(), Err(MessageError::Text), "{text:?}");
            let len = u8::try_from(text.len()).unwrap();
            assert_eq!(decode(&[&[4, 0, 0, len], text.as_bytes()].concat()), Err(MessageError::Text), "{text:?}");
        }
        assert_eq!(decode(&[4, 0, 0, 1, 0xff]), Err(MessageError::Text));
    }

    #[test]
    fn what_is_too_long_is_not_sent() {
        assert!(Message::Document(vec![0; MAX_DOCUMENT]).encode().is_ok());
        assert!(Message::Document(vec![0; MAX_DOCUMENT + 1]).encode().is_err());
        assert!(Message::Refused("x".repeat(MAX_REASON + 1)).encode().is_err());
    }

    #[test]
    fn any_reason_becomes_a_refusal_that_can_be_sent() {
        for reason in ["", "\n", "PCR2 is\nwrong", &"ü".repeat(300)] {
            assert!(Message::refusal(reason).encode().is_ok(), "{reason:?}");
        }
        assert_eq!(Message::refusal("a\nb"), Message::Refused("ab".into()));
    }
}
