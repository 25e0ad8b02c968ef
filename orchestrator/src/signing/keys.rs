//! Keys from AWS: credentials, the stored ciphertext, and KMS, which opens it for this enclave only.

use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result};
use kms::config::{ImdsSettings, KmsSettings, SecretsSettings};
use kms::{CallError, Client, Credentials, Https, Imds, KmsError, Plaintext, Reason, Recipient, Secrets, SecretsError};
use signer::keys::{Credential, FetchedKey, GeneratedKey, KeyError, KeyReference, Keys};
use signer::tx::SecretKey;

use super::names::Names;
use super::witness::Recipients;
use crate::nsm::witness::Witness;

/// Where the signer's keys come from. Cloning it shares it.
#[derive(Clone)]
pub(super) struct AwsKeys(Arc<Aws>);

struct Aws {
    imds: Imds,
    secrets: Secrets,
    kms: KmsSettings,
    https: Https,
    witness: Arc<Witness>,
    /// Made once per boot; see [`AwsKeys::prepare`].
    client: OnceLock<Client<Recipients>>,
}

impl AwsKeys {
    /// Asks nobody yet.
    pub(super) fn new(
        kms: KmsSettings,
        secrets: SecretsSettings,
        imds: ImdsSettings,
        names: Names,
        witness: Arc<Witness>,
    ) -> Result<Self> {
        let https = Https::new(&kms.roots, names).context("HTTPS to AWS")?;
        Ok(Self(Arc::new(Aws {
            imds: Imds::new(imds),
            secrets: Secrets::new(secrets, https.clone()),
            kms,
            https,
            witness,
            client: OnceLock::new(),
        })))
    }

    /// Makes the RSA key that KMS encrypts to, which may take a second.
    pub(super) fn prepare(&self) -> Result<()> {
        let recipient = Recipient::generate()?;
        let Aws { kms, https, witness, client, .. } = &*self.0;
        let made = Client::new(kms.clone(), https.clone(), recipient, Recipients(Arc::clone(witness)));
        // A second one would be as good, and is dropped.
        drop(client.set(made));
        Ok(())
    }
}

impl Aws {
    fn client(&self) -> Result<&Client<Recipients>, KeyError> {
        self.client.get().ok_or_else(|| KeyError::Unavailable("the enclave is still starting".to_owned()))
    }

    /// The request's own, or the instance's.
    async fn credentials(&self, credential: Option<&Credential>) -> Result<Arc<Credentials>, KeyError> {
        let Some(credential) = credential else {
            return self.imds.credentials().await.map_err(|error| KeyError::Unavailable(sentence(error)));
        };
        let credentials = Credentials::new(
            credential.access_key_id().to_owned(),
            credential.expose_secret_access_key().to_owned(),
            credential.expose_token().map(ToOwned::to_owned),
        );
        credentials.map(Arc::new).map_err(|error| KeyError::Credential(sentence(error)))
    }

    /// The instance's credentials are asked for anew next time, if these are no good any more.
    async fn note<T>(&self, credential: Option<&Credential>, result: Result<T, KeyError>) -> Result<T, KeyError> {
        if credential.is_none() && matches!(result, Err(KeyError::Credential(_))) {
            self.imds.forget().await;
        }
        result
    }

    async fn fetched(&self, reference: &KeyReference, credentials: &Credentials) -> Result<FetchedKey, KeyError> {
        let client = self.client()?;
        let (plaintext, version) = match reference {
            KeyReference::SecretId(id) => {
                let stored = self.secrets.stored_key(id, credentials).await.map_err(of_secrets)?;
                (client.decrypt(&stored.ciphertext, credentials).await.map_err(of_kms)?, Some(stored.version_id))
            }
            KeyReference::EncryptedKey(ciphertext) => {
                (client.decrypt(ciphertext, credentials).await.map_err(of_kms)?, None)
            }
        };
        let key = SecretKey::parse(plaintext.expose())
            .map_err(|error| KeyError::Answer(format!("the plaintext is {error}")))?;
        Ok(FetchedKey { key, version })
    }

    async fn generated(&self, credentials: &Credentials) -> Result<GeneratedKey, KeyError> {
        let client = self.client()?;
        let key = SecretKey::generate().map_err(|error| KeyError::Unavailable(error.to_string()))?;
        let plaintext = Plaintext::new(key.expose_plaintext().as_bytes().to_vec().into());
        let ciphertext = client.encrypt(&plaintext, credentials).await.map_err(of_kms)?;
        Ok(GeneratedKey { address: key.address(), ciphertext })
    }
}

impl Keys for AwsKeys {
    async fn fetch(&self, reference: &KeyReference, credential: Option<&Credential>) -> Result<FetchedKey, KeyError> {
        let credentials = self.0.credentials(credential).await?;
        let fetched = self.0.fetched(reference, &credentials).await;
        self.0.note(credential, fetched).await
    }

    async fn generate(&self, credential: Option<&Credential>) -> Result<GeneratedKey, KeyError> {
        let credentials = self.0.credentials(credential).await?;
        let generated = self.0.generated(&credentials).await;
        self.0.note(credential, generated).await
    }
}

fn of_secrets(error: SecretsError) -> KeyError {
    match error {
        SecretsError::Call(call) => of_call("Secrets Manager", call),
        error @ (SecretsError::Id
        | SecretsError::NoVersion
        | SecretsError::NoString
        | SecretsError::Base64(_)
        | SecretsError::Length(_)) => KeyError::Answer(sentence(error)),
    }
}

fn of_kms(error: KmsError) -> KeyError {
    match error {
        KmsError::Call(call) => of_call("KMS", call),
        error @ KmsError::Attest(_) => KeyError::Unavailable(sentence(error)),
        error @ (KmsError::Length { .. }
        | KmsError::OtherKey { .. }
        | KmsError::Plaintext
        | KmsError::Missing(_)
        | KmsError::Open(_)) => KeyError::Answer(sentence(error)),
    }
}

fn of_call(service: &str, error: CallError) -> KeyError {
    let CallError::Refused(refusal) = &error else {
        let text = format!("{service}: {}", sentence(&error));
        return match error {
            CallError::Tls(_) | CallError::Malformed(_) | CallError::Request(_) => KeyError::Answer(text),
            CallError::Refused(_)
            | CallError::Unavailable { .. }
            | CallError::Unreachable(_)
            | CallError::TimedOut(_)
            | CallError::GaveUp { .. } => KeyError::Unavailable(text),
        };
    };
    let text = format!("{service}: {refusal}");
    match refusal.reason {
        Reason::NotFound if service != "KMS" => KeyError::NotFound,
        Reason::ExpiredCredentials | Reason::UnknownCredentials | Reason::Signature => KeyError::Credential(text),
        Reason::NotFound
        | Reason::AccessDenied
        | Reason::Disabled
        | Reason::InvalidState
        | Reason::IncorrectKey
        | Reason::InvalidCiphertext
        | Reason::InvalidKeyUsage
        | Reason::InvalidRequest
        | Reason::Other => KeyError::Refused(text),
    }
}

/// An error and its causes.
fn sentence(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
