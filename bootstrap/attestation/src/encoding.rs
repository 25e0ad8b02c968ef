//! Decodes documents from hex, base64 or JSON. Decoding proves nothing; [`verify`](crate::verify) does.
//!
//! | encoding | source |
//! |---|---|
//! | raw bytes | the NSM |
//! | hex, with or without `0x` | logs, other projects' tools |
//! | base64 or base64url, padded or not, on one line or several | APIs, `base64`, other projects' tools |
//! | JSON: a string, or an object with one `document`, at any depth | the signer's `/attestation`, `wg-server status --json` |
//!
//! The encodings are unambiguous. A document starts with a byte that is not ASCII, JSON with a character that the
//! others do not have, and the base64 of a document with `0o` or `hE`, which is not hex.

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::Value;
use thiserror::Error;

use crate::printable::Printable;

/// First bytes of a COSE_Sign1: its tag, or its array of four (RFC 9052, section 4.2).
const STARTS: [u8; 2] = [0xd2, 0x84];
/// Some programs start UTF-8 with it.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

const EITHER_PADDING: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const BASE64: GeneralPurpose = GeneralPurpose::new(&STANDARD, EITHER_PADDING);
const BASE64URL: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, EITHER_PADDING);

/// Why input is not an encoded document.
#[derive(Debug, Error)]
pub enum EncodingError {
    /// Nothing, or white space.
    #[error("no input; expected {EXPECTED}")]
    Empty,
    /// Text in none of the encodings.
    #[error("neither hex ({hex}) nor base64 ({base64}) nor JSON; expected {EXPECTED}")]
    Text {
        /// Why it is not hex.
        hex: String,
        /// Why it is not base64.
        base64: String,
    },
    /// The encoding of something else.
    #[error(
        "read as {read_as}, the first byte is {first:#04x}, and a document starts with 0xd2 or 0x84; expected {EXPECTED}"
    )]
    Other {
        /// The encoding.
        read_as: &'static str,
        /// The first byte.
        first: u8,
    },
    /// It starts like JSON.
    #[error("not valid JSON; expected {EXPECTED}")]
    Json(#[from] serde_json::Error),
    /// Other JSON.
    #[error("JSON without a \"document\"; expected {EXPECTED}")]
    NoDocument,
    /// The signer's error response.
    #[error("an error from the signer: {0}; expected its answer to /attestation?nonce=HEX, such as nonce=00")]
    Refusal(String),
    /// The JSON of several enclaves.
    #[error(
        "JSON with {0} documents; expected one: select it, as with `jq '.enclaves[0].attested.document'` from `wg-server status --json`"
    )]
    Several(usize),
}

const EXPECTED: &str =
    "an attestation document as bytes, hex, base64, base64url, or in JSON as {\"document\": \"BASE64\"}";

/// Decodes a document.
///
/// # Errors
/// If `written` is in none of the encodings.
pub fn decode(written: &[u8]) -> Result<Vec<u8>, EncodingError> {
    let text = written.strip_prefix(BYTE_ORDER_MARK).unwrap_or(written).trim_ascii();
    match text.first() {
        None => Err(EncodingError::Empty),
        // Not text, so verification reports what is wrong. Its last bytes may look like white space.
        Some(0x80..) => Ok(written.to_vec()),
        Some(b'{' | b'[' | b'"') => decode_text(document_in(&serde_json::from_slice(text)?)?.as_bytes()),
        Some(_) => decode_text(text),
    }
}

fn document_in(json: &Value) -> Result<&str, EncodingError> {
    if let Value::String(document) = json {
        return Ok(document);
    }
    let mut documents = Vec::new();
    collect(json, &mut documents);
    match documents.as_slice() {
        [document] => Ok(document),
        [] => match json.pointer("/error/message").and_then(Value::as_str) {
            Some(message) => Err(EncodingError::Refusal(Printable(message).to_string())),
            None => Err(EncodingError::NoDocument),
        },
        several => Err(EncodingError::Several(several.len())),
    }
}

/// serde_json bounds the recursion.
fn collect<'a>(json: &'a Value, documents: &mut Vec<&'a str>) {
    match json {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str().filter(|_| name == "document") {
                    Some(document) => documents.push(document),
                    None => collect(value, documents),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, documents)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn decode_text(text: &[u8]) -> Result<Vec<u8>, EncodingError> {
    let text: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let (bytes, read_as) = match hex(&text) {
        Ok(bytes) => (bytes, "hex"),
        Err(hex) => match base64(&text) {
            Ok(bytes) => (bytes, "base64"),
            Err(base64) => return Err(EncodingError::Text { hex, base64 }),
        },
    };
    match bytes.first() {
        None => Err(EncodingError::Empty),
        Some(first) if STARTS.contains(first) => Ok(bytes),
        Some(&first) => Err(EncodingError::Other { read_as, first }),
    }
}

fn hex(text: &[u8]) -> Result<Vec<u8>, String> {
    let digits = text.strip_prefix(b"0x").or_else(|| text.strip_prefix(b"0X")).unwrap_or(text);
    // Before decoding: the library would accept a second prefix.
    if let Some(other) = digits.iter().find(|digit| !digit.is_ascii_hexdigit()) {
        return Err(format!("it has {}", shown(*other)));
    }
    const_hex::decode(digits).map_err(|_odd| format!("an odd number of digits, {}", digits.len()))
}

fn base64(text: &[u8]) -> Result<Vec<u8>, String> {
    let has = |characters: [u8; 2]| text.iter().any(|byte| characters.contains(byte));
    match (has([b'+', b'/']), has([b'-', b'_'])) {
        (true, true) => Err("it mixes + or / with - or _".to_owned()),
        (false, true) => BASE64URL.decode(text).map_err(|error| error.to_string()),
        (_, false) => BASE64.decode(text).map_err(|error| error.to_string()),
    }
}

fn shown(byte: u8) -> String {
    format!("{:?}", char::from(byte))
}

#[cfg(test)]
mod tests;
