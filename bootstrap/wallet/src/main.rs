//! The signer's client on the command line.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has failed"))]

mod adopt;
mod hub_options;
mod options;
mod policy;
mod proxy_options;
mod signals;

use std::fmt::Display;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Parser, Subcommand};
use ethereum::key::SecretKey;
use kms::KeyArn;
use serde_json::json;
use signer_api::request::MAX_BODY;
use tracing_subscriber::EnvFilter;
use wallet::aws::{Aws, EncryptionContext, Entry, KeyName, Place, Stored};
use wallet::enclave::{Enclave, Unverified};
use wallet::key_file;
use wallet::report::Report;
use zeroize::Zeroizing;

use hub_options::HubOptions;
use options::{EnclaveOptions, SecretsOptions, region, warn_of_root};
use proxy_options::ProxyOptions;

const CREDENTIALS: &str = "AWS credentials are AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, as `aws configure \
    export-credentials --format env` prints them; without them, those of the EC2 instance's role.";

/// Stores keys for the enclave's Ethereum signer, and requests signatures from it.
///
/// KMS encrypts each secret key, Secrets Manager stores the ciphertext, and only the measured enclave can decrypt it. wallet sends no request
/// before the enclave's attestation document is verified: it must be genuine, fresh, of the right image, and bind the TLS key of the
/// connection.
#[derive(Parser)]
#[command(name = "wallet", version, after_help = CREDENTIALS)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Generates a secret key in a new file with mode 0600, and prints its address.
    Keygen {
        /// The new file; must not exist.
        #[arg(long, default_value = "ethereum.key", conflicts_with = "print")]
        out: PathBuf,
        /// Print the secret key instead of writing a file, and the address to standard error. A terminal may keep the key.
        #[arg(long)]
        print: bool,
        /// Print JSON.
        #[arg(long, conflicts_with = "print")]
        json: bool,
    },
    /// Encrypts a secret key with KMS and stores it in Secrets Manager. Replaces an existing key only if --replace names it.
    SetKey {
        /// The secret to store it in: name or ARN.
        #[arg(long)]
        secret_id: String,
        /// The KMS key. Only the enclave can decrypt with it.
        #[arg(long, value_name = "ARN")]
        key_arn: KeyArn,
        /// The encryption context that the ciphertext is bound to; the same as the enclave's `kms.encryption_context`.
        #[arg(long, value_name = "NAME=VALUE", required = true)]
        context: Vec<Entry>,
        /// The file with the secret key in hex, as `keygen` writes it; mode 0600. `-` is standard input.
        #[arg(value_name = "FILE")]
        path: PathBuf,
        /// The current key of the secret, which is replaced: its address, or its VersionId if it has no address. It stays in the secret
        /// as an earlier version, and `restore-key` restores it.
        #[arg(long, value_name = "KEY")]
        replace: Option<KeyName>,
        /// The endpoint of KMS, https://HOST or https://HOST:PORT. Default: that of the key's region.
        #[arg(long, value_name = "URL")]
        kms_endpoint: Option<String>,
        #[command(flatten)]
        aws: SecretsOptions,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Prints the stored encrypted key in base64. Only the enclave can decrypt it.
    GetKey {
        /// The secret: name or ARN.
        #[arg(long)]
        secret_id: String,
        /// The secret's region. Default: that of its ARN, or AWS_REGION.
        #[arg(long)]
        region: Option<String>,
        #[command(flatten)]
        aws: SecretsOptions,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Restores an earlier key of a secret as the current one.
    RestoreKey {
        /// The secret: name or ARN.
        #[arg(long)]
        secret_id: String,
        /// The key to restore: its address, or its VersionId.
        #[arg(long, value_name = "KEY")]
        key: KeyName,
        /// The current key of the secret: its address, or its VersionId. It stays in the secret as an earlier version.
        #[arg(long, value_name = "KEY")]
        replace: KeyName,
        /// The secret's region. Default: that of its ARN, or AWS_REGION.
        #[arg(long)]
        region: Option<String>,
        #[command(flatten)]
        aws: SecretsOptions,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Binds a key that is in use to a ledger, so that only enclaves with this ledger can open it.
    ///
    /// KMS encrypts the key anew, and nobody sees it. The key policy must open the key only with the ledger, and let the caller adopt it:
    /// `policy --context ledger=OWNER/BUCKET --adopter ARN`. Enclaves without the ledger must have ended.
    AdoptLedger(adopt::Options),
    /// Generates a key in the enclave, and prints its address and its ciphertext. The key leaves the enclave only encrypted.
    GenerateKey {
        #[command(flatten)]
        enclave: EnclaveOptions,
        /// Store the ciphertext in this secret: name or ARN.
        #[arg(long)]
        secret_id: Option<String>,
        /// The current key of the secret, which is replaced; as for `set-key`.
        #[arg(long, value_name = "KEY", requires = "secret_id")]
        replace: Option<KeyName>,
        /// The secret's region. Default: that of its ARN, or AWS_REGION.
        #[arg(long, requires = "secret_id")]
        region: Option<String>,
        #[command(flatten)]
        aws: SecretsOptions,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Signs a transaction in the enclave, and prints the signer's JSON response.
    ///
    /// The same request gets the same response, so it is safe to repeat after a failure. To replace a stuck transaction, raise its fees by
    /// at least 10 % and sign it again; the enclave's policy must have `fee_bump = true`.
    Sign {
        /// The file with the request, JSON: {"transaction_payload": {...}, "secret_id" or "encrypted_key": "..."}. `-` is standard input.
        #[arg(value_name = "FILE")]
        path: PathBuf,
        #[command(flatten)]
        enclave: EnclaveOptions,
    },
    /// Verifies the enclave's attestation document, and prints its claims and the verdict. Exits with 1 if verification fails.
    Verify {
        #[command(flatten)]
        enclave: EnclaveOptions,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Connects to enclaves, verifies each connection, and offers them as plain HTTP on this host.
    ///
    /// Programs send the signer's requests to --listen, without TLS. A request goes to any connection that is free.
    /// `GET /enclaves` shows who is there, and `GET /proxy/metrics` is in Prometheus's format. SIGHUP reads the client
    /// certificate and the measurements again: an enclave whose image left the list is dropped.
    Proxy(ProxyOptions),
    /// Waits for calls of enclaves with `[[home]]`, verifies each, and offers them as plain HTTP on this host.
    ///
    /// A request goes to any enclave that is connected. `GET /enclaves` shows who is there, and `GET /hub/metrics` is
    /// in Prometheus's format. SIGHUP reads the certificate and the measurements again: an enclave whose image left the
    /// list is dropped.
    Hub(HubOptions),
    /// Prints a KMS key policy under which only the enclave can decrypt, for `aws kms put-key-policy`.
    Policy(policy::Options),
    /// Reads a KMS key policy, and lists everyone whom it allows to decrypt, use or delete the key.
    CheckPolicy(policy::Check),
}

fn main() -> ExitCode {
    let verb = Arguments::parse().verb;
    // The others are quiet where nothing is wrong.
    let level = if matches!(verb, Verb::Hub(_) | Verb::Proxy(_)) { tracing::Level::INFO } else { tracing::Level::WARN };
    let filter = EnvFilter::builder().with_default_directive(level.into()).from_env_lossy();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_env_filter(filter)
        .with_target(false)
        .without_time()
        .init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.context("start tokio").and_then(|runtime| runtime.block_on(perform(verb))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn perform(verb: Verb) -> Result<()> {
    match verb {
        Verb::Keygen { out, print, json } => keygen(&out, print, json),
        Verb::SetKey { secret_id, key_arn, context, path, replace, kms_endpoint, aws, json } => {
            let context = EncryptionContext::new(context)?;
            let aws = aws.client_with(key_arn.region().to_owned(), kms_endpoint)?;
            let key = key_file::load(&path)?;
            let place = aws.place(&secret_id, replace.as_ref()).await?;
            let ciphertext = aws.encrypt(&key, &key_arn, &context).await?;
            say_stored(&aws.store(&place, &key.address(), &ciphertext).await?, Some(&key.address().to_string()), json)
        }
        Verb::RestoreKey { secret_id, key, replace, region: option, aws, json } => {
            let stored = aws.client(region(option, &secret_id)?)?.restore(&secret_id, &key, &replace).await?;
            let address = match &key {
                KeyName::Address(address) => Some(address.to_string()),
                KeyName::Version(_) => None,
            };
            say_stored(&stored, address.as_deref(), json)
        }
        Verb::GetKey { secret_id, region: option, aws, json } => {
            let (stored, ciphertext) = aws.client(region(option, &secret_id)?)?.stored(&secret_id).await?;
            let text = STANDARD.encode(ciphertext);
            match json {
                true => say(json!({
                    "secret_id": stored.arn, "version_id": stored.version_id, "label": stored.label, "encrypted_key": text
                })),
                false => say(text),
            }
        }
        Verb::GenerateKey { enclave, secret_id, replace, region: option, aws, json } => {
            // Before the key is generated: if it cannot be stored, it is lost.
            let store = match secret_id {
                Some(secret_id) => {
                    let aws = aws.client(region(option, &secret_id)?)?;
                    let place = aws.place(&secret_id, replace.as_ref()).await?;
                    Some((aws, place))
                }
                None => None,
            };
            generate(&enclave, store, json).await
        }
        Verb::Sign { path, enclave } => {
            let request = read(&path)?;
            let answer = connect(&enclave).await?.sign(request).await?;
            let answer: serde_json::Value =
                serde_json::from_slice(&answer).context("the enclave's answer is not JSON")?;
            say(answer)
        }
        Verb::AdoptLedger(options) => options.run().await,
        Verb::Verify { enclave, json } => verify(&enclave, json).await,
        Verb::Proxy(options) => options.run().await,
        Verb::Hub(options) => options.run().await,
        Verb::Policy(options) => say(options.policy()?.to_json().trim_end()),
        Verb::CheckPolicy(options) => {
            let (report, verdict) = options.report()?;
            say(report.trim_end())?;
            verdict
        }
    }
}

fn keygen(path: &Path, print: bool, json: bool) -> Result<()> {
    let key = SecretKey::generate()?;
    if print {
        writeln!(std::io::stderr(), "address: {}", key.address())?;
        return say(key.expose_plaintext().as_str());
    }
    key_file::create(&key, path)?;
    match json {
        true => say(json!({ "path": path, "address": key.address().to_string() })),
        false => say(key.address()),
    }
}

async fn generate(enclave: &EnclaveOptions, store: Option<(Aws, Place)>, json: bool) -> Result<()> {
    let key = connect(enclave).await?.generate_key().await?;
    let text = STANDARD.encode(&key.ciphertext);
    let Some((aws, place)) = store else {
        return match json {
            true => say(json!({ "address": key.address, "encrypted_key": text })),
            false => say(format_args!("address: {}\nencrypted key: {text}", key.address)),
        };
    };
    // The error has the only copy, so that the operator can store it by hand.
    let only_copy = || format!("the enclave made the key of {}, encrypted: {text}", key.address);
    let address = key.address.parse().with_context(only_copy)?;
    let stored = aws.store(&place, &address, &key.ciphertext).await.with_context(only_copy)?;
    say_stored(&stored, Some(&key.address), json)
}

async fn verify(options: &EnclaveOptions, json: bool) -> Result<()> {
    let trust = options.trust()?;
    let mut unverified = Unverified::connect(&options.url, options.identity()?.as_ref()).await?;
    let judgement = unverified.judge(&trust).await.map_err(|error| options.explain(error))?;
    let report = Report::new(&options.url, unverified.tls_key(), trust.root(), judgement);
    match json {
        true => say(serde_json::to_string_pretty(&report)?)?,
        false => say(report.to_string().trim_end())?,
    }
    match report.refusal() {
        Some(reason) => bail!("{} is not trusted, with {}: {reason}", options.url, trust.root()),
        None => Ok(()),
    }
}

async fn connect(options: &EnclaveOptions) -> Result<Enclave> {
    let trust = options.trust()?;
    warn_of_root(&trust);
    let identity = options.identity()?;
    Enclave::connect(&options.url, identity.as_ref(), &trust).await.map_err(|error| options.explain(error))
}

/// `-` is standard input.
fn read_text(path: &Path, what: &str) -> Result<String> {
    match path.to_str() {
        Some("-") => std::io::read_to_string(std::io::stdin()).context("read standard input"),
        _ => std::fs::read_to_string(path).with_context(|| format!("read {what}, {}", path.display())),
    }
}

/// A request may have credentials in it.
fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let object = if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
    let reading = || format!("read the request, {object}");
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_BODY + 1));
    let limit = u64::try_from(MAX_BODY)? + 1;
    match path == Path::new("-") {
        true => std::io::stdin().lock().take(limit).read_to_end(&mut bytes),
        false => File::open(path).with_context(reading)?.take(limit).read_to_end(&mut bytes),
    }
    .with_context(reading)?;
    ensure!(bytes.len() <= MAX_BODY, "{object}: expected at most {MAX_BODY} bytes, the signer's limit");
    // The parser's own message could show a part of the request.
    let is_object = serde_json::from_slice::<serde::de::IgnoredAny>(&bytes)
        .map(|_any| bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{'));
    match is_object {
        Ok(true) => Ok(bytes),
        Ok(false) => {
            bail!("{object}: expected an object with \"transaction_payload\" and \"secret_id\" or \"encrypted_key\"")
        }
        Err(error) => Err(anyhow!(
            "{object}: expected JSON; the first error is at line {}, column {}",
            error.line(),
            error.column()
        )),
    }
}

fn say_stored(stored: &Stored, address: Option<&str>, json: bool) -> Result<()> {
    let Stored { arn, version_id, is_new_secret, label, replaced } = stored;
    match json {
        true => say(json!({
            "secret_id": arn, "version_id": version_id, "is_new_secret": is_new_secret, "address": address, "label": label,
            "replaced": replaced.as_ref().map(ToString::to_string),
        })),
        false => {
            let state = if *is_new_secret { "new secret" } else { "secret" };
            if let Some(address) = address {
                say(format_args!("address: {address}"))?;
            }
            say(format_args!("{state}: {arn}\nversion: {version_id}\nlabel: {label}"))?;
            let Some(replaced) = replaced else { return Ok(()) };
            say(format_args!("replaced: {replaced}; it stays in the secret, and `wallet restore-key` restores it"))
        }
    }
}

fn say(text: impl Display) -> Result<()> {
    Ok(writeln!(std::io::stdout(), "{text}")?)
}
