//! What the signer asks of the rest of the enclave: keys and attestation documents.

use std::future::Future;

use ethereum::address::Address;
use ethereum::key::SecretKey;
use signer_api::key::{Credential, KeyReference};
use thiserror::Error;

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
