//! What the signer needs from the rest of the enclave: keys, attestation documents, and addresses of hubs.

use std::future::Future;
use std::io;
use std::net::IpAddr;

use ethereum::address::Address;
use ethereum::key::SecretKey;
use signer_api::key::{Credential, KeyReference};
use thiserror::Error;

/// A decrypted key.
#[derive(Debug)]
pub struct FetchedKey {
    /// From KMS's plaintext.
    pub key: SecretKey,
    /// Secrets Manager's version, where the key came from there; for the log.
    pub version: Option<String>,
}

/// A new key, of which only the ciphertext leaves the enclave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GeneratedKey {
    /// Its account.
    pub address: Address,
    /// KMS's `CiphertextBlob` of [`SecretKey::expose_plaintext`].
    pub ciphertext: Vec<u8>,
}

/// Why there is no key. The client and the log get these texts, so they hold no secrets.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    /// A name or an ARN that no secret of this enclave can have; no request was made: 400.
    #[error("secret_id: {0}")]
    SecretId(String),
    /// No such secret: 404.
    #[error("no such secret")]
    NotFound,
    /// AWS refuses the request's own credentials (expired, unknown, foreign): 403.
    #[error("AWS refuses the request's credential: {0}")]
    Credential(String),
    /// KMS or Secrets Manager refuses, or AWS refuses the role's credentials: 502.
    #[error("AWS refuses: {0}")]
    Refused(String),
    /// An unexpected response: another key id, a plaintext where there must be none, a plaintext that is not a key: 502.
    #[error("unexpected response from AWS: {0}")]
    Answer(String),
    /// Throttled, a 5xx, or no response in time, after retries: 503.
    #[error("AWS is unavailable: {0}")]
    Unavailable(String),
    /// More keys are being fetched than the signer fetches at once: 429.
    #[error("too many keys are being fetched")]
    Busy,
}

/// Fetches and generates keys. The implementation retries and has deadlines towards AWS; the signer drops a call that
/// exceeds its own limit.
pub trait Keys: Send + Sync + 'static {
    /// Fetches a key and decrypts it, with the request's credentials or else the enclave's own.
    fn fetch(
        &self,
        reference: &KeyReference,
        credential: Option<&Credential>,
    ) -> impl Future<Output = Result<FetchedKey, KeyError>> + Send;

    /// Generates a key and encrypts it.
    fn generate(&self, credential: Option<&Credential>) -> impl Future<Output = Result<GeneratedKey, KeyError>> + Send;
}

/// Why there is no document; for the log.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("attestation document: {0}")]
pub struct AttestorError(pub String);

/// Gets attestation documents from the NSM.
pub trait Attestor: Send + Sync + 'static {
    /// A fresh document, COSE_Sign1, with these fields.
    fn document(&self, user_data: &[u8], nonce: &[u8]) -> impl Future<Output = Result<Vec<u8>, AttestorError>> + Send;
}

/// Finds the addresses of hubs.
pub trait Resolve: Send + Sync + 'static {
    /// All addresses of a host name. The caller has a deadline.
    fn addresses(&self, name: &str) -> impl Future<Output = io::Result<Vec<IpAddr>>> + Send;
}
