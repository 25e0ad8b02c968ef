//! The WireGuard pre-shared key of a session, from an ML-KEM-768 encapsulation (FIPS 203).
//!
//! WireGuard mixes it into every handshake, so a recording of the tunnel stays secret even if Curve25519 is broken
//! later. The gateway encapsulates to the key that the enclave's document binds, and the enclave decapsulates. The key
//! itself is never sent.

use aws_lc_rs::error::{KeyRejected, Unspecified};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use aws_lc_rs::kem::{Ciphertext, DecapsulationKey, EncapsulationKey, ML_KEM_768, SharedSecret};
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::control::{KemCiphertext, KemKey, Offer, PublicKey};

/// Keeps the key apart from any other that might be derived from the same secret.
const LABEL: &[u8] = b"enclave-wireguard pre-shared key 1";

/// A WireGuard pre-shared key.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct PresharedKey([u8; 32]);

/// The secret half of a KEM key pair, for one exchange.
#[derive(Debug)]
pub struct Decapsulator(DecapsulationKey);

/// What went wrong with the key encapsulation.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
pub enum KemError {
    /// The library could not make a key pair.
    #[error("make an ML-KEM-768 key pair")]
    Generate(#[source] Unspecified),
    /// The library could not read the key.
    #[error("read the enclave's ML-KEM-768 key")]
    Read(#[source] KeyRejected),
    /// Right in length, but not a key (FIPS 203, section 7.2).
    #[error("invalid ML-KEM-768 key of the enclave")]
    Key(#[source] Unspecified),
    /// The library could not derive the pre-shared key.
    #[error("derive the pre-shared key")]
    Derive(#[source] Unspecified),
    /// The library's: any ciphertext of the right length opens, to something.
    #[error("open an ML-KEM-768 ciphertext")]
    Open(#[source] Unspecified),
}

impl PresharedKey {
    /// Takes the bytes of a key that the kernel has.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, for the one file that tells the kernel.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// Both sides derive it from what they have: HKDF-SHA256 (RFC 5869) with the offer's nonce as salt, and both
    /// WireGuard keys in the info.
    fn derive(secret: &SharedSecret, offer: &Offer, enclave: PublicKey) -> Result<Self, Unspecified> {
        struct Len;
        impl KeyType for Len {
            fn len(&self) -> usize {
                32
            }
        }
        let mut key = Self([0; 32]);
        let info: [&[u8]; 3] = [LABEL, &enclave.0, &offer.public_key.0];
        Salt::new(HKDF_SHA256, &offer.nonce).extract(secret.as_ref()).expand(&info, Len)?.fill(&mut key.0)?;
        Ok(key)
    }
}

impl std::fmt::Debug for PresharedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PresharedKey(..)")
    }
}

impl Decapsulator {
    /// A new pair.
    ///
    /// # Errors
    /// The library's.
    pub fn generate() -> Result<(Self, KemKey), KemError> {
        let secret = DecapsulationKey::generate(&ML_KEM_768).map_err(KemError::Generate)?;
        let public = secret.encapsulation_key().and_then(|key| key.key_bytes()).map_err(KemError::Generate)?;
        let public = public.as_ref().try_into().expect("a key of ML-KEM-768 has 1184 bytes (FIPS 203, table 3)");
        Ok((Self(secret), KemKey(public)))
    }

    /// The enclave's side: the key of the session between `enclave`, our WireGuard key, and the gateway of the offer.
    ///
    /// # Errors
    /// None that the sender of the ciphertext could cause: a wrong one gives a wrong key, and no handshake.
    pub fn open(self, ciphertext: &KemCiphertext, offer: &Offer, enclave: PublicKey) -> Result<PresharedKey, KemError> {
        let secret = self.0.decapsulate(Ciphertext::from(&ciphertext.0[..])).map_err(KemError::Open)?;
        PresharedKey::derive(&secret, offer, enclave).map_err(KemError::Derive)
    }
}

/// The gateway's side: a new secret for the enclave's keys, and how the enclave gets at it.
///
/// # Errors
/// An invalid key.
pub fn encapsulate(
    kem_key: &KemKey,
    offer: &Offer,
    enclave: PublicKey,
) -> Result<(PresharedKey, KemCiphertext), KemError> {
    let key = EncapsulationKey::new(&ML_KEM_768, &kem_key.0).map_err(KemError::Read)?;
    let (ciphertext, secret) = key.encapsulate().map_err(KemError::Key)?;
    let ciphertext =
        ciphertext.as_ref().try_into().expect("a ciphertext of ML-KEM-768 has 1088 bytes (FIPS 203, table 3)");
    let key = PresharedKey::derive(&secret, offer, enclave).map_err(KemError::Derive)?;
    Ok((key, KemCiphertext(ciphertext)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENCLAVE: PublicKey = PublicKey([0x33; 32]);

    fn offer(nonce: u8) -> Offer {
        Offer { nonce: [nonce; 32], public_key: PublicKey([0x22; 32]), ipv4: None, ipv6: None }
    }

    #[test]
    fn both_sides_have_the_same_key() {
        let (secret, public) = Decapsulator::generate().unwrap();
        let (ours, ciphertext) = encapsulate(&public, &offer(1), ENCLAVE).unwrap();
        let theirs = secret.open(&ciphertext, &offer(1), ENCLAVE).unwrap();
        assert_eq!(ours.expose(), theirs.expose());
        assert_ne!(ours.expose(), &[0; 32]);
        assert_eq!(format!("{ours:?}"), "PresharedKey(..)");
    }

    #[test]
    fn another_nonce_key_or_ciphertext_gives_another_key() {
        let exchange = |change: fn(&mut Offer, &mut PublicKey, &mut KemCiphertext)| {
            let (secret, public) = Decapsulator::generate().unwrap();
            let (ours, mut ciphertext) = encapsulate(&public, &offer(1), ENCLAVE).unwrap();
            let (mut offer, mut enclave) = (offer(1), ENCLAVE);
            change(&mut offer, &mut enclave, &mut ciphertext);
            *ours.expose() == *secret.open(&ciphertext, &offer, enclave).unwrap().expose()
        };
        assert!(exchange(|_, _, _| ()));
        assert!(!exchange(|offer, _, _| offer.nonce = [2; 32]));
        assert!(!exchange(|offer, _, _| offer.public_key.0[31] ^= 1));
        assert!(!exchange(|_, enclave, _| enclave.0[0] ^= 1));
        assert!(!exchange(|_, _, ciphertext| ciphertext.0[1087] ^= 1));
    }

    #[test]
    fn bytes_that_are_not_a_key_are_refused() {
        // Every coefficient is 4095, and has to be below 3329.
        let error = encapsulate(&KemKey([0xff; 1184]), &offer(1), ENCLAVE).unwrap_err();
        assert!(matches!(error, KemError::Key(_)), "{error:?}");
    }

    /// Extract with the salt, then expand over label, both keys and the byte 1.
    #[test]
    fn the_key_is_derived_as_rfc_5869_says() {
        let (secret, public) = Decapsulator::generate().unwrap();
        let (key, ciphertext) = encapsulate(&public, &offer(1), ENCLAVE).unwrap();
        let shared = secret.0.decapsulate(Ciphertext::from(&ciphertext.0[..])).unwrap();
        let hmac = |key: &[u8], parts: &[&[u8]]| {
            let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, key);
            aws_lc_rs::hmac::sign(&key, &parts.concat())
        };
        let extracted = hmac(&[1; 32], &[shared.as_ref()]);
        let expanded = hmac(extracted.as_ref(), &[LABEL, &[0x33; 32], &[0x22; 32], &[1]]);
        assert_eq!(key.expose(), expanded.as_ref());
    }
}
