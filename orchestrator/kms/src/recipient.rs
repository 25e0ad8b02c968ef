//! The key pair to which KMS encrypts.

use aws_lc_rs::cipher::{AES_256, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rand;
use aws_lc_rs::rsa::{KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::Plaintext;
use crate::cms::{self, CmsError, EnvelopedData};

/// An AES-256 key's length in bytes.
const CONTENT_KEY_LEN: usize = 32;

/// This boot's RSA-2048 key pair. The private key cannot be exported.
pub struct Recipient {
    private_key: OaepPrivateDecryptingKey,
    public_key: Vec<u8>,
    key_identifier: [u8; 32],
}

/// Why there is no key pair.
#[derive(Debug, Error)]
pub enum KeyError {
    /// The library generated none, or not an RSA-2048 key.
    #[error("make an RSA-2048 key pair")]
    Generate(#[source] aws_lc_rs::error::Unspecified),
    /// The bytes are not such a key.
    #[error("read an RSA key pair")]
    Read(#[from] aws_lc_rs::error::KeyRejected),
}

impl Recipient {
    /// Generates a key pair, which takes about a tenth of a second.
    ///
    /// # Errors
    /// If the library has no randomness or no memory.
    pub fn generate() -> Result<Self, KeyError> {
        Self::new(PrivateDecryptingKey::generate(KeySize::Rsa2048).map_err(KeyError::Generate)?)
    }

    /// Reads an existing key pair, for tests with messages from elsewhere.
    ///
    /// # Errors
    /// Anything but the PKCS #8 DER of an RSA key pair of 2048 bits or more.
    #[cfg(any(test, feature = "seal"))]
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        Self::new(PrivateDecryptingKey::from_pkcs8(der)?)
    }

    fn new(key: PrivateDecryptingKey) -> Result<Self, KeyError> {
        let public_key = AsDer::<PublicKeyX509Der<'_>>::as_der(&key.public_key()).map_err(KeyError::Generate)?;
        let public_key = public_key.as_ref().to_vec();
        let private_key = OaepPrivateDecryptingKey::new(key).map_err(KeyError::Generate)?;
        let key_identifier = key_identifier(&public_key);
        Ok(Self { private_key, public_key, key_identifier })
    }

    /// The SubjectPublicKeyInfo (RFC 5280, section 4.1) in DER: what the attestation document has to hold as
    /// `public_key`.
    #[must_use]
    pub fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    /// Decrypts KMS's `CiphertextForRecipient`.
    ///
    /// # Errors
    /// Messages that are malformed or not for this key, by name; all others alike.
    pub fn open(&self, message: &[u8]) -> Result<Plaintext, CmsError> {
        let message = cms::parse(message)?;
        if message.key_identifier != self.key_identifier {
            return Err(CmsError::OtherRecipient);
        }
        let (found, expected) = (message.encrypted_key.len(), self.private_key.key_size_bytes());
        if found != expected {
            return Err(CmsError::EncryptedKey { found, expected });
        }
        self.decrypt(message).ok_or(CmsError::Undecryptable)
    }

    /// If the content key does not decrypt, a random one is used to decrypt the content. So the sender cannot learn
    /// from the timing which of the two was wrong (RFC 3218, section 2.3.2).
    fn decrypt(&self, message: EnvelopedData) -> Option<Plaintext> {
        let mut substitute = Zeroizing::new([0; CONTENT_KEY_LEN]);
        rand::fill(&mut *substitute).ok()?;
        let mut buffer = Zeroizing::new(vec![0; self.private_key.min_output_size()]);
        let decrypted = self.private_key.decrypt(&OAEP_SHA256_MGF1SHA256, &message.encrypted_key, &mut buffer, None);
        let content_key = decrypted.ok().filter(|key| key.len() == CONTENT_KEY_LEN);
        let has_content_key = content_key.is_some();
        let content_key = content_key.map_or(&substitute[..], |key| key);

        let key = UnboundCipherKey::new(&AES_256, content_key).ok()?;
        let key = PaddedBlockDecryptingKey::cbc_pkcs7(key).ok()?;
        let vector = DecryptionContext::Iv128(FixedLength::from(message.initialisation_vector));
        let mut content = Zeroizing::new(message.encrypted_content);
        let length = key.decrypt(&mut content, vector).ok()?.len();
        content.truncate(length);
        has_content_key.then(|| Plaintext::new(content))
    }
}

/// How KMS names a recipient: the SHA-256 of its SubjectPublicKeyInfo.
pub(crate) fn key_identifier(public_key: &[u8]) -> [u8; 32] {
    let mut identifier = [0; 32];
    identifier.copy_from_slice(digest(&SHA256, public_key).as_ref());
    identifier
}
