//! What the enclave's attestation document says in its `user_data`: which keys it vouches for, and to whom.
//!
//! The document's `nonce` is the gateway's, so an old document does not pass.

use ::tunnel::control::{KemKey, PublicKey};
use ::tunnel::port::Cid;

use crate::{BindingError, sha256};

const DOMAIN: [u8; 32] = *b"enclave-wireguard attested key 1";

/// In place of a digest: SHA-256 gives it for no input that anybody knows.
const NO_TLS_KEY: [u8; 32] = [0; 32];

/// The keys of one exchange, and the gateway they are for.
///
/// | offset | bytes | meaning                                                                 |
/// |--------|-------|-------------------------------------------------------------------------|
/// | 0      | 32    | `enclave-wireguard attested key 1`                                      |
/// | 32     | 32    | the enclave's WireGuard public key                                      |
/// | 64     | 32    | SHA-256 of the enclave's ML-KEM-768 encapsulation key                   |
/// | 96     | 32    | SHA-256 of the enclave's TLS key (SubjectPublicKeyInfo, DER); zero: none |
/// | 128    | 32    | SHA-256 of the measured configuration, `enclave.toml`                   |
/// | 160    | 32    | the gateway's WireGuard public key                                      |
/// | 192    | 4     | the enclave's CID, big endian                                           |
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The enclave's, made for this exchange.
    pub public_key: PublicKey,
    /// As [`kem_key_digest`] has it.
    pub kem_key: [u8; 32],
    /// None in an enclave without a signer.
    pub tls_key: Option<[u8; 32]>,
    /// Also part of PCR2; here so that a verifier can name the file.
    pub config: [u8; 32],
    /// As offered.
    pub gateway: PublicKey,
    /// As the enclave knows itself.
    pub cid: Cid,
}

impl Binding {
    /// Its length in bytes; a document takes at most 512.
    pub const LEN: usize = 196;

    /// The bytes for the document.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let tls_key = self.tls_key.unwrap_or(NO_TLS_KEY);
        let fields = [DOMAIN, self.public_key.0, self.kem_key, tls_key, self.config, self.gateway.0];
        let mut bytes = [0; Self::LEN];
        let (keys, cid) = bytes.split_at_mut(fields.as_flattened().len());
        keys.copy_from_slice(fields.as_flattened());
        cid.copy_from_slice(&self.cid.0.to_be_bytes());
        bytes
    }

    /// Reads a document's `user_data`.
    ///
    /// # Errors
    /// Another length, or another domain.
    pub fn decode(bytes: &[u8]) -> Result<Self, BindingError> {
        let (&[domain, public_key, kem_key, tls_key, config, gateway], &[a, b, c, d]) = bytes.as_chunks::<32>() else {
            return Err(BindingError::Length { actual: bytes.len(), expected: Self::LEN });
        };
        if domain != DOMAIN {
            return Err(BindingError::Domain("a tunnel's keys"));
        }
        Ok(Self {
            public_key: PublicKey(public_key),
            kem_key,
            tls_key: (tls_key != NO_TLS_KEY).then_some(tls_key),
            config,
            gateway: PublicKey(gateway),
            cid: Cid(u32::from_be_bytes([a, b, c, d])),
        })
    }
}

/// What a binding says of an encapsulation key.
#[must_use]
pub fn kem_key_digest(key: &KemKey) -> [u8; 32] {
    sha256(&key.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding() -> Binding {
        Binding {
            public_key: PublicKey([1; 32]),
            kem_key: [2; 32],
            tls_key: Some([3; 32]),
            config: [4; 32],
            gateway: PublicKey([5; 32]),
            cid: Cid(0x0102_0304),
        }
    }

    fn golden() -> Vec<u8> {
        let mut bytes = b"enclave-wireguard attested key 1".to_vec();
        for byte in 1..=5 {
            bytes.extend([byte; 32]);
        }
        bytes.extend([1, 2, 3, 4]);
        bytes
    }

    #[test]
    fn a_binding_has_these_bytes_and_they_are_one() {
        assert_eq!(binding().encode().to_vec(), golden());
        assert_eq!(Binding::decode(&golden()), Ok(binding()));
    }

    #[test]
    fn an_enclave_without_tls_binds_no_tls_key() {
        let without = Binding { tls_key: None, ..binding() };
        assert_eq!(without.encode()[96..128], [0; 32]);
        assert_eq!(Binding::decode(&without.encode()), Ok(without));
    }

    #[test]
    fn another_length_or_another_purpose_is_not_a_binding() {
        let length = |actual| Err(BindingError::Length { actual, expected: 196 });
        assert_eq!(Binding::decode(&golden()[1..]), length(195));
        assert_eq!(Binding::decode(&[golden(), vec![0]].concat()), length(197));
        let mut other = golden();
        other[31] = b'2';
        assert_eq!(Binding::decode(&other), Err(BindingError::Domain("a tunnel's keys")));
    }
}
