//! Secrets Manager: keeps ciphertexts. The `SecretString` of such a secret is the base64 of what KMS encrypted.

use anyhow::{Context as _, Result, ensure};
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueOutput;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kms::MAX_SECRET_ID_LEN;
use zeroize::Zeroizing;

use super::Aws;
use super::call::cause;

const DESCRIPTION: &str = "An Ethereum key, encrypted by KMS for an enclave";

/// A ciphertext in Secrets Manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The secret's ARN.
    pub arn: String,
    /// Which of its versions this is.
    pub version_id: String,
    /// Whether the secret was not there before.
    pub is_new_secret: bool,
}

impl Aws {
    /// Makes `ciphertext` the current version of a secret, which is created if it is not there. The version before it stays,
    /// as `AWSPREVIOUS`.
    ///
    /// # Errors
    /// What Secrets Manager says.
    pub async fn store(&self, secret_id: &str, ciphertext: &[u8]) -> Result<Stored> {
        let doing = || format!("store the encrypted key in secret {secret_id:?}");
        check_id(secret_id).with_context(doing)?;
        let text = STANDARD.encode(ciphertext);
        let client = self.secrets();
        let put = client.put_secret_value().secret_id(secret_id).secret_string(&text).send().await;
        let (arn, version_id, is_new_secret) = match put {
            Ok(answer) => (answer.arn, answer.version_id, false),
            Err(error) if error.as_service_error().is_some_and(|error| error.is_resource_not_found_exception()) => {
                let none = "there is no such secret, and an ARN cannot be given to a new one: write its name";
                ensure!(!secret_id.starts_with("arn:"), "{}: {none}", doing());
                let create = client.create_secret().name(secret_id).description(DESCRIPTION).secret_string(&text);
                let answer = create.send().await.map_err(cause).context("create it").with_context(doing)?;
                (answer.arn, answer.version_id, true)
            }
            Err(error) => return Err(cause(error)).with_context(doing),
        };
        let arn = arn.context("Secrets Manager sent no ARN").with_context(doing)?;
        let version_id = version_id.context("Secrets Manager sent no VersionId").with_context(doing)?;
        Ok(Stored { arn, version_id, is_new_secret })
    }

    /// The current ciphertext of a secret.
    ///
    /// # Errors
    /// What Secrets Manager says, and a secret that holds something else.
    pub async fn stored(&self, secret_id: &str) -> Result<(Stored, Vec<u8>)> {
        let doing = || format!("read secret {secret_id:?}");
        let answer = self.current(secret_id).await.with_context(doing)?;
        let text = answer.secret_string.context("it has no SecretString, expected base64 of a ciphertext");
        // An error of the decoder would show a part of what may be no ciphertext.
        let ciphertext = STANDARD.decode(text.with_context(doing)?.trim()).ok();
        let ciphertext = ciphertext.filter(|ciphertext| !ciphertext.is_empty());
        let ciphertext =
            ciphertext.context("its SecretString is not the base64 of a ciphertext, as `wallet set-key` stores it");
        let arn = answer.arn.context("Secrets Manager sent no ARN").with_context(doing)?;
        let version_id = answer.version_id.context("Secrets Manager sent no VersionId").with_context(doing)?;
        Ok((Stored { arn, version_id, is_new_secret: false }, ciphertext.with_context(doing)?))
    }

    /// The current text of a secret, whatever it is.
    ///
    /// The SDK's copies of it, in TLS's buffers and the answer's body, are freed and not zeroed.
    ///
    /// # Errors
    /// What Secrets Manager says, and a secret that is binary.
    pub async fn text(&self, secret_id: &str) -> Result<Zeroizing<String>> {
        let doing = || format!("read secret {secret_id:?}");
        let answer = self.current(secret_id).await.with_context(doing)?;
        let text = answer.secret_string.map(Zeroizing::new);
        text.context("it is binary, expected text: a SecretString").with_context(doing)
    }

    async fn current(&self, secret_id: &str) -> Result<GetSecretValueOutput> {
        check_id(secret_id)?;
        self.secrets().get_secret_value().secret_id(secret_id).send().await.map_err(cause)
    }

    fn secrets(&self) -> Client {
        Client::new(&self.sdk_config(self.secrets_endpoint.as_ref()))
    }
}

fn check_id(secret_id: &str) -> Result<()> {
    let is_right =
        (1..=MAX_SECRET_ID_LEN).contains(&secret_id.len()) && secret_id.bytes().all(|byte| byte.is_ascii_graphic());
    ensure!(is_right, "expected a secret's name or ARN, 1 to {MAX_SECRET_ID_LEN} printable characters");
    Ok(())
}
