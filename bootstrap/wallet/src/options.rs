//! Options that several verbs share: the enclave's URL, how to verify it, where programs connect, and how to reach AWS.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Error, Result};
use attestation::{Measurements, Register, TrustRoot};
use clap::builder::RangedU64ValueParser;
use wallet::aws::{Aws, Settings};
use wallet::enclave::{EnclaveError, EnclaveUrl};
use wallet::pool::{Front, Rules};
use wallet::tls::ClientIdentity;
use wallet::trust::Trust;

/// The enclave and how to verify it.
#[derive(Debug, clap::Args)]
pub(crate) struct EnclaveOptions {
    /// The signer's URL: https://HOST or https://HOST:PORT.
    #[arg(long)]
    pub(crate) url: EnclaveUrl,
    #[command(flatten)]
    trust: TrustOptions,
    #[command(flatten)]
    client: ClientOptions,
}

impl EnclaveOptions {
    pub(crate) fn trust(&self) -> Result<Trust> {
        self.trust.trust()
    }

    pub(crate) fn identity(&self) -> Result<Option<ClientIdentity>> {
        self.client.identity()
    }

    /// Names the options to give, if the enclave requires a client certificate and there is none.
    pub(crate) fn explain(&self, error: EnclaveError) -> Error {
        let is_anonymous = self.client.client_certificate.is_none()
            && matches!(&error, EnclaveError::Refused { refusal, .. } if refusal.code == "forbidden");
        let error = Error::from(error);
        if !is_anonymous {
            return error;
        }
        error.context("the enclave expects a client certificate: give --client-certificate and --client-key")
    }
}

/// Who asks.
#[derive(Debug, clap::Args)]
pub(crate) struct ClientOptions {
    /// The client certificate in PEM, for an enclave that requires one.
    #[arg(long, value_name = "PEM", requires = "client_key")]
    client_certificate: Option<PathBuf>,
    /// The certificate's private key in PEM, mode 0600.
    #[arg(long, value_name = "PEM", requires = "client_certificate")]
    client_key: Option<PathBuf>,
}

impl ClientOptions {
    pub(crate) fn identity(&self) -> Result<Option<ClientIdentity>> {
        let paths = self.client_certificate.as_ref().zip(self.client_key.as_ref());
        paths.map(|(certificate, key)| ClientIdentity::load(certificate, key)).transpose()
    }
}

/// Which programs may connect.
#[derive(Debug, clap::Args)]
pub(crate) struct FrontOptions {
    /// The mode of the Unix socket, such as 0600 for this user alone.
    #[arg(long, value_name = "OCTAL", default_value = "0660", value_parser = socket_mode)]
    socket_mode: u32,
    /// Let programs connect to an address that other hosts reach. Everyone there can then ask for signatures, and the
    /// requests cross the network without TLS.
    #[arg(long)]
    any_address: bool,
    /// A name of this host that programs may use, beside `localhost` and addresses. Repeat it for several.
    #[arg(long, value_name = "NAME")]
    host: Vec<String>,
    /// The most programs that may be connected.
    #[arg(long, value_name = "N", default_value = "256", value_parser = RangedU64ValueParser::<usize>::new().range(1..=4096))]
    clients: usize,
}

impl FrontOptions {
    pub(crate) async fn listen(&self, text: &str) -> Result<Front> {
        let Self { socket_mode, any_address: is_any_address, ref host, .. } = *self;
        Front::listen(text, Rules { socket_mode, is_any_address, hosts: host.clone() }).await
    }

    pub(crate) fn clients(&self) -> usize {
        self.clients
    }
}

fn socket_mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| mode & !0o666 == 0 && mode & 0o600 == 0o600);
    mode.ok_or_else(|| "expected 0600, 0660 or 0666".to_owned())
}

/// How to verify an enclave. No option turns verification off.
#[derive(Debug, clap::Args)]
pub(crate) struct TrustOptions {
    /// The measurements of the image that must run there, from `make eif` or nitro-cli. Repeat it to accept several images.
    #[arg(long, value_name = "MEASUREMENTS.JSON")]
    measurements: Vec<PathBuf>,
    /// A required PCR value. Repeat it for several PCRs, or to accept several values of one. PCR3 is the instance's role, PCR8 the image's
    /// signer, and PCR16 to PCR31 are extended by the enclave's own programs.
    #[arg(long, value_name = "N=HEX")]
    pcr: Vec<Register>,
    /// A trust root in place of AWS's, in PEM; for labs.
    #[arg(long, value_name = "PEM")]
    root: Option<PathBuf>,
}

impl TrustOptions {
    /// As [`Self::trust`]; none if no enclave is named.
    pub(crate) fn trust_if_named(&self) -> Result<Option<Trust>> {
        if self.measurements.is_empty() && self.pcr.is_empty() { Ok(None) } else { self.trust().map(Some) }
    }

    /// Reads the files.
    pub(crate) fn trust(&self) -> Result<Trust> {
        let root = self.root.as_deref().map(root).transpose()?.unwrap_or_else(TrustRoot::aws);
        let image = |path: &PathBuf| Ok((path.display().to_string(), measurements(path)?));
        let images = self.measurements.iter().map(image).collect::<Result<Vec<_>>>()?;
        let registers = self.pcr.iter().map(|register| (register.index, register.value));
        Trust::new(root, images, registers).context("--measurements, --pcr")
    }
}

/// Secrets Manager. Credentials are those of the environment or the instance's role.
#[derive(Debug, clap::Args)]
pub(crate) struct SecretsOptions {
    /// The endpoint of Secrets Manager, https://HOST or https://HOST:PORT. Default: that of the region.
    #[arg(long, value_name = "URL")]
    secrets_endpoint: Option<String>,
    /// Certificate authorities for AWS's servers in place of the system's, in PEM; for labs.
    #[arg(long, value_name = "PEM")]
    aws_ca: Option<PathBuf>,
}

impl SecretsOptions {
    pub(crate) fn client(self, region: String) -> Result<Aws> {
        self.client_with(region, None)
    }

    /// With KMS, too.
    pub(crate) fn client_with(self, region: String, kms_endpoint: Option<String>) -> Result<Aws> {
        let Self { secrets_endpoint, aws_ca: ca_path } = self;
        Aws::new(Settings { region, kms_endpoint, secrets_endpoint, ca_path }, variable)
    }
}

/// The region that an option names, or the secret's ARN, or the environment.
pub(crate) fn region(option: Option<String>, secret_id: &str) -> Result<String> {
    // Another ARN is refused later, before any request.
    let of_arn = kms::secret_place(secret_id).ok().flatten().map(|place| place.region.to_owned());
    let of_environment = || ["AWS_REGION", "AWS_DEFAULT_REGION"].into_iter().find_map(variable);
    option
        .or(of_arn)
        .or_else(of_environment)
        .context("no region, expected --region, a secret's ARN, or AWS_REGION in the environment")
}

pub(crate) fn measurements(path: &Path) -> Result<Measurements> {
    let text = read(path)?;
    Measurements::parse(&text).with_context(|| path.display().to_string())
}

fn root(path: &Path) -> Result<TrustRoot> {
    let text = read(path)?;
    TrustRoot::from_pem(&text).with_context(|| path.display().to_string())
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

/// On standard error: nobody should take a lab's root for AWS's.
pub(crate) fn warn_of_root(trust: &Trust) {
    if !trust.root().is_aws() {
        tracing::warn!(trust_root = %trust.root(), "attestation documents are verified against a root other than AWS's");
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secrets_arn_says_the_region() {
        let arn = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:hot-wallet-AbCdEf";
        assert_eq!(region(None, arn).unwrap(), "eu-central-1");
        assert_eq!(region(Some("eu-west-1".to_owned()), arn).unwrap(), "eu-west-1");
    }
}
