//! `wallet policy` and `wallet check-policy`.

use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow, ensure};
use attestation::{Measurements, Pcr};
use tracing::warn;
use wallet::aws::{EncryptionContext, Entry};
use wallet::key_policy::{Enclave, Finding, KeyPolicy, Principal, Way, audit};

use crate::options::measurements;

/// Who, and which enclave.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The image that may decrypt, as `make eif` or nitro-cli wrote it down.
    #[arg(long, value_name = "MEASUREMENTS.JSON", required_unless_present = "allow_debug")]
    measurements: Option<PathBuf>,
    /// Ask for PCR1 too, the release. PCR0 covers it already.
    #[arg(long, requires = "measurements")]
    pcr1: bool,
    /// Ask for PCR2 too, the configuration. PCR0 covers it already.
    #[arg(long, requires = "measurements")]
    pcr2: bool,
    /// Ask for PCR3 too, the role of the instance.
    #[arg(long, value_name = "HEX")]
    pcr3: Option<Pcr>,
    /// The role of the instance that the enclave runs on.
    #[arg(long, value_name = "ARN")]
    role: Principal,
    /// Who manages the key and this policy, and can open the key by changing it; several may be given.
    #[arg(long, value_name = "ARN", required = true)]
    admin: Vec<Principal>,
    /// Who encrypts, and cannot decrypt: the Lambda function's role, or that of whoever calls `set-key`; several may be given.
    #[arg(long, value_name = "ARN", required = true)]
    encryptor: Vec<Principal>,
    /// Let the instance's role encrypt as well, for `generate-key`. KMS does not ask for attestation there.
    #[arg(long)]
    allow_generate: bool,
    /// Ask for this encryption context too; several may be given.
    #[arg(long, value_name = "NAME=VALUE")]
    context: Vec<Entry>,
    /// Instead of an image's, the measurements of ANY enclave in debug mode: zeros. Never for a key that is worth something.
    #[arg(long, conflicts_with_all = ["measurements", "pcr3"])]
    allow_debug: bool,
}

impl Options {
    pub(crate) fn policy(self) -> Result<KeyPolicy> {
        ensure!(
            self.role.is_role() && !self.admin.contains(&self.role),
            "--role: expected a role that is no --admin: whoever is root on the instance has this role, and could change the policy"
        );
        let admins: Vec<_> = self.admin.iter().map(ToString::to_string).collect();
        warn!(
            "the administrators can open the key, by putting another policy: {}; have each PutKeyPolicy and CreateGrant reported",
            admins.join(", ")
        );
        let context = if self.context.is_empty() { None } else { Some(EncryptionContext::new(self.context)?) };
        let enclave = match &self.measurements {
            Some(path) => {
                let image = measurements(path).context(
                    "--measurements (an enclave in debug mode measures zeros; --allow-debug is for experiments with those)",
                )?;
                let registers =
                    [(1, self.pcr1.then_some(image.pcr1)), (2, self.pcr2.then_some(image.pcr2)), (3, self.pcr3)];
                Enclave::new(&image, registers.into_iter().filter_map(|(index, pcr)| Some((index, pcr?))))?
            }
            None => {
                warn!("THIS POLICY PROTECTS NOTHING: every enclave in debug mode measures zeros, whatever runs in it,");
                warn!(
                    "and whoever is root on the instance reads what it does. Use it for a worthless key, and delete the key."
                );
                Enclave::debug()
            }
        };
        Ok(KeyPolicy {
            admins: self.admin,
            encryptors: self.encryptor,
            role: self.role,
            is_generating: self.allow_generate,
            enclave,
            context,
        })
    }
}

/// A policy as it is, and whom it is right to trust with the key.
#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    /// The policy, in JSON, as `aws kms get-key-policy --query Policy --output text` prints it. `-` is standard input.
    #[arg(value_name = "FILE")]
    path: PathBuf,
    /// The image that may decrypt; several may be given.
    #[arg(long, value_name = "MEASUREMENTS.JSON")]
    measurements: Vec<PathBuf>,
    /// Who manages the key; several may be given.
    #[arg(long, value_name = "ARN")]
    admin: Vec<Principal>,
}

impl Check {
    /// Everybody who may open, use or end the key, a line each; and whether that is as it should be.
    pub(crate) fn report(&self) -> Result<(String, Result<()>)> {
        let images = self.measurements.iter().map(|path| measurements(path)).collect::<Result<Vec<_>>>()?;
        let text = match self.path.to_str() {
            Some("-") => std::io::read_to_string(std::io::stdin()).context("read standard input")?,
            _ => std::fs::read_to_string(&self.path).with_context(|| format!("read {}", self.path.display()))?,
        };
        let found = audit(&text).with_context(|| format!("read the key policy {}", self.path.display()))?;
        let is_right: Vec<_> = found.iter().map(|finding| self.is_right(finding, &images)).collect();
        let line = |(finding, is_right): (&Finding, &bool)| match is_right {
            true => format!("{finding}\n"),
            false => format!("NOT EXPECTED: {finding}\n"),
        };
        let wrong = is_right.iter().filter(|is_right| !**is_right).count();
        let verdict = match wrong {
            0 => Ok(()),
            _ => {
                Err(anyhow!("{wrong} not expected; expected --admin to manage, and --measurements to decrypt attested"))
            }
        };
        Ok((found.iter().zip(&is_right).map(line).collect(), verdict))
    }

    fn is_right(&self, finding: &Finding, images: &[Measurements]) -> bool {
        let is_admin = || self.admin.iter().any(|admin| finding.is_of(&admin.to_string()));
        match &finding.way {
            Way::Opens(_) => finding.action == "kms:PutKeyPolicy" && is_admin(),
            Way::Attested(allowed) => allowed.iter().all(|pcr| images.iter().any(|image| image.pcr0 == *pcr)),
            Way::Uses => finding.action == "kms:Encrypt",
            Way::Ends => is_admin(),
        }
    }
}
