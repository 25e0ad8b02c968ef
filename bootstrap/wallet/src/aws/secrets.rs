//! Secrets Manager: stores ciphertexts. The `SecretString` of such a secret is the base64 of KMS's ciphertext.

use std::error::Error as StdError;

use anyhow::{Context as _, Error, Result, anyhow, ensure};
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueOutput;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ethereum::address::Address;
use kms::{SecretPlace, read_ciphertext, secret_place};
use zeroize::Zeroizing;

use super::Aws;
use super::call::cause;
use super::versions::{CURRENT, KeyName, Versions};

const DESCRIPTION: &str = "An Ethereum key, encrypted by KMS for an enclave";

/// Where a key will be stored: a secret, and its versions when it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    secret_id: String,
    /// `None`: there is no such secret.
    versions: Option<Versions>,
    replaced: Option<String>,
}

/// A ciphertext in Secrets Manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The secret's ARN.
    pub arn: String,
    /// Which of its versions this is.
    pub version_id: String,
    /// Whether the secret was not there before.
    pub is_new_secret: bool,
    /// Finds the version when it is no longer the current one.
    pub label: String,
    /// The key that was the current one before.
    pub replaced: Option<KeyName>,
}

impl Place {
    /// The key that will be replaced, and its version.
    #[must_use]
    pub fn replaced(&self) -> Option<(KeyName, &str)> {
        let (versions, id) = (self.versions.as_ref()?, self.replaced.as_deref()?);
        Some((versions.name(id), id))
    }
}

impl Aws {
    /// Reads a secret, which need not exist, before a key is stored in it. Changes nothing.
    ///
    /// # Errors
    /// What Secrets Manager says; a [`Conflict`](super::Conflict) when the secret holds a key that `replace` does not name.
    pub async fn place(&self, secret_id: &str, replace: Option<&KeyName>) -> Result<Place> {
        let doing = || format!("look for a key in secret {secret_id:?}");
        self.check_id(secret_id).with_context(doing)?;
        let versions = self.versions(secret_id).await.with_context(doing)?.map(|(_arn, versions)| versions);
        let none = "there is no such secret, and a new one cannot have a given ARN; expected its name";
        ensure!(versions.is_some() || !secret_id.starts_with("arn:"), "{}: {none}", doing());
        let empty = Versions::default();
        let replaced = versions.as_ref().unwrap_or(&empty).replaced_by(replace).with_context(doing)?.map(str::to_owned);
        Ok(Place { secret_id: secret_id.to_owned(), versions, replaced })
    }

    /// Makes `ciphertext` the current version of a secret, which is created if needed. The previous version stays, by its label.
    ///
    /// The version is stored first and becomes the current one in a second request, which Secrets Manager refuses when the current
    /// one is not that of the [`Place`]: of two calls at the same moment, one replaces the key and the other changes nothing.
    ///
    /// # Errors
    /// Secrets Manager's refusal, and a current version that has changed meanwhile.
    pub async fn store(&self, place: &Place, address: &Address, ciphertext: &[u8]) -> Result<Stored> {
        let Place { secret_id, versions, replaced } = place;
        let doing = || format!("store the encrypted key in secret {secret_id:?}");
        let client = self.secrets();
        if versions.is_none() {
            let create = client.create_secret().name(secret_id).description(DESCRIPTION);
            create.send().await.map_err(|error| self.cause(error)).context("create it").with_context(doing)?;
        }
        let empty = Versions::default();
        let versions_before = versions.as_ref().unwrap_or(&empty);
        let label = versions_before.label_for(address);
        // The SDK adds a ClientRequestToken, which becomes the version's id: a request that is sent twice makes one version.
        let put = client.put_secret_value().secret_id(secret_id).secret_string(STANDARD.encode(ciphertext));
        let answer = put.version_stages(&label).send().await.map_err(|error| self.cause(error)).with_context(doing)?;
        let arn = answer.arn.context("Secrets Manager sent no ARN").with_context(doing)?;
        let version_id = answer.version_id.context("Secrets Manager sent no VersionId").with_context(doing)?;
        // Secrets Manager makes the first version the current one by itself.
        let is_current = answer.version_stages.unwrap_or_default().iter().any(|label| label == CURRENT);
        if !is_current {
            let kept = || format!("{}: version {version_id} has it, with label {label}", doing());
            if let Some(before) = replaced {
                self.keep(secret_id, versions_before, before).await.with_context(kept)?;
            }
            self.make_current(secret_id, &version_id, replaced.as_deref()).await.with_context(kept)?;
        }
        let replaced = replaced.as_deref().map(|id| versions_before.name(id));
        Ok(Stored { arn, version_id, is_new_secret: versions.is_none(), label, replaced })
    }

    /// Makes an earlier key the current one again, in place of the one that `replace` names.
    ///
    /// # Errors
    /// What Secrets Manager says; a [`Conflict`](super::Conflict) when the secret has no such key, or its current one is another.
    pub async fn restore(&self, secret_id: &str, key: &KeyName, replace: &KeyName) -> Result<Stored> {
        let doing = || format!("restore the key {key} of secret {secret_id:?}");
        self.check_id(secret_id).with_context(doing)?;
        let described = self.versions(secret_id).await.with_context(doing)?.context("there is no such secret");
        let (arn, versions) = described.with_context(doing)?;
        let current = versions.replaced_by(Some(replace)).with_context(doing)?;
        let current = current.context("it has no current version").with_context(doing)?;
        let version_id = versions.find(key).with_context(doing)?;
        ensure!(current != version_id, "{}: it is the current one", doing());
        self.keep(secret_id, &versions, current).await.with_context(doing)?;
        self.make_current(secret_id, version_id, Some(current)).await.with_context(doing)?;
        let label = versions.own_label(version_id).unwrap_or_default().to_owned();
        let replaced = Some(versions.name(current));
        Ok(Stored { arn, version_id: version_id.to_owned(), is_new_secret: false, label, replaced })
    }

    /// The current ciphertext of a secret.
    ///
    /// # Errors
    /// What Secrets Manager says, and a secret that holds something else.
    pub async fn stored(&self, secret_id: &str) -> Result<(Stored, Vec<u8>)> {
        let doing = || format!("read secret {secret_id:?}");
        let answer = self.current(secret_id).await.with_context(doing)?;
        let text = answer.secret_string.context("it has no SecretString, expected base64 of a ciphertext");
        let ciphertext = read_ciphertext(&text.with_context(doing)?);
        let ciphertext = ciphertext.map_err(|error| anyhow!("its SecretString {error}")).with_context(doing)?;
        let arn = answer.arn.context("Secrets Manager sent no ARN").with_context(doing)?;
        let version_id = answer.version_id.context("Secrets Manager sent no VersionId").with_context(doing)?;
        let versions = Versions::new([(version_id.clone(), answer.version_stages.unwrap_or_default())]);
        let label = versions.own_label(&version_id).unwrap_or_default().to_owned();
        Ok((Stored { arn, version_id, is_new_secret: false, label, replaced: None }, ciphertext))
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

    /// Checks that this is a secret's name or ARN, and not an ARN of another region.
    ///
    /// # Errors
    /// Says what is expected.
    pub fn check_id(&self, secret_id: &str) -> Result<()> {
        let Some(SecretPlace { region, .. }) = secret_place(secret_id)? else { return Ok(()) };
        ensure!(
            region == self.region,
            "it is in {region}, and {0} is asked; expected a secret of {0}, or --region {region} where no KMS key says the region",
            self.region
        );
        Ok(())
    }

    async fn current(&self, secret_id: &str) -> Result<GetSecretValueOutput> {
        self.check_id(secret_id)?;
        self.secrets()
            .get_secret_value()
            .secret_id(secret_id)
            .version_stage(CURRENT)
            .send()
            .await
            .map_err(|error| self.cause(error))
    }

    /// The secret's ARN and all versions with a label; `None`: there is no such secret.
    async fn versions(&self, secret_id: &str) -> Result<Option<(String, Versions)>> {
        match self.secrets().describe_secret().secret_id(secret_id).send().await {
            Ok(answer) => {
                let arn = answer.arn.context("Secrets Manager sent no ARN")?;
                Ok(Some((arn, Versions::new(answer.version_ids_to_stages.unwrap_or_default()))))
            }
            Err(error) if error.as_service_error().is_some_and(|error| error.is_resource_not_found_exception()) => {
                Ok(None)
            }
            Err(error) => Err(self.cause(error)),
        }
    }

    /// Those of an existing secret.
    async fn labelled(&self, secret_id: &str) -> Result<Versions> {
        Ok(self.versions(secret_id).await?.map(|(_arn, versions)| versions).unwrap_or_default())
    }

    /// A version that loses `AWSCURRENT`, and later `AWSPREVIOUS`, must keep a label.
    async fn keep(&self, secret_id: &str, versions: &Versions, id: &str) -> Result<()> {
        let Some(label) = versions.label_to_keep(id) else { return Ok(()) };
        let update = self.secrets().update_secret_version_stage().secret_id(secret_id).version_stage(&label);
        let Err(error) = update.move_to_version_id(id).send().await else { return Ok(()) };
        let is_conflict = error.as_service_error().is_some_and(|error| error.is_invalid_parameter_exception());
        // As below: it may have the label by now.
        if is_conflict && self.labelled(secret_id).await?.label_to_keep(id).is_none() {
            return Ok(());
        }
        Err(self.cause(error)).with_context(|| format!("give version {id} the label {label}"))
    }

    /// Compare and swap: Secrets Manager moves the label only from the version that has it.
    async fn make_current(&self, secret_id: &str, to: &str, from: Option<&str>) -> Result<()> {
        let update = self.secrets().update_secret_version_stage().secret_id(secret_id).version_stage(CURRENT);
        let update = update.move_to_version_id(to).set_remove_from_version_id(from.map(str::to_owned));
        let Err(error) = update.send().await else { return Ok(()) };
        let is_conflict = error.as_service_error().is_some_and(|error| error.is_invalid_parameter_exception());
        let error = self.cause(error);
        if !is_conflict {
            return Err(error.context("make it the current one"));
        }
        // A request that was sent twice is refused the second time, too.
        match self.labelled(secret_id).await?.current() {
            Some(current) if current == to => Ok(()),
            Some(current) => Err(error.context(format!(
                "it is not the current one: version {current} is, since somebody else changed the secret meanwhile"
            ))),
            None => Err(error.context("make it the current one")),
        }
    }

    fn cause<E>(&self, error: SdkError<E, HttpResponse>) -> Error
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        cause(&self.host(self.secrets_endpoint.as_ref(), "secretsmanager"), error)
    }

    fn secrets(&self) -> Client {
        Client::new(&self.sdk_config(self.secrets_endpoint.as_ref()))
    }
}
