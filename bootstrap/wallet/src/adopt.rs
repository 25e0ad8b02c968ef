//! `wallet adopt-ledger`: binds a key that is in use to a ledger.
//!
//! What enclaves without the ledger have signed is in no ledger. So a key is bound only when none of them can sign any more: the key policy
//! opens the key to none, and none answers.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ethereum::address::Address;
use kms::{KeyArn, read_ciphertext};
use serde_json::json;
use tokio::time::sleep;
use wallet::aws::{Aws, EncryptionContext, Entry, KeyName, LEDGER, LedgerName, Stored};
use wallet::enclave::{EnclaveError, EnclaveUrl, Unverified};
use wallet::key_policy::{Finding, Way, audit};
use wallet::tls::ClientIdentity;
use wallet::trust::Trust;

use crate::options::{ClientOptions, SecretsOptions, TrustOptions, warn_of_root};
use crate::{read_text, say};

/// How often an enclave that is gone is asked.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// Which key, which ledger, and which enclaves have ended.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The secret with the key: name or ARN.
    #[arg(long, required_unless_present = "encrypted_key", requires = "replace")]
    secret_id: Option<String>,
    /// The secret's current key, by its address. Its present version stays in the secret, and no enclave can open it any more.
    #[arg(long, value_name = "KEY", requires = "secret_id")]
    replace: Option<KeyName>,
    /// In place of a secret: the file with the encrypted key in base64. Prints the new one. `-` is standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "secret_id")]
    encrypted_key: Option<PathBuf>,
    /// The KMS key.
    #[arg(long, value_name = "ARN")]
    key_arn: KeyArn,
    /// The present encryption context, without the ledger: `kms.encryption_context` of the enclaves. Repeat it for several.
    #[arg(long, value_name = "NAME=VALUE", required = true)]
    context: Vec<Entry>,
    /// The ledger: the account and the bucket of the new enclaves' `[signer.ledger]`.
    #[arg(long, value_name = "OWNER/BUCKET")]
    ledger: LedgerName,
    /// The URL of an enclave without the ledger that has been ended. If one still answers, nothing is done. Repeat it for each.
    #[arg(long, value_name = "URL", required_unless_present = "never_opened")]
    gone: Vec<EnclaveUrl>,
    /// No enclave has ever opened this key.
    #[arg(long, conflicts_with = "gone")]
    never_opened: bool,
    #[command(flatten)]
    client: ClientOptions,
    // An enclave with the ledger may answer in place of one that has ended.
    #[command(flatten)]
    trust: TrustOptions,
    /// The endpoint of KMS, https://HOST or https://HOST:PORT. Default: that of the key's region.
    #[arg(long, value_name = "URL")]
    kms_endpoint: Option<String>,
    #[command(flatten)]
    aws: SecretsOptions,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Options {
    pub(crate) async fn run(self) -> Result<()> {
        let Self { secret_id, replace, encrypted_key, key_arn, context, ledger, gone, client, trust, aws, .. } = self;
        let old = EncryptionContext::new(context)?;
        ensure!(old.ledger().is_none(), "--context: {old}: expected the present context, which has no ledger");
        let new = old.clone().with_ledger(&ledger);
        let aws = aws.client_with(key_arn.region().to_owned(), self.kms_endpoint)?;
        check_policy(&aws.key_policy(&key_arn).await?, &ledger)
            .with_context(|| format!("the policy of KMS key {key_arn}"))?;
        let trust = trust.trust_if_named()?;
        trust.iter().for_each(warn_of_root);
        let identity = client.identity()?;
        for url in &gone {
            check_gone(url, trust.as_ref(), identity.as_ref()).await?;
        }
        let bind = |ciphertext| aws.bind_anew(ciphertext, &key_arn, [&old, &new]);
        match (secret_id, replace, encrypted_key) {
            (Some(secret_id), Some(replace), _) => {
                let (address, stored) = in_secret(&aws, &secret_id, &replace, bind).await?;
                let Stored { arn, version_id, label, .. } = stored;
                let next = "put the key policy again without its --adopter, and start the enclaves with the ledger";
                match self.json {
                    true => say(json!({
                        "ledger": ledger.to_string(), "secret_id": arn, "address": address.to_string(), "version_id": version_id,
                        "label": label
                    })),
                    false => say(format_args!(
                        "address: {address}\nledger: {ledger}\nsecret: {arn}\nversion: {version_id}\nlabel: {label}\nnext: {next}"
                    )),
                }
            }
            (_, _, Some(path)) => {
                let text = read_text(&path, "the encrypted key")?;
                let ciphertext = read_ciphertext(&text).map_err(|error| anyhow!("{}: {error}", path.display()))?;
                let text = STANDARD.encode(bind(ciphertext).await?);
                match self.json {
                    true => say(json!({ "ledger": ledger.to_string(), "encrypted_key": text })),
                    false => say(text),
                }
            }
            (Some(_) | None, _, None) => bail!("expected --secret-id with --replace, or --encrypted-key"),
        }
    }
}

/// Binds the current key of a secret, and makes it the current one; its address.
async fn in_secret<F: Future<Output = Result<Vec<u8>>>>(
    aws: &Aws,
    secret_id: &str,
    replace: &KeyName,
    bind: impl FnOnce(Vec<u8>) -> F,
) -> Result<(Address, Stored)> {
    let place = aws.place(secret_id, Some(replace)).await?;
    let (name, version_id) = place.replaced().with_context(|| format!("secret {secret_id:?} has no key"))?;
    let KeyName::Address(address) = name else {
        bail!(
            "secret {secret_id:?}: version {version_id} has no label with its address, expected one; give it the label with `aws \
             secretsmanager update-secret-version-stage --secret-id {secret_id} --version-stage address-ADDRESS --move-to-version-id \
             {version_id}`"
        );
    };
    let (stored, ciphertext) = aws.stored(secret_id).await?;
    ensure!(
        stored.version_id == version_id,
        "secret {secret_id:?}: version {} is the current one by now, expected {version_id}: somebody else changes the secret",
        stored.version_id
    );
    let stored = aws.store(&place, &address, &bind(ciphertext).await?).await?;
    Ok((address, stored))
}

/// Whether only enclaves with the ledger can open the key.
fn check_policy(policy: &str, ledger: &LedgerName) -> Result<()> {
    let mut is_opened = false;
    for finding in audit(policy)? {
        let Finding { way, action, context, .. } = &finding;
        match way {
            Way::Attested(_) => {
                let bound = context.get(LEDGER).map(Vec::as_slice);
                ensure!(
                    bound == Some(&[ledger.to_string()]),
                    "{finding}: an image without the ledger could open the key again, expected ledger={ledger}. Put the policy of \
                     `wallet policy` with --context ledger={ledger} and --adopter, and give KMS some minutes to apply it"
                );
                is_opened = true;
            }
            Way::Opens(_) if *action != "kms:PutKeyPolicy" => {
                bail!("{finding}: expected attestation and ledger={ledger}")
            }
            Way::Opens(_) | Way::Adopts | Way::Uses | Way::Ends => {}
        }
    }
    ensure!(is_opened, "it lets no enclave decrypt, expected the image with ledger={ledger}");
    Ok(())
}

/// An enclave that has ended does not answer, or one that is trusted answers in its place.
async fn check_gone(url: &EnclaveUrl, trust: Option<&Trust>, identity: Option<&ClientIdentity>) -> Result<()> {
    let still = || {
        format!(
            "--gone {url}: something answers there. End every enclave without the ledger and try again; if it is one with the ledger, name \
             its --measurements"
        )
    };
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            sleep(PAUSE).await;
        }
        let mut there = match Unverified::connect(url, identity).await {
            Ok(there) => there,
            Err(EnclaveError::Silent { .. }) => continue,
            Err(EnclaveError::Connect { source, .. }) if is_absence(source.kind()) => continue,
            Err(error @ EnclaveError::Connect { .. }) => {
                return Err(error).with_context(|| format!("--gone {url}: this does not tell whether it has ended"));
            }
            Err(error) => return Err(error).with_context(still),
        };
        let Some(trust) = trust else { bail!(still()) };
        there.judge(trust).await.with_context(still)?.verdict.with_context(still)?;
    }
    Ok(())
}

fn is_absence(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset | ErrorKind::TimedOut | ErrorKind::HostUnreachable
    )
}
