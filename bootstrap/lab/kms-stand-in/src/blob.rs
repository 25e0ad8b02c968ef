//! The stand-in's ciphertexts. Like KMS's, they are opaque to clients.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::arn::{KeyArn, KeyId};
use crate::context::EncryptionContext;

/// KMS's limit (Decrypt, `CiphertextBlob`).
pub(crate) const MAX_LEN: usize = 6144;
const VERSION: u8 = 1;
const TAG_LEN: usize = 16;
const HEADER_LEN: usize = 1 + KeyId::LEN + NONCE_LEN;

/// A key's material and ARN.
pub(crate) struct Sealer<'a> {
    pub(crate) arn: &'a KeyArn,
    pub(crate) material: &'a [u8; 32],
}

/// A well-formed ciphertext.
///
/// | offset | bytes  | meaning                                                             |
/// |--------|--------|---------------------------------------------------------------------|
/// | 0      | 1      | version, 1                                                          |
/// | 1      | 16     | the key's UUID                                                      |
/// | 17     | 12     | nonce, random                                                       |
/// | 29     | n + 16 | AES-256-GCM's ciphertext and tag                                    |
///
/// The additional authenticated data is the version, the length of the key's ARN, the ARN, and the encryption context
/// ([`EncryptionContext::to_bytes`]).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Blob<'a> {
    pub(crate) key_id: KeyId,
    nonce: [u8; NONCE_LEN],
    sealed: &'a [u8],
}

impl<'a> Blob<'a> {
    /// `None` if it is malformed.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let is_right_length = bytes.len() >= HEADER_LEN + TAG_LEN && bytes.len() <= MAX_LEN;
        let (&version, rest) = bytes.split_first()?;
        let (&key_id, rest) = rest.split_first_chunk()?;
        let (&nonce, sealed) = rest.split_first_chunk()?;
        (is_right_length && version == VERSION).then_some(Self { key_id: KeyId(key_id), nonce, sealed })
    }
}

impl Sealer<'_> {
    /// The nonce must be unique for this key.
    pub(crate) fn seal(&self, plaintext: &[u8], context: &EncryptionContext, nonce: [u8; NONCE_LEN]) -> Vec<u8> {
        let mut sealed = plaintext.to_vec();
        self.key()
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(self.authenticated(context)),
                &mut sealed,
            )
            .expect("a request's plaintext is far below the cipher's limit of 64 GiB");
        [&[VERSION], self.arn.id().0.as_slice(), &nonce, &sealed].concat()
    }

    /// `None` if it was changed, or the key or the context is another.
    pub(crate) fn open(&self, blob: &Blob<'_>, context: &EncryptionContext) -> Option<Zeroizing<Vec<u8>>> {
        let mut bytes = Zeroizing::new(blob.sealed.to_vec());
        let nonce = Nonce::assume_unique_for_key(blob.nonce);
        let len = self.key().open_in_place(nonce, Aad::from(self.authenticated(context)), &mut bytes).ok()?.len();
        bytes.truncate(len);
        Some(bytes)
    }

    fn authenticated(&self, context: &EncryptionContext) -> Vec<u8> {
        let arn = self.arn.as_str().as_bytes();
        [&[VERSION], (arn.len() as u64).to_be_bytes().as_slice(), arn, &context.to_bytes()].concat()
    }

    fn key(&self) -> LessSafeKey {
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, self.material).expect("32 bytes are a key of AES-256"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NONCE: [u8; 12] = [7; 12];

    fn arn(last: char) -> KeyArn {
        let text = "arn:aws:kms:eu-central-1:111122223333:key/01234567-89ab-cdef-0123-456789abcde";
        format!("{text}{last}").parse().unwrap()
    }

    fn context(json: &str) -> EncryptionContext {
        serde_json::from_str(json).unwrap()
    }

    /// Computed with another implementation of AES-GCM (Python's `cryptography`).
    const GOLDEN: &str =
        "010123456789abcdef0123456789abcdef070707070707070707070707fe9689d66ada17328b288c7c9b3069ba853ca1941558";

    #[test]
    fn a_ciphertext_has_these_bytes() {
        let arn = arn('f');
        let sealer = Sealer { arn: &arn, material: &[1; 32] };
        let sealed = sealer.seal(b"secret", &context(r#"{"purpose": "test"}"#), NONCE);
        assert_eq!(const_hex::encode(sealed), GOLDEN);
    }

    #[test]
    fn a_ciphertext_opens_with_its_key_and_context_alone() {
        let (arn, other) = (arn('f'), arn('0'));
        let (right, wrong) = (context(r#"{"purpose": "test"}"#), context(r#"{"purpose": "tost"}"#));
        let sealer = Sealer { arn: &arn, material: &[1; 32] };
        let bytes = sealer.seal(b"secret", &right, NONCE);
        let blob = Blob::parse(&bytes).unwrap();
        assert_eq!(blob.key_id, arn.id());
        assert_eq!(sealer.open(&blob, &right).unwrap().as_slice(), b"secret");
        assert_eq!(sealer.open(&blob, &wrong), None);
        assert_eq!(sealer.open(&blob, &EncryptionContext::empty()), None);
        assert_eq!(Sealer { arn: &arn, material: &[2; 32] }.open(&blob, &right), None);
        assert_eq!(Sealer { arn: &other, material: &[1; 32] }.open(&blob, &right), None);
    }

    #[test]
    fn a_ciphertext_of_which_one_bit_changed_does_not_open() {
        let arn = arn('f');
        let sealer = Sealer { arn: &arn, material: &[1; 32] };
        let bytes = sealer.seal(b"secret", &EncryptionContext::empty(), NONCE);
        for index in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[index] ^= 1;
            let opened = Blob::parse(&changed)
                .filter(|blob| blob.key_id == arn.id())
                .and_then(|blob| sealer.open(&blob, &EncryptionContext::empty()));
            assert_eq!(opened, None, "byte {index}");
        }
    }

    #[test]
    fn what_is_too_short_or_too_long_is_no_ciphertext() {
        let mut bytes = [&[1][..], &[0; 44]].concat();
        assert!(Blob::parse(&bytes).is_some());
        assert_eq!(Blob::parse(&bytes[..44]), None);
        bytes.resize(MAX_LEN, 0);
        assert!(Blob::parse(&bytes).is_some());
        bytes.push(0);
        assert_eq!(Blob::parse(&bytes), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let arn = arn('f');
            let opened = Blob::parse(&bytes)
                .and_then(|blob| Sealer { arn: &arn, material: &[1; 32] }.open(&blob, &EncryptionContext::empty()));
            prop_assert_eq!(opened, None);
        }
    }
}
