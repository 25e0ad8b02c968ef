//! `wallet policy` and `wallet check-policy`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, ensure};
use attestation::{Measurements, Pcr};
use tracing::warn;
use wallet::aws::{EncryptionContext, Entry};
use wallet::key_policy::{Context, Enclave, Finding, KeyPolicy, Principal, Way, audit};

use crate::options::measurements;

/// Who, and which enclave.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The image that may decrypt, as `make eif` or nitro-cli wrote it down; several may be given, for the time of an upgrade.
    #[arg(long, value_name = "MEASUREMENTS.JSON", required_unless_present = "allow_debug")]
    measurements: Vec<PathBuf>,
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
        let images = self.measurements.iter().map(|path| self.image(path)).collect::<Result<Vec<_>>>()?;
        let context = if self.context.is_empty() { None } else { Some(EncryptionContext::new(self.context)?) };
        let enclave = match images.into_iter().reduce(Enclave::or) {
            Some(enclave) => enclave,
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

impl Options {
    fn image(&self, path: &Path) -> Result<Enclave> {
        let image = measurements(path).context(
            "--measurements (an enclave in debug mode measures zeros; --allow-debug is for experiments with those)",
        )?;
        let registers = [(1, self.pcr1.then_some(image.pcr1)), (2, self.pcr2.then_some(image.pcr2)), (3, self.pcr3)];
        Ok(Enclave::new(&image, registers.into_iter().filter_map(|(index, pcr)| Some((index, pcr?))))?)
    }
}

/// A policy as it is, and whom it is right to trust with the key: as for `policy`.
#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    /// The policy, in JSON, as `aws kms get-key-policy --query Policy --output text` prints it. `-` is standard input.
    #[arg(value_name = "FILE")]
    path: PathBuf,
    /// The image that may decrypt; several may be given.
    #[arg(long, value_name = "MEASUREMENTS.JSON")]
    measurements: Vec<PathBuf>,
    /// The role of the instance that the enclave runs on, which alone may decrypt, and only attested.
    #[arg(long, value_name = "ARN")]
    role: Option<Principal>,
    /// Who manages the key; several may be given.
    #[arg(long, value_name = "ARN")]
    admin: Vec<Principal>,
    /// Who encrypts; several may be given.
    #[arg(long, value_name = "ARN")]
    encryptor: Vec<Principal>,
    /// The instance's role may encrypt as well.
    #[arg(long, requires = "role")]
    allow_generate: bool,
    /// The encryption context that has to be asked for; several may be given. Without it, any is right, but not none.
    #[arg(long, value_name = "NAME=VALUE")]
    context: Vec<Entry>,
}

/// What is right, once it is read.
struct Expected<'a> {
    check: &'a Check,
    images: Vec<Measurements>,
    context: Option<Context>,
}

impl Check {
    /// Everybody who may open, use or end the key, a line each; and whether that is as it should be.
    pub(crate) fn report(&self) -> Result<(String, Result<()>)> {
        let images = self.measurements.iter().map(|path| measurements(path)).collect::<Result<Vec<_>>>()?;
        let context = if self.context.is_empty() { None } else { Some(EncryptionContext::new(self.context.clone())?) };
        let context = context.map(|context| {
            context.iter().map(|(name, value)| (name.to_owned(), vec![value.to_owned()])).collect::<Context>()
        });
        let text = match self.path.to_str() {
            Some("-") => std::io::read_to_string(std::io::stdin()).context("read standard input")?,
            _ => std::fs::read_to_string(&self.path).with_context(|| format!("read {}", self.path.display()))?,
        };
        let found = audit(&text).with_context(|| format!("read the key policy {}", self.path.display()))?;
        let expected = Expected { check: self, images, context };
        let (mut report, mut wrong) = (String::new(), 0);
        for finding in &found {
            report += &match expected.problem(finding) {
                Some(problem) => {
                    wrong += 1;
                    format!("NOT EXPECTED: {finding}: {problem}\n")
                }
                None if finding.is_wide() => format!("WIDE: {finding}\n"),
                None => format!("{finding}\n"),
            };
        }
        let verdict = match wrong {
            0 => Ok(()),
            _ => Err(anyhow!(
                "{wrong} not expected; expected --admin to manage, --encryptor to encrypt, and --role to decrypt attested, with \
                 --measurements and --context"
            )),
        };
        Ok((report, verdict))
    }
}

impl Expected<'_> {
    /// Why it is not right that the policy lets them.
    fn problem(&self, finding: &Finding) -> Option<String> {
        let Check { role, admin, encryptor, allow_generate, .. } = self.check;
        let is_one_of = |mut principals: std::slice::Iter<'_, Principal>| {
            principals.any(|principal| finding.is_of(&principal.to_string()))
        };
        let (is_role, is_admin) = (is_one_of(role.as_slice().iter()), is_one_of(admin.iter()));
        let named = |is_right: bool, expected: &str| (!is_right).then(|| expected.to_owned());
        match &finding.way {
            Way::Opens(_) if finding.action != "kms:PutKeyPolicy" => Some("expected of nobody".to_owned()),
            Way::Opens(_) | Way::Ends => named(is_admin, "expected of --admin alone"),
            Way::Attested(allowed) => {
                let are_known = allowed.iter().all(|pcr| self.images.iter().any(|image| image.pcr0 == *pcr));
                wide(finding)
                    .or_else(|| named(is_role, "expected of --role alone"))
                    .or_else(|| named(are_known, "expected an image of --measurements"))
                    .or_else(|| self.unbound(finding))
            }
            Way::Uses if finding.action != "kms:Encrypt" => Some("expected of nobody".to_owned()),
            Way::Uses => {
                let may_encrypt = is_one_of(encryptor.iter()) || (*allow_generate && is_role);
                wide(finding)
                    .or_else(|| named(may_encrypt, "expected of --encryptor alone"))
                    .or_else(|| self.unbound(finding))
            }
        }
    }

    /// Ciphertexts that are bound to nothing can be moved to another purpose.
    fn unbound(&self, finding: &Finding) -> Option<String> {
        let expected = match &self.context {
            Some(context) if *context == finding.context => return None,
            None if !finding.context.is_empty() => return None,
            Some(context) => {
                let pairs: Vec<_> =
                    context.iter().map(|(name, values)| format!("{name}={}", values.concat())).collect();
                pairs.join(" and ")
            }
            None => "one, such as purpose=ethereum-signer".to_owned(),
        };
        Some(format!("expected a condition on the encryption context, StringEquals: {expected}"))
    }
}

fn wide(finding: &Finding) -> Option<String> {
    finding.is_wide().then(|| "expected a role or user by its name".to_owned())
}
