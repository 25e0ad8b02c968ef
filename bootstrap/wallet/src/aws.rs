//! The wallet's use of AWS: encryption with KMS, storage in Secrets Manager.

mod call;
mod context;
mod credentials;
mod kms;
mod secrets;
mod versions;

use std::path::{Path, PathBuf};
use std::time::Duration;

use ::kms::Endpoint;
use anyhow::{Context as _, Result, ensure};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_kms::config::retry::RetryConfig;
use aws_sdk_kms::config::timeout::TimeoutConfig;
use aws_sdk_kms::config::{BehaviorVersion, Region};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_types::SdkConfig;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

pub use context::{ContextError, EncryptionContext, Entry, LEDGER, LedgerName};
pub use secrets::{Place, Stored};
pub use versions::{Conflict, KeyName, KeyNameError};

/// The most attempts of a request; AWS's SDK decides which errors to retry.
const ATTEMPTS: u32 = 3;
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
const DEADLINE: Duration = Duration::from_secs(30);

/// How to reach AWS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The region, such as `eu-central-1`.
    pub region: String,
    /// The endpoint of KMS; default: the region's.
    pub kms_endpoint: Option<String>,
    /// The endpoint of Secrets Manager; default: the region's.
    pub secrets_endpoint: Option<String>,
    /// Certificate authorities in place of the operating system's; PEM.
    pub ca_path: Option<PathBuf>,
}

/// A client of AWS, with the credentials of its environment.
#[derive(Debug)]
pub struct Aws {
    region: String,
    kms_endpoint: Option<Endpoint>,
    secrets_endpoint: Option<Endpoint>,
    http: SharedHttpClient,
    credentials: SharedCredentialsProvider,
}

impl Aws {
    /// Reads the certificate authorities and chooses the source of credentials; makes no request yet. `variable` reads the
    /// environment.
    ///
    /// # Errors
    /// The setting or variable that is wrong.
    pub fn new(settings: Settings, variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let is_label = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        ensure!(
            settings.region.contains('-') && settings.region.bytes().all(is_label),
            "region {:?}, expected one such as \"eu-central-1\"",
            settings.region
        );
        let kms_endpoint = endpoint("KMS", settings.kms_endpoint.as_deref())?;
        let secrets_endpoint = endpoint("Secrets Manager", settings.secrets_endpoint.as_deref())?;
        let trust = match &settings.ca_path {
            None => TrustStore::default(),
            Some(path) => TrustStore::empty()
                .with_pem_certificate(authorities(path).with_context(|| format!("read AWS's CA {}", path.display()))?),
        };
        let context = TlsContext::builder().with_trust_store(trust).build().context("prepare TLS for AWS")?;
        let provider = Provider::Rustls(CryptoMode::AwsLc);
        let http = Builder::new().tls_provider(provider).tls_context(context).build_https();
        let credentials = credentials::provider(variable)?;
        Ok(Self { region: settings.region, kms_endpoint, secrets_endpoint, http, credentials })
    }

    /// The URL of a service.
    fn host(&self, endpoint: Option<&Endpoint>, service: &str) -> String {
        // As the SDK derives it from a region.
        let suffix = if self.region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        endpoint.map_or_else(|| format!("https://{service}.{}.{suffix}", self.region), ToString::to_string)
    }

    /// For the client of one service.
    fn sdk_config(&self, endpoint: Option<&Endpoint>) -> SdkConfig {
        let timeouts = TimeoutConfig::builder().operation_attempt_timeout(ATTEMPT_TIMEOUT).operation_timeout(DEADLINE);
        let mut config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(self.region.clone()))
            .http_client(self.http.clone())
            .credentials_provider(self.credentials.clone())
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
            .timeout_config(timeouts.build());
        config.set_endpoint_url(endpoint.map(ToString::to_string));
        config.build()
    }
}

/// HTTPS only: plain HTTP would show a key to the network.
fn endpoint(service: &str, text: Option<&str>) -> Result<Option<Endpoint>> {
    let parse = |text: &str| {
        let doing = || format!("endpoint {text:?} of {service}, expected https://HOST or https://HOST:PORT");
        text.parse().with_context(doing)
    };
    text.map(parse).transpose()
}

/// The library accepts a file without certificates.
fn authorities(path: &Path) -> Result<Vec<u8>> {
    let pem = std::fs::read(path)?;
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        store.add(certificate.context("not PEM")?).context("a certificate that cannot be a root")?;
    }
    ensure!(!store.is_empty(), "no CERTIFICATE in it, expected PEM");
    Ok(pem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(settings: Settings) -> String {
        let variable = |name: &str| name.starts_with("AWS_").then(|| "EXAMPLE".to_owned());
        format!("{:#}", Aws::new(settings, variable).unwrap_err())
    }

    #[test]
    fn plain_http_to_aws_is_refused() {
        let at = |kms: Option<&str>, secrets: Option<&str>| {
            error(Settings {
                region: "eu-central-1".to_owned(),
                kms_endpoint: kms.map(str::to_owned),
                secrets_endpoint: secrets.map(str::to_owned),
                ca_path: None,
            })
        };
        let expected = "expected https://HOST or https://HOST:PORT: the scheme is not https";
        assert_eq!(at(Some("http://kms.example"), None), format!("endpoint \"http://kms.example\" of KMS, {expected}"));
        assert_eq!(at(None, Some("sm.example")), format!("endpoint \"sm.example\" of Secrets Manager, {expected}"));
    }

    #[test]
    fn a_region_is_one() {
        for region in ["", "Frankfurt", "eu-central-1.evil.example"] {
            let settings = Settings { region: region.to_owned(), ..Settings::default() };
            assert_eq!(error(settings), format!("region {region:?}, expected one such as \"eu-central-1\""));
        }
    }

    #[test]
    fn a_ca_file_without_certificates_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let ca_path = Some(file.path().to_owned());
        let error = error(Settings { region: "eu-central-1".to_owned(), ca_path, ..Settings::default() });
        assert_eq!(error, format!("read AWS's CA {}: no CERTIFICATE in it, expected PEM", file.path().display()));
    }
}
