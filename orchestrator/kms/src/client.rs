//! KMS: Decrypt with an attestation document, and Encrypt.

use std::io;
use std::time::Duration;

use aws_sdk_kms::operation::decrypt::DecryptOutput;
use aws_sdk_kms::operation::encrypt::EncryptOutput;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{KeyEncryptionMechanism, RecipientInfo};
use thiserror::Error;

use crate::cms::CmsError;
use crate::config::KmsSettings;
use crate::credentials::Credentials;
use crate::https::{CallError, Https};
use crate::key_arn::KeyArn;
use crate::plaintext::Plaintext;
use crate::recipient::Recipient;
use crate::retry::{Attempt, retry};
use crate::sdk;

/// The longest ciphertext in bytes that KMS accepts
/// (<https://docs.aws.amazon.com/kms/latest/APIReference/API_Decrypt.html>).
pub const MAX_CIPHERTEXT_LEN: usize = 6144;
/// The longest plaintext in bytes that KMS accepts
/// (<https://docs.aws.amazon.com/kms/latest/APIReference/API_Encrypt.html>).
pub const MAX_PLAINTEXT_LEN: usize = 4096;

/// Gets attestation documents from the Nitro hypervisor.
pub trait Attestor {
    /// A document made now, whose `public_key` is `public_key`: a SubjectPublicKeyInfo in DER.
    fn document(&self, public_key: &[u8]) -> impl Future<Output = io::Result<Vec<u8>>> + Send;
}

/// A client of KMS for this enclave, with one key only.
pub struct Client<A> {
    settings: KmsSettings,
    https: Https,
    recipient: Recipient,
    attestor: A,
}

/// Why KMS gave no plaintext or ciphertext.
#[derive(Debug, Error)]
pub enum KmsError {
    /// Empty, or longer than KMS accepts.
    #[error("{found} bytes to send to KMS, expected 1 to {longest}")]
    Length {
        /// The actual length.
        found: usize,
        /// KMS's limit.
        longest: usize,
    },
    /// The hypervisor gave no attestation document.
    #[error("get an attestation document")]
    Attest(#[source] io::Error),
    /// KMS gave no response.
    #[error("ask KMS")]
    Call(#[source] CallError),
    /// The response is about another key than the requested one.
    #[error("KMS used key {found:?}, expected {expected}")]
    OtherKey {
        /// The key in the answer.
        found: Option<String>,
        /// The key in the configuration.
        expected: KeyArn,
    },
    /// The response has the plaintext itself, so the server ignored the attestation document.
    #[error("KMS sent a plaintext that is not encrypted to this enclave")]
    Plaintext,
    /// The answer is empty.
    #[error("KMS sent no {0}")]
    Missing(&'static str),
    /// The answer cannot be decrypted.
    #[error("open KMS's answer")]
    Open(#[from] CmsError),
}

impl<A: Attestor> Client<A> {
    /// Makes no request yet.
    #[must_use]
    pub fn new(settings: KmsSettings, https: Https, recipient: Recipient, attestor: A) -> Self {
        Self { settings, https, recipient, attestor }
    }

    /// Decrypts what was encrypted under the configuration's key and context.
    ///
    /// Each attempt uses a fresh attestation document: KMS refuses documents older than five minutes.
    ///
    /// # Errors
    /// See [`KmsError`]; only overload, timeouts and broken connections are retried.
    pub async fn decrypt(&self, ciphertext: &[u8], credentials: &Credentials) -> Result<Plaintext, KmsError> {
        check_length(ciphertext, MAX_CIPHERTEXT_LEN)?;
        let client = self.sdk(credentials);
        let answer = retry(self.settings.retry_budget, || self.ask_to_decrypt(&client, ciphertext)).await?;
        Ok(self.recipient.open(&message_in(answer, &self.settings.key)?)?)
    }

    /// Encrypts a secret that was generated here, so that it can leave.
    ///
    /// Only KMS sees the secret, through TLS, as it does each time that it decrypts it. A secret that KMS generates
    /// (GenerateDataKey) would not differ in that, and could not have a form of our own. The SDK's copies of the
    /// secret, in its request's body, are freed and not zeroed.
    ///
    /// Encrypt does not support attestation: the role alone allows it.
    ///
    /// # Errors
    /// As [`Client::decrypt`].
    pub async fn encrypt(&self, secret: &Plaintext, credentials: &Credentials) -> Result<Vec<u8>, KmsError> {
        check_length(secret.expose(), MAX_PLAINTEXT_LEN)?;
        let client = self.sdk(credentials);
        let answer = retry(self.settings.retry_budget, || self.ask_to_encrypt(&client, secret)).await?;
        ciphertext_in(answer, &self.settings.key)
    }

    async fn ask_to_decrypt(&self, client: &aws_sdk_kms::Client, ciphertext: &[u8]) -> Result<DecryptOutput, KmsError> {
        let document = self.attestor.document(self.recipient.public_key()).await.map_err(KmsError::Attest)?;
        let recipient = RecipientInfo::builder()
            .key_encryption_algorithm(KeyEncryptionMechanism::RsaesOaepSha256)
            .attestation_document(Blob::new(document))
            .build();
        let request = client
            .decrypt()
            .key_id(self.settings.key.as_str())
            .set_encryption_context(Some(self.context()))
            .ciphertext_blob(Blob::new(ciphertext))
            .recipient(recipient);
        request.send().await.map_err(|error| KmsError::Call(CallError::of(error)))
    }

    async fn ask_to_encrypt(
        &self,
        client: &aws_sdk_kms::Client,
        secret: &Plaintext,
    ) -> Result<EncryptOutput, KmsError> {
        let request = client
            .encrypt()
            .key_id(self.settings.key.as_str())
            .set_encryption_context(Some(self.context()))
            .plaintext(Blob::new(secret.expose()));
        request.send().await.map_err(|error| KmsError::Call(CallError::of(error)))
    }

    fn context(&self) -> std::collections::HashMap<String, String> {
        self.settings.encryption_context.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    fn sdk(&self, credentials: &Credentials) -> aws_sdk_kms::Client {
        let KmsSettings { key, endpoint, .. } = &self.settings;
        aws_sdk_kms::Client::new(&sdk::config(key.region(), Some(endpoint), &self.https, credentials))
    }
}

impl Attempt for KmsError {
    fn is_transient(&self) -> bool {
        matches!(self, Self::Call(error) if error.is_transient())
    }

    fn timed_out(after: Duration) -> Self {
        Self::Call(CallError::TimedOut(after))
    }

    fn gave_up(attempts: u32, last: Self) -> Self {
        // Only these errors are transient.
        let Self::Call(last) = last else { return last };
        Self::Call(CallError::gave_up(attempts, last))
    }
}

fn check_length(bytes: &[u8], longest: usize) -> Result<(), KmsError> {
    let found = bytes.len();
    if (1..=longest).contains(&found) { Ok(()) } else { Err(KmsError::Length { found, longest }) }
}

fn message_in(answer: DecryptOutput, key: &KeyArn) -> Result<Vec<u8>, KmsError> {
    // KMS documents the field as null or empty when it heeds an attestation document.
    if answer.plaintext().is_some_and(|plaintext| !plaintext.as_ref().is_empty()) {
        return Err(KmsError::Plaintext);
    }
    check_key(answer.key_id(), key)?;
    let message = answer.ciphertext_for_recipient.ok_or(KmsError::Missing("CiphertextForRecipient"))?;
    Ok(message.into_inner())
}

fn ciphertext_in(answer: EncryptOutput, key: &KeyArn) -> Result<Vec<u8>, KmsError> {
    check_key(answer.key_id(), key)?;
    let ciphertext = answer.ciphertext_blob.ok_or(KmsError::Missing("CiphertextBlob"))?;
    Ok(ciphertext.into_inner())
}

fn check_key(found: Option<&str>, expected: &KeyArn) -> Result<(), KmsError> {
    if found == Some(expected.as_str()) {
        return Ok(());
    }
    Err(KmsError::OtherKey { found: found.map(str::to_owned), expected: expected.clone() })
}
