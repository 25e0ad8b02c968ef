//! Secrets Manager: where the encrypted keys are kept. It never sees what is in them.

use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueOutput;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

use crate::client::MAX_CIPHERTEXT_LEN;
use crate::config::SecretsSettings;
use crate::credentials::Credentials;
use crate::https::{CallError, Https};
use crate::retry::retry;
use crate::sdk;

/// The longest name or ARN of a secret in bytes
/// (<https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html>).
pub const MAX_SECRET_ID_LEN: usize = 2048;

/// Asks Secrets Manager, in the region of the KMS key.
pub struct Secrets {
    settings: SecretsSettings,
    https: Https,
}

/// A key as it is stored: `SecretString` is the base64 of what KMS's Encrypt answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKey {
    /// Which of the secret's versions this is; a version's content never changes.
    pub version_id: String,
    /// What KMS decrypts.
    pub ciphertext: Vec<u8>,
}

/// Why there is no [`StoredKey`].
#[derive(Debug, Error)]
pub enum SecretsError {
    /// No secret has such a name.
    #[error("secret_id: expected a secret's name or ARN, 1 to {MAX_SECRET_ID_LEN} printable characters")]
    Id,
    /// Secrets Manager gave no answer.
    #[error("ask Secrets Manager")]
    Call(#[source] CallError),
    /// The answer does not say which version it is.
    #[error("Secrets Manager sent no VersionId")]
    NoVersion,
    /// The secret is binary or empty.
    #[error("the secret has no SecretString: store the base64 of a KMS ciphertext")]
    NoString,
    /// The secret is some other text.
    #[error("the secret is not the base64 of a KMS ciphertext")]
    Base64(#[from] base64::DecodeError),
    /// The secret decodes to nothing, or to more than KMS takes.
    #[error("the secret is {0} bytes long, expected 1 to {MAX_CIPHERTEXT_LEN}")]
    Length(usize),
}

impl Secrets {
    /// Asks nobody yet.
    #[must_use]
    pub fn new(settings: SecretsSettings, https: Https) -> Self {
        Self { settings, https }
    }

    /// The current version of a secret, by its name or ARN.
    ///
    /// # Errors
    /// What is in [`SecretsError`]; only overload, silence and broken connections are tried again.
    pub async fn stored_key(&self, secret_id: &str, credentials: &Credentials) -> Result<StoredKey, SecretsError> {
        if !(1..=MAX_SECRET_ID_LEN).contains(&secret_id.len()) || !secret_id.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return Err(SecretsError::Id);
        }
        let client = self.sdk(credentials);
        let answer = retry(self.settings.patience, || async {
            client.get_secret_value().secret_id(secret_id).send().await.map_err(CallError::of)
        });
        stored_key_in(answer.await.map_err(SecretsError::Call)?)
    }

    fn sdk(&self, credentials: &Credentials) -> aws_sdk_secretsmanager::Client {
        let SecretsSettings { region, endpoint, .. } = &self.settings;
        aws_sdk_secretsmanager::Client::new(&sdk::config(region, endpoint.as_ref(), &self.https, credentials))
    }
}

fn stored_key_in(answer: GetSecretValueOutput) -> Result<StoredKey, SecretsError> {
    let version_id = answer.version_id.filter(|id| !id.is_empty()).ok_or(SecretsError::NoVersion)?;
    let text = answer.secret_string.ok_or(SecretsError::NoString)?;
    let ciphertext = STANDARD.decode(text.trim())?;
    if !(1..=MAX_CIPHERTEXT_LEN).contains(&ciphertext.len()) {
        return Err(SecretsError::Length(ciphertext.len()));
    }
    Ok(StoredKey { version_id, ciphertext })
}
