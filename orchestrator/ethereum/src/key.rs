//! Secret keys of secp256k1.

use std::fmt;

use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use k256::ecdsa::{Error, Signature, SigningKey, VerifyingKey};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::address::Address;
use crate::recovery::recovers_to;

/// HKDF's salt. Another one would forget what has been derived.
const DERIVATION_SALT: &[u8] = b"enclave-wireguard";

/// A key, with the address of its account. Zeroed when dropped; neither printed nor copied.
pub struct SecretKey {
    key: SigningKey,
    address: Address,
}

/// Why bytes are not a key. Shows none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SecretKeyError {
    /// Another length or character.
    #[error("not a secret key, expected 64 hex digits, with or without 0x in front, and nothing else")]
    Form,
    /// Zero, or not below the order of the curve.
    #[error("not a secret key of secp256k1, expected a number from 1 to the curve's order less 1")]
    Range,
    /// The system's generator failed.
    #[error("no random numbers")]
    Random,
}

impl SecretKey {
    /// Reads what KMS's plaintext holds: the key as 64 hex digits, `0x` in front or not.
    ///
    /// # Errors
    /// Another form, or not a number of the curve. Never shows the plaintext.
    pub fn parse(plaintext: &[u8]) -> Result<Self, SecretKeyError> {
        let digits = plaintext.strip_prefix(b"0x").unwrap_or(plaintext);
        let mut bytes = Zeroizing::new([0; 32]);
        // The library would take another 0x.
        if !const_hex::check_raw(digits) || const_hex::decode_to_slice(digits, bytes.as_mut()).is_err() {
            return Err(SecretKeyError::Form);
        }
        Self::from_bytes(&bytes)
    }

    /// Generates a key from the system's random numbers.
    ///
    /// # Errors
    /// The generator failed.
    pub fn generate() -> Result<Self, SecretKeyError> {
        // A draw misses the curve's order once in 2^128.
        let mut bytes = Zeroizing::new([0; 32]);
        SystemRandom::new().fill(bytes.as_mut()).map_err(|_unspecified| SecretKeyError::Random)?;
        Self::from_bytes(&bytes)
    }

    fn from_bytes(bytes: &[u8; 32]) -> Result<Self, SecretKeyError> {
        let key = SigningKey::from_bytes(bytes.into()).map_err(|_out_of_range| SecretKeyError::Range)?;
        let address = address_of_key(key.verifying_key());
        Ok(Self { key, address })
    }

    /// The address of its account.
    #[must_use]
    pub fn address(&self) -> Address {
        self.address
    }

    /// The plaintext that [`SecretKey::parse`] reads, to be encrypted and nothing else.
    #[must_use]
    pub fn expose_plaintext(&self) -> Zeroizing<String> {
        let bytes = Zeroizing::new(<[u8; 32]>::from(self.key.to_bytes()));
        // All of it at once: a String that grows leaves copies behind.
        Zeroizing::new(const_hex::encode_prefixed(bytes.as_slice()))
    }

    /// Derives a key for another purpose than signing (HKDF-SHA-256, RFC 5869). It is the same for the same purpose, and tells nothing of
    /// this key or of those for other purposes.
    #[must_use]
    pub fn derive(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        let bytes = Zeroizing::new(<[u8; 32]>::from(self.key.to_bytes()));
        let mut derived = Zeroizing::new([0; 32]);
        let secret = Salt::new(HKDF_SHA256, DERIVATION_SALT).extract(bytes.as_slice());
        let info = [purpose.as_bytes()];
        let filled = secret.expand(&info, HKDF_SHA256).and_then(|okm| okm.fill(derived.as_mut()));
        filled.expect("32 bytes are what HKDF-SHA-256 gives at once");
        derived
    }

    /// `r`, `s` (the lower of the two) and whether the point's `y` is odd. The same hash gives the same signature (RFC 6979).
    pub(crate) fn sign(&self, hash: &[u8; 32]) -> Result<([u8; 32], [u8; 32], bool), Error> {
        let (signature, recovery) = self.key.sign_prehash_recoverable(hash)?;
        let (r, s) = signature.split_bytes();
        Ok((r.into(), s.into(), recovery.is_y_odd()))
    }

    /// Whether a node that recovers who signed `hash` finds the account of this key.
    pub(crate) fn is_recovered_from(&self, hash: &[u8; 32], (r, s, is_y_odd): ([u8; 32], [u8; 32], bool)) -> bool {
        let key = self.key.verifying_key();
        // The address anew: it has been in memory for as long as the key.
        let is_recovered =
            Signature::from_scalars(r, s).is_ok_and(|signature| recovers_to(key, hash, &signature, is_y_odd));
        is_recovered && address_of_key(key) == self.address
    }
}

pub(crate) fn address_of_key(key: &VerifyingKey) -> Address {
    let point = key.to_encoded_point(false);
    Address::of_point(point.as_bytes().last_chunk().expect("an uncompressed point has 65 bytes"))
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {}, redacted)", self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318";
    const ORDER: &str = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";

    #[test]
    fn a_key_is_read_with_and_without_0x_in_either_case() {
        for text in [KEY.to_owned(), format!("0x{KEY}"), KEY.to_uppercase()] {
            let key = SecretKey::parse(text.as_bytes()).unwrap();
            assert_eq!(key.address().to_string(), "0x2c7536E3605D9C16a7a3D7b1898e529396a65c23");
            assert_eq!(key.expose_plaintext().as_str(), format!("0x{KEY}"));
        }
        // The generator itself: EIP-55's capitals from another source.
        let one = SecretKey::parse(format!("{:064x}", 1).as_bytes()).unwrap();
        assert_eq!(one.address().to_string(), "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf");
    }

    /// Computed with Python's hmac: extract and expand of RFC 5869.
    #[test]
    fn derived_keys_are_those_of_rfc_5869() {
        let key = SecretKey::parse(KEY.as_bytes()).unwrap();
        assert_eq!(
            const_hex::encode(key.derive("ledger name").as_slice()),
            "813d23a939d6e98433b360e218622e7e61cb1614981bdfba8fe5dcb3d43e8507"
        );
        assert_ne!(*key.derive("ledger name"), *key.derive("ledger nonce"));
    }

    #[test]
    fn zero_and_the_curves_order_are_no_keys() {
        let largest = ORDER.replace("4141", "4140");
        assert!(SecretKey::parse(largest.as_bytes()).is_ok());
        for text in [ORDER, &"0".repeat(64), &"f".repeat(64)] {
            assert_eq!(SecretKey::parse(text.as_bytes()).unwrap_err(), SecretKeyError::Range, "{text}");
        }
    }

    #[test]
    fn a_wrong_form_is_refused_without_showing_it() {
        let wrong = [
            "",
            "0x",
            &KEY[1..],
            &KEY[2..],
            &format!("{KEY}00"),
            &format!("{KEY}\n"),
            &format!("0x0x{KEY}"),
            &format!("0X{KEY}"),
            &KEY.replace('4', "g"),
            &KEY.replace('4', "é"),
        ]
        .map(str::to_owned);
        for text in wrong {
            let error = SecretKey::parse(text.as_bytes()).unwrap_err();
            assert_eq!(error, SecretKeyError::Form, "{text}");
            assert!(!error.to_string().contains("0883"), "{error}");
        }
        assert_eq!(SecretKey::parse(&[0xff; 64]).unwrap_err(), SecretKeyError::Form);
    }

    #[test]
    fn debug_shows_the_address_alone() {
        let key = SecretKey::parse(KEY.as_bytes()).unwrap();
        assert_eq!(format!("{key:?}"), "SecretKey(of 0x2c7536E3605D9C16a7a3D7b1898e529396a65c23, redacted)");
    }

    #[test]
    fn an_address_that_is_no_longer_the_keys_does_not_pass() {
        let right = SecretKey::parse(KEY.as_bytes()).unwrap();
        let signature = right.sign(&[7; 32]).unwrap();
        assert!(right.is_recovered_from(&[7; 32], signature));
        let mut wrong = SecretKey::parse(KEY.as_bytes()).unwrap();
        wrong.address.0[19] ^= 1;
        assert!(!wrong.is_recovered_from(&[7; 32], signature));
    }

    #[test]
    fn generated_keys_differ_and_read_back() {
        let [one, other] = [(); 2].map(|()| SecretKey::generate().unwrap());
        assert_ne!(one.address(), other.address());
        assert_eq!(SecretKey::parse(one.expose_plaintext().as_bytes()).unwrap().address(), one.address());
    }
}
