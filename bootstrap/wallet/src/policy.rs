//! `wallet policy`.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use attestation::Pcr;
use tracing::warn;
use wallet::aws::{EncryptionContext, Entry};
use wallet::key_policy::{Enclave, KeyPolicy, Principal};

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
    /// Who manages the key and this policy, and cannot use the key; several may be given.
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
