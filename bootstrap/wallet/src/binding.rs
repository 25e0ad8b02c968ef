//! What the enclave's document says in its `user_data`: which TLS key is the signer's, under which configuration.
//!
//! The format is the signer's; a connection whose key a document binds ends inside the enclave that the document measures.

use aws_lc_rs::digest::{SHA256, digest};
use thiserror::Error;

/// The first bytes; another layout has another number.
const DOMAIN: [u8; 32] = *b"enclave-wireguard signer's TLS 1";

/// A TLS key and the configuration that it works under.
///
/// | offset | bytes | meaning                                                     |
/// |--------|-------|-------------------------------------------------------------|
/// | 0      | 32    | `enclave-wireguard signer's TLS 1`                          |
/// | 32     | 32    | SHA-256 of the server's SubjectPublicKeyInfo in DER         |
/// | 64     | 32    | SHA-256 of the measured configuration                       |
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// As [`sha256`] has it of the key in the server's certificate.
    pub tls_key: [u8; 32],
    /// PCR2 covers it too; here it names the file.
    pub config: [u8; 32],
}

/// Why bytes are no [`Binding`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BindingError {
    /// Too short or too long.
    #[error("a binding of {0} bytes, expected {len}", len = Binding::LEN)]
    Length(usize),
    /// Another purpose, or another version.
    #[error("a document that does not bind the signer's TLS key")]
    Domain,
}

impl Binding {
    /// Its length in bytes.
    pub const LEN: usize = 96;

    /// Reads a document's `user_data`.
    ///
    /// # Errors
    /// Another length, or another purpose.
    pub fn decode(bytes: &[u8]) -> Result<Self, BindingError> {
        match bytes.as_chunks::<32>() {
            (&[domain, tls_key, config], []) if domain == DOMAIN => Ok(Self { tls_key, config }),
            (&[_, _, _], []) => Err(BindingError::Domain),
            _ => Err(BindingError::Length(bytes.len())),
        }
    }

    /// The bytes for a document.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes.copy_from_slice([DOMAIN, self.tls_key, self.config].as_flattened());
        bytes
    }
}

/// SHA-256 (FIPS 180-4).
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binding_and_its_bytes_are_the_signers() {
        let golden = [b"enclave-wireguard signer's TLS 1".as_slice(), &[1; 32], &[2; 32]].concat();
        let binding = Binding { tls_key: [1; 32], config: [2; 32] };
        assert_eq!(binding.encode().to_vec(), golden);
        assert_eq!(Binding::decode(&golden), Ok(binding));
    }

    #[test]
    fn other_bytes_are_no_binding() {
        let mut bytes = Binding { tls_key: [1; 32], config: [2; 32] }.encode();
        assert_eq!(Binding::decode(&bytes[1..]), Err(BindingError::Length(95)));
        assert_eq!(Binding::decode(&[bytes.as_slice(), &[0]].concat()), Err(BindingError::Length(97)));
        assert_eq!(Binding::decode(&[]), Err(BindingError::Length(0)));
        bytes[31] = b'2';
        assert_eq!(Binding::decode(&bytes), Err(BindingError::Domain));
    }
}
