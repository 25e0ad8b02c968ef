//! Secrets Manager: where the encrypted keys are kept. It never sees what is in them.

use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueOutput;
use thiserror::Error;

use crate::ciphertext::{CiphertextError, read_ciphertext};
use crate::config::SecretsSettings;
use crate::credentials::Credentials;
use crate::https::{CallError, Https};
use crate::retry::retry;
use crate::sdk;
use crate::secret_id::SecretIdError;

/// The label of a secret's current version. Secrets Manager takes it for granted; not everything that stands in for it does.
const CURRENT: &str = "AWSCURRENT";

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

/// Why a [`StoredKey`] is not available.
#[derive(Debug, Error)]
pub enum SecretsError {
    /// No secret has such a name, or it is elsewhere.
    #[error("secret_id: {0}")]
    Id(SecretIdError),
    /// Secrets Manager gave no answer.
    #[error("ask Secrets Manager")]
    Call(#[source] CallError),
    /// The answer does not say which version it is.
    #[error("Secrets Manager sent no VersionId")]
    NoVersion,
    /// The secret is binary or empty.
    #[error("the secret has no SecretString: store the base64 of a KMS ciphertext")]
    NoString,
    /// The secret is some other text. Nothing of it is shown.
    #[error("the secret {0}")]
    Text(CiphertextError),
}

impl Secrets {
    /// Makes no request yet.
    #[must_use]
    pub fn new(settings: SecretsSettings, https: Https) -> Self {
        Self { settings, https }
    }

    /// Checks a secret's name or ARN without a request.
    ///
    /// # Errors
    /// [`SecretsError::Id`].
    pub fn check_id(&self, secret_id: &str) -> Result<(), SecretsError> {
        self.settings.check_id(secret_id).map_err(SecretsError::Id)
    }

    /// The current version of a secret, by its name or ARN.
    ///
    /// # Errors
    /// What is in [`SecretsError`]; only overload, silence and broken connections are tried again.
    pub async fn stored_key(&self, secret_id: &str, credentials: &Credentials) -> Result<StoredKey, SecretsError> {
        self.check_id(secret_id)?;
        let client = self.sdk(credentials);
        let answer = retry(self.settings.retry_budget, || async {
            client.get_secret_value().secret_id(secret_id).version_stage(CURRENT).send().await.map_err(CallError::of)
        });
        stored_key_in(answer.await.map_err(SecretsError::Call)?)
    }

    fn sdk(&self, credentials: &Credentials) -> aws_sdk_secretsmanager::Client {
        let SecretsSettings { key, endpoint, .. } = &self.settings;
        aws_sdk_secretsmanager::Client::new(&sdk::config(key.region(), Some(endpoint), &self.https, credentials))
    }
}

fn stored_key_in(answer: GetSecretValueOutput) -> Result<StoredKey, SecretsError> {
    let version_id = answer.version_id.filter(|id| !id.is_empty()).ok_or(SecretsError::NoVersion)?;
    let text = answer.secret_string.ok_or(SecretsError::NoString)?;
    let ciphertext = read_ciphertext(&text).map_err(SecretsError::Text)?;
    Ok(StoredKey { version_id, ciphertext })
}
