//! What the verbs have in common on the command line: where the enclave is and which one is right, and how to reach AWS.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Error, Result};
use attestation::{Measurements, Register, TrustRoot};
use wallet::aws::{Aws, Settings};
use wallet::enclave::{EnclaveError, EnclaveUrl};
use wallet::tls::ClientIdentity;
use wallet::trust::Trust;

/// The enclave, which has to prove itself before anything is asked of it: no option turns that off.
#[derive(Debug, clap::Args)]
pub(crate) struct EnclaveOptions {
    /// Where the signer is: https://HOST or https://HOST:PORT.
    #[arg(long)]
    pub(crate) url: EnclaveUrl,
    /// The image that has to run there, as `make eif` or nitro-cli wrote it down; of several, any one.
    #[arg(long, value_name = "MEASUREMENTS.JSON")]
    measurements: Vec<PathBuf>,
    /// A value that a register has to have; of several for one register, any one. PCR3 is the instance's role, PCR8 the image's signer, and
    /// PCR16 to PCR31 are what the enclave's own programs extend.
    #[arg(long, value_name = "N=HEX")]
    pcr: Vec<Register>,
    /// Another root than AWS's, in PEM: for labs.
    #[arg(long, value_name = "PEM")]
    root: Option<PathBuf>,
    /// The client's certificate in PEM, for an enclave that asks who is there.
    #[arg(long, value_name = "PEM", requires = "client_key")]
    client_certificate: Option<PathBuf>,
    /// The certificate's private key in PEM, mode 0600.
    #[arg(long, value_name = "PEM", requires = "client_certificate")]
    client_key: Option<PathBuf>,
}

impl EnclaveOptions {
    pub(crate) fn trust(&self) -> Result<Trust> {
        let root = self.root.as_deref().map(root).transpose()?.unwrap_or_else(TrustRoot::aws);
        let image = |path: &PathBuf| Ok((path.display().to_string(), measurements(path)?));
        let images = self.measurements.iter().map(image).collect::<Result<Vec<_>>>()?;
        let registers = self.pcr.iter().map(|register| (register.index, register.value));
        Trust::new(root, images, registers).context("--measurements, --pcr")
    }

    pub(crate) fn identity(&self) -> Result<Option<ClientIdentity>> {
        let paths = self.client_certificate.as_ref().zip(self.client_key.as_ref());
        paths.map(|(certificate, key)| ClientIdentity::load(certificate, key)).transpose()
    }

    /// Says which options to give, where the enclave wants to know who is there and was not told.
    pub(crate) fn explain(&self, error: EnclaveError) -> Error {
        let is_of_nobody = self.client_certificate.is_none()
            && matches!(&error, EnclaveError::Refused { refusal, .. } if refusal.code == "forbidden");
        let error = Error::from(error);
        if !is_of_nobody {
            return error;
        }
        error.context("the enclave expects a client certificate: give --client-certificate and --client-key")
    }
}

/// Secrets Manager. Credentials are those of the environment or the instance's role.
#[derive(Debug, clap::Args)]
pub(crate) struct SecretsOptions {
    /// Where Secrets Manager is, if not where the region says: https://HOST or https://HOST:PORT.
    #[arg(long, value_name = "URL")]
    secrets_endpoint: Option<String>,
    /// Whom to believe of AWS's servers in place of the system's certificate authorities, in PEM: for labs.
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
    // What is no secret's ARN is named before anybody is asked.
    let of_arn = kms::secret_place(secret_id).ok().flatten().map(|place| place.region.to_owned());
    let of_environment = || ["AWS_REGION", "AWS_DEFAULT_REGION"].into_iter().find_map(variable);
    option
        .or(of_arn)
        .or_else(of_environment)
        .context("which region? Give --region, the secret's ARN, or set AWS_REGION")
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
