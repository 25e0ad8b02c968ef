//! KMS: encrypts a key so that only the enclave can decrypt it, and binds it to another context.

use std::collections::HashMap;

use anyhow::{Context as _, Result, ensure};
use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::Blob;
use ethereum::key::SecretKey;
use kms::KeyArn;

use super::call::cause;
use super::{Aws, EncryptionContext};

impl Aws {
    /// The ciphertext of `secret_key`'s text under KMS key `arn`, bound to `context`.
    ///
    /// The SDK's copies of the text, in its request's body and in TLS's buffers, are freed and not zeroed.
    ///
    /// # Errors
    /// KMS's refusal, and a response about another key.
    pub async fn encrypt(&self, secret_key: &SecretKey, arn: &KeyArn, context: &EncryptionContext) -> Result<Vec<u8>> {
        let doing = || format!("encrypt the key of {} with KMS key {arn}", secret_key.address());
        self.ask_to_encrypt(secret_key, arn, context).await.with_context(doing)
    }

    async fn ask_to_encrypt(
        &self,
        secret_key: &SecretKey,
        arn: &KeyArn,
        context: &EncryptionContext,
    ) -> Result<Vec<u8>> {
        let request = self.kms(arn)?.encrypt().key_id(arn.as_str());
        let request = request.set_encryption_context(Some(pairs(context)));
        let request = request.plaintext(Blob::new(secret_key.expose_plaintext().as_bytes()));
        let answer = request.send().await.map_err(|error| cause(&self.kms_host(), error))?;
        checked(arn, answer.key_id.as_deref(), answer.ciphertext_blob)
    }

    /// The ciphertext of the same secret under the same key, bound to another context. The secret stays in KMS.
    ///
    /// # Errors
    /// KMS's refusal, and a response about another key.
    pub async fn bind_anew(
        &self,
        ciphertext: Vec<u8>,
        arn: &KeyArn,
        [old, new]: [&EncryptionContext; 2],
    ) -> Result<Vec<u8>> {
        let doing = || format!("have KMS key {arn} encrypt with {new} what it encrypted with {old}");
        let request = self.kms(arn).with_context(doing)?.re_encrypt().ciphertext_blob(Blob::new(ciphertext));
        let request = request.source_key_id(arn.as_str()).set_source_encryption_context(Some(pairs(old)));
        let request = request.destination_key_id(arn.as_str()).set_destination_encryption_context(Some(pairs(new)));
        let answer = request.send().await.map_err(|error| cause(&self.kms_host(), error)).with_context(doing)?;
        checked(arn, answer.key_id.as_deref(), answer.ciphertext_blob).with_context(doing)
    }

    /// The key's policy, JSON.
    ///
    /// # Errors
    /// KMS's refusal.
    pub async fn key_policy(&self, arn: &KeyArn) -> Result<String> {
        let doing = || format!("read the policy of KMS key {arn}");
        let request = self.kms(arn).with_context(doing)?.get_key_policy().key_id(arn.as_str());
        let answer = request.send().await.map_err(|error| cause(&self.kms_host(), error)).with_context(doing)?;
        answer.policy.context("KMS sent none").with_context(doing)
    }

    fn kms(&self, arn: &KeyArn) -> Result<Client> {
        ensure!(
            arn.region() == self.region,
            "the key is in region {}, and the client in {}; expected no region, or the key's",
            arn.region(),
            self.region
        );
        Ok(Client::new(&self.sdk_config(self.kms_endpoint.as_ref())))
    }

    fn kms_host(&self) -> String {
        self.host(self.kms_endpoint.as_ref(), "kms")
    }
}

fn pairs(context: &EncryptionContext) -> HashMap<String, String> {
    context.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn checked(arn: &KeyArn, used: Option<&str>, ciphertext: Option<Blob>) -> Result<Vec<u8>> {
    ensure!(
        used == Some(arn.as_str()),
        "KMS used another key, {:?}: the ciphertext was discarded",
        used.unwrap_or_default()
    );
    let ciphertext = ciphertext.map(Blob::into_inner).unwrap_or_default();
    ensure!(!ciphertext.is_empty(), "KMS sent no ciphertext");
    Ok(ciphertext)
}
