//! The recipient of an attested request: an attestation document and the public key in it.

use std::fmt::Display;
use std::time::{Duration, SystemTime};

use attestation::{At, Claims, TrustRoot};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rsa::{OaepPublicEncryptingKey, PublicEncryptingKey};
use kms::cms::EnvelopedData;

use crate::failure::{Failure, Kind};

/// KMS refuses old documents, but AWS does not say how old. The limit is that of signatures.
const MAX_AGE: Duration = Duration::from_mins(5);
/// KMS's only algorithm.
const ALGORITHM: &str = "RSAES_OAEP_SHA_256";

/// An attested enclave.
#[derive(Debug)]
pub(crate) struct Recipient {
    pub(crate) claims: Claims,
    pub(crate) key: RecipientKey,
}

/// The public key that encrypts an answer, from a SubjectPublicKeyInfo.
#[derive(Debug)]
pub(crate) struct RecipientKey(Vec<u8>);

impl Recipient {
    /// Verifies the document against `root` at `now`.
    pub(crate) fn verify(algorithm: &str, document: &[u8], root: &TrustRoot, now: SystemTime) -> Result<Self, Failure> {
        if algorithm != ALGORITHM {
            let message = format!("KeyEncryptionAlgorithm {algorithm:?}, expected {ALGORITHM}");
            return Err(Failure::new(Kind::Validation, message));
        }
        let claims = attestation::verify(document, root, At::Time(now)).map_err(refusal)?;
        Self::of(claims, now)
    }

    fn of(claims: Claims, now: SystemTime) -> Result<Self, Failure> {
        let age = match now.duration_since(claims.timestamp) {
            Ok(age) => age,
            Err(ahead) => ahead.duration(),
        };
        if age > MAX_AGE {
            let (age, max) = (age.as_secs(), MAX_AGE.as_secs());
            return Err(refusal(format_args!("its timestamp is {age} s from now, expected at most {max}")));
        }
        let spki = claims.public_key.as_deref().ok_or_else(|| refusal("no public key, expected one"))?;
        let key = RecipientKey::parse(spki)?;
        Ok(Self { claims, key })
    }
}

impl RecipientKey {
    /// The library refuses keys of less than 2048 bits.
    fn parse(spki: &[u8]) -> Result<Self, Failure> {
        let refused = || refusal("public_key: expected the SubjectPublicKeyInfo of an RSA key of at least 2048 bits");
        let key = PublicEncryptingKey::from_der(spki).ok().ok_or_else(refused)?;
        // The library ignores trailing bytes.
        let again = AsDer::<PublicKeyX509Der<'_>>::as_der(&key).ok().ok_or_else(refused)?;
        if again.as_ref() != spki {
            return Err(refused());
        }
        OaepPublicEncryptingKey::new(key).map_err(|error| refusal(format_args!("public_key: {error}")))?;
        Ok(Self(spki.to_vec()))
    }

    /// Encrypts a secret for the recipient.
    pub(crate) fn seal(&self, secret: &[u8]) -> Result<EnvelopedData, Unspecified> {
        kms::seal::seal(&self.0, secret)
    }
}

fn refusal(reason: impl Display) -> Failure {
    Failure::new(Kind::Validation, "The attestation document is not valid.")
        .because(format!("attestation document: {reason}"))
}

#[cfg(test)]
mod tests {
    use attestation::test_root::{Fields, TestRoot};
    use aws_lc_rs::digest::{SHA256, digest};
    use aws_lc_rs::rsa::{KeySize, PrivateDecryptingKey};

    use super::*;

    fn spki() -> Vec<u8> {
        let key = PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap().public_key();
        AsDer::<PublicKeyX509Der<'_>>::as_der(&key).unwrap().as_ref().to_vec()
    }

    fn verify(fields: &Fields, now: SystemTime) -> Result<Recipient, Failure> {
        let root = TestRoot::new(now);
        Recipient::verify(ALGORITHM, &root.sign(fields), &root.trust_root(), now)
    }

    fn fields(timestamp: SystemTime, public_key: Option<Vec<u8>>) -> Fields {
        Fields { public_key, user_data: Some(Vec::new()), nonce: Some(Vec::new()), ..Fields::new(timestamp) }
    }

    fn reason(fields: &Fields, now: SystemTime) -> String {
        let failure = verify(fields, now).unwrap_err();
        assert_eq!(
            (failure.kind, failure.message.as_str()),
            (Kind::Validation, "The attestation document is not valid.")
        );
        failure.reason
    }

    #[test]
    fn a_document_with_an_rsa_key_is_good() {
        let (now, spki) = (SystemTime::now(), spki());
        let recipient = verify(&fields(now, Some(spki.clone())), now).unwrap();
        assert_eq!(recipient.key.seal(b"secret").unwrap().key_identifier, digest(&SHA256, &spki).as_ref());
        assert_eq!(recipient.claims.public_key, Some(spki));
    }

    #[test]
    fn another_root_s_document_is_refused() {
        let now = SystemTime::now();
        let document = TestRoot::new(now).sign(&fields(now, Some(spki())));
        for root in [TestRoot::new(now).trust_root(), TrustRoot::aws()] {
            let failure = Recipient::verify(ALGORITHM, &document, &root, now).unwrap_err();
            assert!(failure.reason.contains("is not the trusted root"), "{failure:?}");
        }
    }

    #[test]
    fn a_changed_document_is_refused() {
        let now = SystemTime::now();
        let root = TestRoot::new(now);
        let mut document = root.sign(&fields(now, Some(spki())));
        *document.last_mut().unwrap() ^= 1;
        let failure = Recipient::verify(ALGORITHM, &document, &root.trust_root(), now).unwrap_err();
        assert!(failure.reason.contains("signature"), "{failure:?}");
    }

    #[test]
    fn a_document_of_more_than_five_minutes_ago_or_ahead_is_refused() {
        let now = SystemTime::now();
        let second = Duration::from_secs(1);
        let key = spki();
        for timestamp in [now - MAX_AGE + second, now + MAX_AGE - second] {
            verify(&fields(timestamp, Some(key.clone())), now).unwrap();
        }
        for timestamp in [now - MAX_AGE - second, now + MAX_AGE + second] {
            let reason = reason(&fields(timestamp, Some(key.clone())), now);
            assert!(
                reason.contains("its timestamp is 301 s from now") || reason.contains("its timestamp is 300 s"),
                "{reason}"
            );
        }
    }

    #[test]
    fn a_document_without_a_public_key_is_refused() {
        let now = SystemTime::now();
        let claims = Claims { public_key: None, ..verify(&fields(now, Some(spki())), now).unwrap().claims };
        assert!(Recipient::of(claims, now).unwrap_err().reason.contains("no public key"));
    }

    #[test]
    fn a_public_key_is_exactly_one_spki() {
        let now = SystemTime::now();
        let good = spki();
        let pkcs1 = good[24..].to_vec();
        for wrong in [pkcs1, [&good[..], &[0]].concat(), good[..good.len() - 1].to_vec(), b"no key".to_vec()] {
            let reason = reason(&fields(now, Some(wrong)), now);
            assert!(reason.contains("expected the SubjectPublicKeyInfo"), "{reason}");
        }
    }

    #[test]
    fn a_short_key_is_refused() {
        let now = SystemTime::now();
        let reason = reason(&fields(now, Some(include_bytes!("recipient/rsa-1024.spki.der").to_vec())), now);
        assert!(reason.contains("of at least 2048 bits"), "{reason}");
    }

    #[test]
    fn another_algorithm_is_refused() {
        let now = SystemTime::now();
        let root = TestRoot::new(now);
        let document = root.sign(&fields(now, Some(spki())));
        let failure = Recipient::verify("RSAES_OAEP_SHA_1", &document, &root.trust_root(), now).unwrap_err();
        assert!(failure.message.contains("expected RSAES_OAEP_SHA_256"), "{failure:?}");
    }
}
