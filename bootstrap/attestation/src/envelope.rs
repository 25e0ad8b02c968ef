//! The COSE_Sign1 around a document's payload (RFC 9052, section 4.2).

use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};
use minicbor::data::{Tag, Type};
use minicbor::{Decoder, Encoder};
use thiserror::Error;

/// COSE_Sign1 (RFC 9052, section 2).
const SIGN1: u64 = 18;
/// The header parameter "alg" (RFC 9052, section 3.1).
const ALG: i64 = 1;
/// ECDSA with SHA-384 (RFC 9053, section 2.1).
const ES384: i64 = -35;
/// Two P-384 integers, each at full length (RFC 9053, section 2.1).
const SIGNATURE_LEN: usize = 96;

/// A COSE_Sign1 with ES384.
///
/// ```text
/// [18(] [ << {1: -35} >>, {}, << payload >>, signature: 96 bytes ] [)]
/// ```
#[derive(Debug)]
pub(crate) struct Envelope<'a> {
    protected: &'a [u8],
    pub(crate) payload: &'a [u8],
    signature: [u8; SIGNATURE_LEN],
}

/// The rule of COSE_Sign1 that a document breaks.
#[derive(Debug, Error)]
pub enum EnvelopeError {
    /// Not CBOR, or of another type.
    #[error("COSE_Sign1: {part}: expected {expected}")]
    Cbor {
        /// The part.
        part: &'static str,
        /// The expected type.
        expected: &'static str,
        /// The cause.
        source: minicbor::decode::Error,
    },
    /// Another COSE message, or not COSE.
    #[error("COSE_Sign1: tag {0}, expected {SIGN1} or none")]
    Tag(u64),
    /// Not four parts.
    #[error("COSE_Sign1: {}, expected an array of 4", .0.map_or("an array of unknown length".to_owned(), |len| format!("an array of {len}")))]
    Parts(Option<u64>),
    /// Anything but the algorithm.
    #[error("COSE_Sign1: protected header: expected the algorithm and nothing else")]
    ProtectedHeader,
    /// Not the NSM's algorithm.
    #[error("COSE_Sign1: algorithm {0}, expected {ES384} (ES384)")]
    Algorithm(i64),
    /// AWS's documents have none, and it would not be signed.
    #[error("COSE_Sign1: unprotected header: expected none")]
    UnprotectedHeader,
    /// Not two integers of fixed length; DER has other lengths.
    #[error("COSE_Sign1: a signature of {0} bytes, expected {SIGNATURE_LEN}")]
    SignatureLength(usize),
    /// Bytes after the document.
    #[error("COSE_Sign1: {0} trailing bytes, expected none")]
    Trailing(usize),
}

impl<'a> Envelope<'a> {
    /// Reads all of `document`.
    pub(crate) fn parse(document: &'a [u8]) -> Result<Self, EnvelopeError> {
        let mut decoder = Decoder::new(document);
        let cbor = |part, expected| move |source| EnvelopeError::Cbor { part, expected, source };
        if decoder.datatype().map_err(cbor("document", "COSE_Sign1"))? == Type::Tag {
            let tag = decoder.tag().map_err(cbor("tag", "tag"))?;
            if tag != Tag::new(SIGN1) {
                return Err(EnvelopeError::Tag(tag.as_u64()));
            }
        }
        let parts = decoder.array().map_err(cbor("document", "array"))?;
        if parts != Some(4) {
            return Err(EnvelopeError::Parts(parts));
        }
        let protected = decoder.bytes().map_err(cbor("protected header", "byte string"))?;
        check_protected(protected)?;
        check_unprotected(&mut decoder)?;
        let payload = decoder.bytes().map_err(cbor("payload", "byte string"))?;
        let signature = decoder.bytes().map_err(cbor("signature", "byte string"))?;
        let Ok(signature) = signature.try_into() else {
            return Err(EnvelopeError::SignatureLength(signature.len()));
        };
        match document.len() - decoder.position() {
            0 => Ok(Self { protected, payload, signature }),
            trailing => Err(EnvelopeError::Trailing(trailing)),
        }
    }

    /// Whether the signature verifies with `public_key`, an uncompressed point of P-384.
    pub(crate) fn is_signed_by(&self, public_key: &[u8]) -> bool {
        let message = signed_bytes(self.protected, self.payload);
        UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, public_key).verify(&message, &self.signature).is_ok()
    }
}

/// The Sig_structure (RFC 9052, section 4.4) without external data.
pub(crate) fn signed_bytes(protected: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new());
    encoder
        .array(4)
        .and_then(|encoder| encoder.str("Signature1"))
        .and_then(|encoder| encoder.bytes(protected))
        .and_then(|encoder| encoder.bytes(&[]))
        .and_then(|encoder| encoder.bytes(payload))
        .expect("a Vec takes every byte");
    encoder.into_writer()
}

fn check_protected(header: &[u8]) -> Result<(), EnvelopeError> {
    let cbor = |expected| move |source| EnvelopeError::Cbor { part: "protected header", expected, source };
    let mut decoder = Decoder::new(header);
    if decoder.map().map_err(cbor("map"))? != Some(1) {
        return Err(EnvelopeError::ProtectedHeader);
    }
    if decoder.i64().map_err(cbor("number"))? != ALG {
        return Err(EnvelopeError::ProtectedHeader);
    }
    let algorithm = decoder.i64().map_err(cbor("algorithm's number"))?;
    if algorithm != ES384 {
        return Err(EnvelopeError::Algorithm(algorithm));
    }
    if decoder.position() != header.len() {
        return Err(EnvelopeError::ProtectedHeader);
    }
    Ok(())
}

fn check_unprotected(decoder: &mut Decoder<'_>) -> Result<(), EnvelopeError> {
    let cbor = |source| EnvelopeError::Cbor { part: "unprotected header", expected: "map", source };
    let is_empty = match decoder.map().map_err(cbor)? {
        Some(len) => len == 0,
        None => {
            let is_end = decoder.datatype().map_err(cbor)? == Type::Break;
            decoder.set_position(decoder.position() + 1);
            is_end
        }
    };
    if is_empty { Ok(()) } else { Err(EnvelopeError::UnprotectedHeader) }
}
