//! KMS: encrypts a key so that only the enclave can decrypt it.

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
        ensure!(
            arn.region() == self.region,
            "the key is in region {}, and the client in {}; expected no region, or the key's",
            arn.region(),
            self.region
        );
        let context = context.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let request = Client::new(&self.sdk_config(self.kms_endpoint.as_ref()))
            .encrypt()
            .key_id(arn.as_str())
            .set_encryption_context(Some(context))
            .plaintext(Blob::new(secret_key.expose_plaintext().as_bytes()));
        let host = self.host(self.kms_endpoint.as_ref(), "kms");
        let answer = request.send().await.map_err(|error| cause(&host, error))?;
        ensure!(
            answer.key_id() == Some(arn.as_str()),
            "KMS used another key, {:?}: the ciphertext was discarded",
            answer.key_id().unwrap_or_default()
        );
        let ciphertext = answer.ciphertext_blob.map(Blob::into_inner).unwrap_or_default();
        ensure!(!ciphertext.is_empty(), "KMS sent no ciphertext");
        Ok(ciphertext)
    }
}
