//! The tables of the enclave's measured configuration that are about AWS.
//!
//! ```toml
//! [kms]
//! # The only key that is ever used, by its ARN, which also says the region.
//! key_arn = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
//! # What was and will be encrypted is bound to this; at least one entry.
//! encryption_context = { purpose = "ethereum-signer" }
//! # Where KMS is, if not where the region says. Always HTTPS.
//! # endpoint = "https://kms-fips.us-east-1.amazonaws.com"
//! # Trusted in place of Amazon's certificate authorities; relative to the configuration's folder. Only for labs.
//! # roots_path = "lab-root.pem"
//! # How long a request may take altogether, and each attempt of it.
//! # deadline = "20s"
//! # attempt_timeout = "5s"
//!
//! [secrets]
//! # Where Secrets Manager is, if not where the region says.
//! # endpoint = "https://secretsmanager.eu-central-1.amazonaws.com"
//!
//! [imds]
//! # Where the instance metadata service is: plain HTTP, an address.
//! # endpoint = "http://169.254.169.254"
//! # deadline = "5s"
//! # attempt_timeout = "2s"
//! ```

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use serde::Deserialize;
use thiserror::Error;

use crate::endpoint::{self, Endpoint};
use crate::key_arn::KeyArn;
use crate::retry::RetryBudget;
use crate::roots::Roots;
use crate::sdk;
use crate::secret_id::{SecretIdError, check_secret_id};

/// Link-local: only the instance itself is there
/// (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html>).
const IMDS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)), 80);
/// KMS takes no more as JSON (<https://docs.aws.amazon.com/kms/latest/developerguide/resource-limits.html>).
const MAX_CONTEXT_LEN: usize = 8192;
/// The entry of the context that names the ledger.
pub const LEDGER_ENTRY: &str = "ledger";
const MAX_ROOTS_LEN: u64 = 1024 * 1024;
const MAX_DEADLINE: Duration = Duration::from_mins(2);
const MIN_TIMEOUT: Duration = Duration::from_millis(100);

/// `[kms]` before it is checked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KmsTable {
    key_arn: String,
    encryption_context: BTreeMap<String, String>,
    endpoint: Option<String>,
    roots_path: Option<PathBuf>,
    #[serde(default = "kms_deadline", with = "humantime_serde")]
    deadline: Duration,
    #[serde(default = "kms_attempt_timeout", with = "humantime_serde")]
    attempt_timeout: Duration,
}

/// `[secrets]` before it is checked. Everything else is as in `[kms]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretsTable {
    endpoint: Option<String>,
}

/// `[imds]` before it is checked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImdsTable {
    endpoint: Option<String>,
    #[serde(default = "imds_deadline", with = "humantime_serde")]
    deadline: Duration,
    #[serde(default = "imds_attempt_timeout", with = "humantime_serde")]
    attempt_timeout: Duration,
}

/// Which key, and how to reach KMS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KmsSettings {
    /// The only key.
    pub key: KeyArn,
    /// The encryption context of ciphertexts.
    pub encryption_context: BTreeMap<String, String>,
    /// Where KMS is.
    pub endpoint: Endpoint,
    /// The trusted certificate authorities, also for Secrets Manager.
    pub roots: Roots,
    /// How long a request may take.
    pub retry_budget: RetryBudget,
}

/// How to reach Secrets Manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretsSettings {
    pub(crate) key: KeyArn,
    /// Where Secrets Manager is.
    pub endpoint: Endpoint,
    pub(crate) retry_budget: RetryBudget,
}

impl SecretsSettings {
    /// Checks that Secrets Manager, as these settings reach it, could have a secret of that name or ARN.
    ///
    /// # Errors
    /// What is in [`SecretIdError`].
    pub fn check_id(&self, secret_id: &str) -> Result<(), SecretIdError> {
        check_secret_id(secret_id, &self.key)
    }
}

/// How to reach the instance metadata service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImdsSettings {
    /// The service's address.
    pub endpoint: SocketAddr,
    /// How long new credentials may take.
    pub retry_budget: RetryBudget,
}

impl KmsSettings {
    /// Binds the keys to a ledger, named OWNER/BUCKET: an image without it, or with another one, has another context and cannot open them.
    pub fn bind_to_ledger(&mut self, ledger: &str) {
        self.encryption_context.insert(LEDGER_ENTRY.to_owned(), ledger.to_owned());
    }
}

/// Which bucket, and how to reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketSettings {
    /// The bucket.
    pub name: String,
    /// The account that it belongs to.
    pub owner: String,
    pub(crate) region: String,
    /// None: where AWS's SDK says.
    pub(crate) endpoint: Option<Endpoint>,
    /// The server of this bucket's requests.
    pub server: Endpoint,
}

impl BucketSettings {
    /// A bucket in the region of the KMS key. An `endpoint` is from the configuration, and for labs.
    ///
    /// # Errors
    /// An endpoint that is none, or a region that AWS's SDK does not know.
    pub fn new(name: String, owner: String, endpoint: Option<&str>, kms: &KmsSettings) -> Result<Self, ConfigError> {
        let (region, endpoint_key) = (kms.key.region().to_owned(), "signer.ledger.endpoint");
        let endpoint = endpoint.map(|text| https(endpoint_key, text)).transpose()?;
        let server = match &endpoint {
            Some(endpoint) => endpoint.clone(),
            None => in_region(endpoint_key, &kms.key, sdk::bucket_endpoint(&region, &name))?,
        };
        Ok(Self { name, owner, region, endpoint, server })
    }
}

/// An invalid value.
#[derive(Debug, Error)]
#[error("{key}: {problem}")]
pub struct ConfigError {
    key: &'static str,
    problem: String,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl KmsTable {
    /// Reads the values, and the file of roots, whose path starts from `dir`.
    ///
    /// # Errors
    /// The first key with an invalid value, and what is expected.
    pub fn check(self, dir: &Path) -> Result<KmsSettings, ConfigError> {
        let key = self.key_arn.parse().map_err(|source| {
            let problem = format!(
                "`{}` is not a key, expected its ARN as `aws kms describe-key` shows it",
                self.key_arn.escape_debug()
            );
            ConfigError::because("kms.key_arn", problem, source)
        })?;
        let endpoint = match &self.endpoint {
            Some(text) => https("kms.endpoint", text)?,
            None => in_region("kms.endpoint", &key, sdk::kms_endpoint(key.region()))?,
        };
        check_context(&self.encryption_context)?;
        Ok(KmsSettings {
            key,
            encryption_context: self.encryption_context,
            endpoint,
            roots: self.roots_path.map_or_else(|| Ok(Roots::amazon()), |path| roots(&dir.join(path)))?,
            retry_budget: retry_budget(["kms.deadline", "kms.attempt_timeout"], self.deadline, self.attempt_timeout)?,
        })
    }
}

impl SecretsTable {
    /// Reads the values; what they do not say is as with KMS.
    ///
    /// # Errors
    /// As [`KmsTable::check`].
    pub fn check(self, kms: &KmsSettings) -> Result<SecretsSettings, ConfigError> {
        let endpoint = match &self.endpoint {
            Some(text) => https("secrets.endpoint", text)?,
            None => in_region("secrets.endpoint", &kms.key, sdk::secrets_endpoint(kms.key.region()))?,
        };
        Ok(SecretsSettings { key: kms.key.clone(), endpoint, retry_budget: kms.retry_budget })
    }
}

impl ImdsTable {
    /// Reads the values.
    ///
    /// # Errors
    /// As [`KmsTable::check`].
    pub fn check(self) -> Result<ImdsSettings, ConfigError> {
        Ok(ImdsSettings {
            endpoint: self.endpoint.as_deref().map_or(Ok(IMDS), http_address)?,
            retry_budget: retry_budget(["imds.deadline", "imds.attempt_timeout"], self.deadline, self.attempt_timeout)?,
        })
    }
}

/// As on AWS.
impl Default for ImdsSettings {
    fn default() -> Self {
        let retry_budget = RetryBudget { deadline: imds_deadline(), attempt_timeout: imds_attempt_timeout() };
        Self { endpoint: IMDS, retry_budget }
    }
}

impl Default for ImdsTable {
    fn default() -> Self {
        Self { endpoint: None, deadline: imds_deadline(), attempt_timeout: imds_attempt_timeout() }
    }
}

impl ConfigError {
    fn new(key: &'static str, problem: impl Into<String>) -> Self {
        Self { key, problem: problem.into(), source: None }
    }

    fn because(
        key: &'static str,
        problem: impl Into<String>,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self { key, problem: problem.into(), source: Some(Box::new(source)) }
    }
}

fn check_context(context: &BTreeMap<String, String>) -> Result<(), ConfigError> {
    let key = "kms.encryption_context";
    if context.is_empty() {
        return Err(ConfigError::new(
            key,
            "is empty, expected at least one entry, such as { purpose = \"ethereum-signer\" }",
        ));
    }
    if context.keys().any(|name| name.is_empty() || name.starts_with("aws:")) {
        return Err(ConfigError::new(
            key,
            "a name is empty or starts with \"aws:\", which AWS reserves; expected a name such as purpose",
        ));
    }
    if context.contains_key(LEDGER_ENTRY) {
        return Err(ConfigError::new(
            key,
            "has an entry `ledger`, which [signer.ledger] brings by itself; expected other names alone",
        ));
    }
    let length: usize = context.iter().map(|(name, value)| name.len() + value.len() + 6).sum();
    if length > MAX_CONTEXT_LEN {
        let problem = format!("{length} bytes as JSON, expected at most {MAX_CONTEXT_LEN}, which is KMS's limit");
        return Err(ConfigError::new(key, problem));
    }
    Ok(())
}

fn https(key: &'static str, text: &str) -> Result<Endpoint, ConfigError> {
    text.parse().map_err(|source| ConfigError::because(key, endpoint_problem(text, "https://HOST"), source))
}

/// The region's endpoint, which AWS's SDK knows.
fn in_region(key: &'static str, arn: &KeyArn, url: Result<String, String>) -> Result<Endpoint, ConfigError> {
    let missing = || format!("missing, and AWS's SDK knows none for {}, expected https://HOST", arn.region());
    let url = url.map_err(|problem| ConfigError::because(key, missing(), io::Error::other(problem)))?;
    url.parse().map_err(|source| ConfigError::because(key, missing(), source))
}

fn http_address(text: &str) -> Result<SocketAddr, ConfigError> {
    endpoint::http_address(text)
        .map_err(|source| ConfigError::because("imds.endpoint", endpoint_problem(text, "http://ADDRESS"), source))
}

fn endpoint_problem(text: &str, right: &str) -> String {
    format!("`{}` is not a server, expected {right} or {right}:PORT", text.escape_debug())
}

fn roots(path: &Path) -> Result<Roots, ConfigError> {
    let problem = || format!("{}: expected the path of a file with certificates in PEM", path.display());
    let read = || -> io::Result<Vec<u8>> {
        if fs::metadata(path)?.len() > MAX_ROOTS_LEN {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "more than a MiB"));
        }
        fs::read(path)
    };
    let pem = read().map_err(|source| ConfigError::because("kms.roots_path", problem(), source))?;
    Roots::from_pem(pem).map_err(|source| ConfigError::because("kms.roots_path", problem(), source))
}

fn retry_budget(
    keys: [&'static str; 2],
    deadline: Duration,
    attempt_timeout: Duration,
) -> Result<RetryBudget, ConfigError> {
    let [deadline_key, attempt_key] = keys;
    if !(MIN_TIMEOUT..=MAX_DEADLINE).contains(&deadline) {
        return Err(ConfigError::new(deadline_key, "expected a time from \"100ms\" to \"2m\""));
    }
    if !(MIN_TIMEOUT..=deadline).contains(&attempt_timeout) {
        return Err(ConfigError::new(
            attempt_key,
            format!("expected a time from \"100ms\" to {deadline_key}, {deadline:?}"),
        ));
    }
    Ok(RetryBudget { deadline, attempt_timeout })
}

fn kms_deadline() -> Duration {
    Duration::from_secs(20)
}

fn kms_attempt_timeout() -> Duration {
    Duration::from_secs(5)
}

fn imds_deadline() -> Duration {
    Duration::from_secs(5)
}

fn imds_attempt_timeout() -> Duration {
    Duration::from_secs(2)
}

#[cfg(test)]
mod tests;
