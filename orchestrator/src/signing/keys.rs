//! Keys from AWS: credentials, the stored ciphertext, and KMS, which decrypts it for this enclave only.

use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result};
use ethereum::key::SecretKey;
use kms::config::{BucketSettings, ImdsSettings, KmsSettings, SecretsSettings};
use kms::{
    AwsError, Bucket, CallError, Client, Credentials, Https, Imds, KmsError, Plaintext, Reason, Recipient, RoleError,
    Secrets, SecretsError,
};
use signer::keys::{FetchedKey, GeneratedKey, KeyError, Keys};
use signer_api::key::{Credential, KeyReference};
use thiserror::Error;

use super::ledger::S3;
use super::names::Names;
use super::witness::Recipients;
use crate::nsm::witness::Witness;

/// Fetches the signer's keys from AWS. A clone shares its state.
#[derive(Clone)]
pub(super) struct AwsKeys(Arc<Aws>);

struct Aws {
    imds: Arc<Imds>,
    secrets: Secrets,
    kms: KmsSettings,
    https: Https,
    witness: Arc<Witness>,
    /// Made once per boot; see [`AwsKeys::prepare`].
    client: OnceLock<Client<Recipients>>,
}

impl AwsKeys {
    /// Makes no request.
    pub(super) fn new(
        kms: KmsSettings,
        secrets: SecretsSettings,
        imds: ImdsSettings,
        names: Names,
        witness: Arc<Witness>,
    ) -> Result<Self> {
        let https = Https::new(&kms.roots, names).context("HTTPS to AWS")?;
        Ok(Self(Arc::new(Aws {
            imds: Arc::new(Imds::new(imds)),
            secrets: Secrets::new(secrets, https.clone()),
            kms,
            https,
            witness,
            client: OnceLock::new(),
        })))
    }

    /// The ledger in this bucket, with the same credentials and connections.
    pub(super) fn ledger(&self, settings: BucketSettings) -> S3 {
        let Aws { imds, https, .. } = &*self.0;
        S3::new(Arc::clone(imds), Bucket::new(settings, https.clone()))
    }

    /// Makes the RSA key that KMS encrypts to, which may take a second.
    pub(super) fn prepare(&self) -> Result<()> {
        let recipient = Recipient::generate()?;
        let Aws { kms, https, witness, client, .. } = &*self.0;
        let made = Client::new(kms.clone(), https.clone(), recipient, Recipients(Arc::clone(witness)));
        // A second client would be equivalent, and is dropped.
        drop(client.set(made));
        Ok(())
    }
}

impl Aws {
    fn client(&self) -> Result<&Client<Recipients>, KeyError> {
        self.client.get().ok_or_else(|| KeyError::Unavailable("the enclave is still starting".to_owned()))
    }

    /// Makes a request to AWS with the client's credentials, or without them with those of the instance's role.
    async fn with_credentials<T, F>(
        &self,
        credential: Option<&Credential>,
        request: impl Fn(Arc<Credentials>) -> F,
    ) -> Result<T, KeyError>
    where
        F: Future<Output = Result<T, Trouble>>,
    {
        let Some(credential) = credential else {
            return self.imds.lend(request).await.map_err(of_role);
        };
        let credentials = Credentials::new(
            credential.access_key_id().to_owned(),
            credential.expose_secret_access_key().to_owned(),
            credential.expose_token().map(ToOwned::to_owned),
        );
        let credentials = credentials.map_err(|error| KeyError::Credential(sentence(&error)))?;
        request(Arc::new(credentials)).await.map_err(|trouble| match trouble.refuses_credentials() {
            true => KeyError::Credential(sentence(&trouble)),
            false => trouble.into(),
        })
    }

    async fn fetched(&self, reference: &KeyReference, credentials: &Credentials) -> Result<FetchedKey, Trouble> {
        let client = self.client()?;
        let (plaintext, version) = match reference {
            KeyReference::SecretId(id) => {
                let stored = self.secrets.stored_key(id, credentials).await?;
                (client.decrypt(&stored.ciphertext, credentials).await?, Some(stored.version_id))
            }
            KeyReference::EncryptedKey(ciphertext) => (client.decrypt(ciphertext, credentials).await?, None),
        };
        let key = SecretKey::parse(plaintext.expose())
            .map_err(|error| KeyError::Answer(format!("the plaintext is {error}")))?;
        Ok(FetchedKey { key, version })
    }

    async fn generated(&self, credentials: &Credentials) -> Result<GeneratedKey, Trouble> {
        let client = self.client()?;
        let key = SecretKey::generate().map_err(|error| KeyError::Unavailable(error.to_string()))?;
        let plaintext = Plaintext::new(key.expose_plaintext().as_bytes().to_vec().into());
        let ciphertext = client.encrypt(&plaintext, credentials).await?;
        Ok(GeneratedKey { address: key.address(), ciphertext })
    }
}

impl Keys for AwsKeys {
    async fn fetch(&self, reference: &KeyReference, credential: Option<&Credential>) -> Result<FetchedKey, KeyError> {
        let aws = &*self.0;
        // Before the first request, also to the metadata service.
        if let KeyReference::SecretId(id) = reference {
            aws.secrets.check_id(id).map_err(of_secrets)?;
        }
        let request = |credentials: Arc<Credentials>| async move { aws.fetched(reference, &credentials).await };
        aws.with_credentials(credential, request).await
    }

    async fn generate(&self, credential: Option<&Credential>) -> Result<GeneratedKey, KeyError> {
        let aws = &*self.0;
        let request = |credentials: Arc<Credentials>| async move { aws.generated(&credentials).await };
        aws.with_credentials(credential, request).await
    }
}

/// Why there is no key, regardless of whose credentials were used.
#[derive(Debug, Error)]
enum Trouble {
    #[error("Secrets Manager")]
    Secrets(#[from] SecretsError),
    #[error("KMS")]
    Kms(#[from] KmsError),
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl AwsError for Trouble {
    fn reason(&self) -> Option<Reason> {
        match self {
            Self::Secrets(error) => error.reason(),
            Self::Kms(error) => error.reason(),
            Self::Key(_) => None,
        }
    }
}

impl From<Trouble> for KeyError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Secrets(error) => of_secrets(error),
            Trouble::Kms(error) => of_kms(error),
            Trouble::Key(error) => error,
        }
    }
}

/// Only the operator can fix the role's credentials, so a client is not told that its own are wrong.
fn of_role(error: RoleError<Trouble>) -> KeyError {
    match error {
        RoleError::Call(trouble) => trouble.into(),
        error @ (RoleError::None(_) | RoleError::NoNewer { .. }) => KeyError::Unavailable(sentence(&error)),
        error @ RoleError::Refused { .. } => KeyError::Refused(sentence(&error)),
    }
}

fn of_secrets(error: SecretsError) -> KeyError {
    match error {
        SecretsError::Call(call) => of_call("Secrets Manager", call),
        SecretsError::Id(error) => KeyError::SecretId(error.to_string()),
        error @ (SecretsError::NoVersion | SecretsError::NoString | SecretsError::Text(_)) => {
            KeyError::Answer(sentence(&error))
        }
    }
}

fn of_kms(error: KmsError) -> KeyError {
    match error {
        KmsError::Call(call) => of_call("KMS", call),
        error @ KmsError::Attest(_) => KeyError::Unavailable(sentence(&error)),
        error @ (KmsError::Length { .. }
        | KmsError::OtherKey { .. }
        | KmsError::Plaintext
        | KmsError::Missing(_)
        | KmsError::Open(_)) => KeyError::Answer(sentence(&error)),
    }
}

fn of_call(service: &str, error: CallError) -> KeyError {
    let CallError::Refused(refusal) = &error else {
        let text = format!("{service}: {}", sentence(&error));
        return match error {
            CallError::Tls(_) | CallError::Malformed | CallError::Request(_) => KeyError::Answer(text),
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
        Reason::ExpiredCredentials
        | Reason::UnknownCredentials
        | Reason::Signature
        | Reason::NotFound
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
fn sentence(error: &(dyn std::error::Error + 'static)) -> String {
    anyhow::Chain::new(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
