//! What the signer's attestation document says in its `user_data`: which TLS key is the enclave's, under which configuration.
//!
//! The document's `nonce` is the client's. A client compares the digest with the key of the very connection it is talking
//! on: then that connection ends inside the enclave that the document measures.

use aws_lc_rs::digest::{SHA256, digest};
use thiserror::Error;

/// The first bytes; another layout has another number.
const DOMAIN: [u8; 32] = *b"enclave-wireguard signer's TLS 1";

/// A TLS key and its surroundings.
///
/// | offset | bytes | meaning                                                         |
/// |--------|-------|-----------------------------------------------------------------|
/// | 0      | 32    | `enclave-wireguard signer's TLS 1`                              |
/// | 32     | 32    | SHA-256 of the server's TLS key (SubjectPublicKeyInfo, DER)     |
/// | 64     | 32    | SHA-256 of the measured configuration, `enclave.toml`           |
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// As [`sha256`] has it of the SubjectPublicKeyInfo in the server's certificate.
    pub tls_key: [u8; 32],
    /// Also part of PCR2; here so that a verifier can name the file.
    pub config: [u8; 32],
}

/// Why bytes are no binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BindingError {
    /// Not [`Binding::LEN`] bytes.
    #[error("a binding of {0} bytes, expected {len}", len = Binding::LEN)]
    Length(usize),
    /// Made for something else, or by another version.
    #[error("a document that does not bind the signer's TLS key")]
    Domain,
}

impl Binding {
    /// Its length in bytes; a document takes at most 512.
    pub const LEN: usize = 96;

    /// The bytes for the document.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        for (to, from) in bytes.iter_mut().zip([DOMAIN, self.tls_key, self.config].as_flattened()) {
            *to = *from;
        }
        bytes
    }

    /// Reads a document's `user_data`.
    ///
    /// # Errors
    /// Another length, or another domain.
    pub fn decode(bytes: &[u8]) -> Result<Self, BindingError> {
        let (&[domain, tls_key, config], []) = bytes.as_chunks::<32>() else {
            return Err(BindingError::Length(bytes.len()));
        };
        if domain != DOMAIN {
            return Err(BindingError::Domain);
        }
        Ok(Self { tls_key, config })
    }
}

/// SHA-256 (FIPS 180-4).
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    for (to, from) in out.iter_mut().zip(digest(&SHA256, bytes).as_ref()) {
        *to = *from;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn golden() -> Vec<u8> {
        [b"enclave-wireguard signer's TLS 1".as_slice(), &[1; 32], &[2; 32]].concat()
    }

    #[test]
    fn a_binding_has_these_bytes_and_they_are_one() {
        let binding = Binding { tls_key: [1; 32], config: [2; 32] };
        assert_eq!(binding.encode().to_vec(), golden());
        assert_eq!(Binding::decode(&golden()), Ok(binding));
    }

    #[test]
    fn another_length_or_another_purpose_is_no_binding() {
        assert_eq!(Binding::decode(&golden()[1..]), Err(BindingError::Length(95)));
        assert_eq!(Binding::decode(&[golden(), vec![0]].concat()), Err(BindingError::Length(97)));
        assert_eq!(Binding::decode(&[]), Err(BindingError::Length(0)));
        let mut other = golden();
        other[31] = b'2';
        assert_eq!(Binding::decode(&other), Err(BindingError::Domain));
    }
}
