//! What the signer's attestation document says in its `user_data`: which TLS key is the enclave's, under which configuration.
//!
//! The document's `nonce` is the client's. A client compares the digest with the key of the very connection it is talking
//! on: then that connection ends inside the enclave that the document measures.

use crate::BindingError;

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
    /// As [`crate::sha256`] has it of the SubjectPublicKeyInfo in the server's certificate.
    pub tls_key: [u8; 32],
    /// Also part of PCR2; here so that a verifier can name the file.
    pub config: [u8; 32],
}

impl Binding {
    /// Its length in bytes; a document takes at most 512.
    pub const LEN: usize = 96;

    /// The bytes for the document.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let fields = [DOMAIN, self.tls_key, self.config];
        *fields.as_flattened().as_array().expect("three times 32 bytes")
    }

    /// Reads a document's `user_data`.
    ///
    /// # Errors
    /// Another length, or another domain.
    pub fn decode(bytes: &[u8]) -> Result<Self, BindingError> {
        let (&[domain, tls_key, config], []) = bytes.as_chunks::<32>() else {
            return Err(BindingError::Length { actual: bytes.len(), expected: Self::LEN });
        };
        if domain != DOMAIN {
            return Err(BindingError::Domain("the signer's TLS key"));
        }
        Ok(Self { tls_key, config })
    }
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
    fn another_length_or_another_purpose_is_not_a_binding() {
        let length = |actual| Err(BindingError::Length { actual, expected: 96 });
        assert_eq!(Binding::decode(&golden()[1..]), length(95));
        assert_eq!(Binding::decode(&[golden(), vec![0]].concat()), length(97));
        assert_eq!(Binding::decode(&[]), length(0));
        let mut other = golden();
        other[31] = b'2';
        assert_eq!(Binding::decode(&other), Err(BindingError::Domain("the signer's TLS key")));
    }
}
