//! `wallet policy` and `wallet check-policy`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, ensure};
use attestation::{Measurements, Pcr};
use tracing::warn;
use wallet::aws::{EncryptionContext, Entry};
use wallet::key_policy::{Context, Enclave, Finding, KeyPolicy, Principal, Way, audit};

use crate::options::measurements;
use crate::read_text;

/// Who, and which enclave.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The measurements of the image that may decrypt, from `make eif` or nitro-cli. Repeat it during an upgrade.
    #[arg(long, value_name = "MEASUREMENTS.JSON", required_unless_present = "allow_debug")]
    measurements: Vec<PathBuf>,
    /// Require PCR1 too, the release. PCR0 already covers it.
    #[arg(long, requires = "measurements")]
    pcr1: bool,
    /// Require PCR2 too, the configuration. PCR0 already covers it.
    #[arg(long, requires = "measurements")]
    pcr2: bool,
    /// Require this PCR3 too, the instance's role.
    #[arg(long, value_name = "HEX")]
    pcr3: Option<Pcr>,
    /// The role of the instance that the enclave runs on.
    #[arg(long, value_name = "ARN")]
    role: Principal,
    /// An administrator of the key and of this policy. Whoever can change the policy can decrypt. Repeat it for several.
    #[arg(long, value_name = "ARN", required = true)]
    admin: Vec<Principal>,
    /// A principal that may encrypt and not decrypt: the role of the Lambda function, or of the user of `set-key`. Repeat it for several.
    #[arg(long, value_name = "ARN", required = true)]
    encryptor: Vec<Principal>,
    /// Allow the instance's role to encrypt, for `generate-key`. KMS does not require attestation for this.
    #[arg(long)]
    allow_generate: bool,
    /// Require this encryption context. Repeat it for several.
    #[arg(long, value_name = "NAME=VALUE")]
    context: Vec<Entry>,
    /// A principal that may run `adopt-ledger`. Leave it out once each key is bound to the ledger. Repeat it for several.
    #[arg(long, value_name = "ARN", requires = "context")]
    adopter: Vec<Principal>,
    /// Allow ANY enclave in debug mode, whose measurements are zeros, in place of an image. Never use this for a key of value.
    #[arg(long, conflicts_with_all = ["measurements", "pcr3"])]
    allow_debug: bool,
}

impl Options {
    pub(crate) fn policy(self) -> Result<KeyPolicy> {
        ensure!(
            self.role.is_role() && !self.admin.contains(&self.role),
            "--role: expected a role that is not an --admin: root on the instance has this role, and could change the policy"
        );
        let admins: Vec<_> = self.admin.iter().map(ToString::to_string).collect();
        warn!(
            "these administrators can decrypt by changing the policy: {}; set an alarm on PutKeyPolicy and CreateGrant",
            admins.join(", ")
        );
        let images = self.measurements.iter().map(|path| self.image(path)).collect::<Result<Vec<_>>>()?;
        let context = if self.context.is_empty() { None } else { Some(EncryptionContext::new(self.context)?) };
        ensure!(
            self.adopter.is_empty() || context.as_ref().is_some_and(|context| context.ledger().is_some()),
            "--adopter: expected the ledger, --context ledger=OWNER/BUCKET"
        );
        let enclave = match images.into_iter().reduce(Enclave::or) {
            Some(enclave) => enclave,
            None => {
                warn!(
                    "THIS POLICY PROTECTS NOTHING: every enclave in debug mode has measurements of zero, whatever runs in it,"
                );
                warn!(
                    "and root on the instance can read its console. Use it only for a test key, and delete the key afterwards."
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
            adopters: self.adopter,
        })
    }
}

impl Options {
    fn image(&self, path: &Path) -> Result<Enclave> {
        let image = measurements(path).context(
            "--measurements (an enclave in debug mode has measurements of zero; --allow-debug is for experiments with those)",
        )?;
        let registers = [(1, self.pcr1.then_some(image.pcr1)), (2, self.pcr2.then_some(image.pcr2)), (3, self.pcr3)];
        Ok(Enclave::new(&image, registers.into_iter().filter_map(|(index, pcr)| Some((index, pcr?))))?)
    }
}

/// The policy to check, and whom it should allow, as for `policy`.
#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    /// The file with the policy, JSON, as `aws kms get-key-policy --query Policy --output text` prints it. `-` is standard input.
    #[arg(value_name = "FILE")]
    path: PathBuf,
    /// The measurements of the image that may decrypt. Repeat it for several.
    #[arg(long, value_name = "MEASUREMENTS.JSON")]
    measurements: Vec<PathBuf>,
    /// The role of the instance that the enclave runs on. Only this role may decrypt, and only with attestation.
    #[arg(long, value_name = "ARN")]
    role: Option<Principal>,
    /// An administrator of the key. Repeat it for several.
    #[arg(long, value_name = "ARN")]
    admin: Vec<Principal>,
    /// A principal that may encrypt. Repeat it for several.
    #[arg(long, value_name = "ARN")]
    encryptor: Vec<Principal>,
    /// The instance's role may encrypt.
    #[arg(long, requires = "role")]
    allow_generate: bool,
    /// A principal that may run `adopt-ledger`. Repeat it for several.
    #[arg(long, value_name = "ARN")]
    adopter: Vec<Principal>,
    /// The encryption context that the policy must require. Repeat it for several. Default: any, but at least one.
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
        let text = read_text(&self.path, "the key policy")?;
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
                "{wrong} not expected; expected --admin to manage, --encryptor to encrypt, and --role to decrypt with attestation, with \
                 --measurements and --context"
            )),
        };
        Ok((report, verdict))
    }
}

impl Expected<'_> {
    /// Why it is not right that the policy lets them.
    fn problem(&self, finding: &Finding) -> Option<String> {
        let Check { role, admin, encryptor, allow_generate, adopter, .. } = self.check;
        let is_one_of = |mut principals: std::slice::Iter<'_, Principal>| {
            principals.any(|principal| finding.is_of(&principal.to_string()))
        };
        let (is_role, is_admin) = (is_one_of(role.as_slice().iter()), is_one_of(admin.iter()));
        let named = |is_right: bool, expected: &str| (!is_right).then(|| expected.to_owned());
        match &finding.way {
            Way::Opens(_) if finding.action != "kms:PutKeyPolicy" => Some("expected for no principal".to_owned()),
            Way::Opens(_) | Way::Ends => named(is_admin, "expected only for --admin"),
            Way::Attested(allowed) => {
                let are_known = allowed.iter().all(|pcr| self.images.iter().any(|image| image.pcr0 == *pcr));
                wide(finding)
                    .or_else(|| named(is_role, "expected only for --role"))
                    .or_else(|| named(are_known, "expected an image of --measurements"))
                    .or_else(|| self.unbound(finding))
            }
            Way::Adopts => wide(finding).or_else(|| named(is_one_of(adopter.iter()), "expected only for --adopter")),
            Way::Uses if finding.action == "kms:ReEncryptTo" && is_one_of(adopter.iter()) => {
                wide(finding).or_else(|| self.unbound(finding))
            }
            Way::Uses if finding.action != "kms:Encrypt" => Some("expected for no principal".to_owned()),
            Way::Uses => {
                let may_encrypt = is_one_of(encryptor.iter()) || (*allow_generate && is_role);
                wide(finding)
                    .or_else(|| named(may_encrypt, "expected only for --encryptor"))
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
