//! What the signer asks of the rest of the enclave: keys and attestation documents.

use std::fmt;
use std::future::Future;

use ethereum::address::Address;
use ethereum::key::SecretKey;
use thiserror::Error;
use zeroize::Zeroizing;

/// Which key a request means.
#[derive(Clone, PartialEq, Eq)]
pub enum KeyReference {
    /// Name or ARN of a Secrets Manager secret.
    SecretId(String),
    /// KMS's `CiphertextBlob`.
    EncryptedKey(Vec<u8>),
}

impl fmt::Debug for KeyReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SecretId(id) => write!(f, "SecretId({id:?})"),
            Self::EncryptedKey(bytes) => write!(f, "EncryptedKey({} bytes)", bytes.len()),
        }
    }
}

/// AWS credentials that came with a request.
pub struct Credential {
    access_key_id: String,
    secret_access_key: Zeroizing<String>,
    token: Option<Zeroizing<String>>,
}

impl Credential {
    /// Of long-term credentials (no token) or temporary ones.
    #[must_use]
    pub fn new(access_key_id: String, secret_access_key: Zeroizing<String>, token: Option<Zeroizing<String>>) -> Self {
        Self { access_key_id, secret_access_key, token }
    }

    /// Its public half.
    #[must_use]
    pub fn access_key_id(&self) -> &str {
        &self.access_key_id
    }

    /// To sign AWS requests with.
    #[must_use]
    pub fn expose_secret_access_key(&self) -> &str {
        &self.secret_access_key
    }

    /// To send with AWS requests.
    #[must_use]
    pub fn expose_token(&self) -> Option<&str> {
        self.token.as_ref().map(|token| token.as_str())
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({}, redacted)", self.access_key_id)
    }
}

/// A decrypted key.
#[derive(Debug)]
pub struct FetchedKey {
    /// As KMS's plaintext had it.
    pub key: SecretKey,
    /// Secrets Manager's version, where the key came from there; for the log.
    pub version: Option<String>,
}

/// A new key that nobody has seen in plain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GeneratedKey {
    /// Its account.
    pub address: Address,
    /// KMS's `CiphertextBlob` of [`SecretKey::expose_plaintext`].
    pub ciphertext: Vec<u8>,
}

/// Why there is no key. The texts go to the client and into the log: no secrets.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    /// No secret of this enclave's can have that name or ARN, and nobody was asked: 400.
    #[error("secret_id: {0}")]
    SecretId(String),
    /// No such secret: 404.
    #[error("there is no such secret")]
    NotFound,
    /// AWS refuses the request's own credentials (expired, unknown, foreign): 403.
    #[error("AWS refuses the credential that came with the request: {0}")]
    Credential(String),
    /// KMS or Secrets Manager says no, or AWS refuses the role's credentials: 502.
    #[error("AWS refuses: {0}")]
    Refused(String),
    /// An answer that is wrong: another key id, a plaintext where there must be none, a plaintext that is no key: 502.
    #[error("AWS answers wrongly: {0}")]
    Answer(String),
    /// Throttled, a 5xx, or no answer in time, after retries: 503.
    #[error("AWS does not answer now: {0}")]
    Unavailable(String),
    /// More keys are being fetched than the signer fetches at once: 429.
    #[error("too many keys are being fetched")]
    Busy,
}

/// Fetches and makes keys. Retries and deadlines towards AWS are the implementation's; the signer drops a call that
/// outlasts its own limit.
pub trait Keys: Send + Sync + 'static {
    /// Fetches a key and decrypts it, with the request's credentials or else the enclave's own.
    fn fetch(
        &self,
        reference: &KeyReference,
        credential: Option<&Credential>,
    ) -> impl Future<Output = Result<FetchedKey, KeyError>> + Send;

    /// Makes a key and encrypts it.
    fn generate(&self, credential: Option<&Credential>) -> impl Future<Output = Result<GeneratedKey, KeyError>> + Send;
}

/// Why there is no document; for the log.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("attestation document: {0}")]
pub struct AttestorError(pub String);

/// Asks the NSM for attestation documents.
pub trait Attestor: Send + Sync + 'static {
    /// A fresh document, COSE_Sign1, with these fields.
    fn document(&self, user_data: &[u8], nonce: &[u8]) -> impl Future<Output = Result<Vec<u8>, AttestorError>> + Send;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_neither_secrets_nor_tokens_nor_ciphertexts() {
        let secret = |text: &str| Zeroizing::new(text.to_owned());
        let credential = Credential::new("AKIAEXAMPLE".into(), secret("hush"), Some(secret("psst")));
        assert_eq!(format!("{credential:?}"), "Credential(AKIAEXAMPLE, redacted)");
        assert_eq!(format!("{:?}", KeyReference::EncryptedKey(vec![7; 99])), "EncryptedKey(99 bytes)");
    }
}
