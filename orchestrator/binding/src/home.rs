//! What the document of an enclave that calls home says in its `user_data`: on which TLS connection, under which
//! configuration.
//!
//! The document's `nonce` is the hub's. The exporter (RFC 8446, 7.5) differs on every TLS connection, and only its two
//! ends can calculate it. A hub compares it with that of its own connection: the other end is then the enclave itself, and
//! not somebody who relays its documents.

use crate::BindingError;

const DOMAIN: [u8; 32] = *b"enclave-wireguard calling home 1";

/// A connection and its surroundings.
///
/// | offset | bytes | meaning                                                                      |
/// |--------|-------|------------------------------------------------------------------------------|
/// | 0      | 32    | `enclave-wireguard calling home 1`                                           |
/// | 32     | 32    | TLS exporter of the connection; crate `home` has its label and its context   |
/// | 64     | 32    | SHA-256 of the measured configuration, `enclave.toml`                        |
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Of the connection that the document goes over.
    pub exporter: [u8; 32],
    /// Also part of PCR2; here so that a verifier can name the file.
    pub config: [u8; 32],
}

impl Binding {
    /// Its length in bytes; a document takes at most 512.
    pub const LEN: usize = 96;

    /// The bytes for the document.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let fields = [DOMAIN, self.exporter, self.config];
        *fields.as_flattened().as_array().expect("three times 32 bytes")
    }

    /// Reads a document's `user_data`.
    ///
    /// # Errors
    /// Another length, or another domain.
    pub fn decode(bytes: &[u8]) -> Result<Self, BindingError> {
        let (&[domain, exporter, config], []) = bytes.as_chunks::<32>() else {
            return Err(BindingError::Length { actual: bytes.len(), expected: Self::LEN });
        };
        if domain != DOMAIN {
            return Err(BindingError::Domain("a connection to a hub"));
        }
        Ok(Self { exporter, config })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signer;

    fn golden() -> Vec<u8> {
        [b"enclave-wireguard calling home 1".as_slice(), &[1; 32], &[2; 32]].concat()
    }

    #[test]
    fn a_binding_has_these_bytes_and_they_are_one() {
        let binding = Binding { exporter: [1; 32], config: [2; 32] };
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
        assert_eq!(Binding::decode(&other), Err(BindingError::Domain("a connection to a hub")));
    }

    #[test]
    fn a_document_for_a_signers_client_is_none_for_a_hub_although_it_is_as_long() {
        let signers = signer::Binding { tls_key: [1; 32], config: [2; 32] }.encode();
        assert_eq!(Binding::decode(&signers), Err(BindingError::Domain("a connection to a hub")));
        assert!(signer::Binding::decode(&golden()).is_err());
    }
}
