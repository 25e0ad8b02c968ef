//! `wg-server attest`: what a Nitro attestation document claims, and whether it holds. Reads files, asks nobody.

mod report;

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use attestation::{At, ChainError, Claims, Error, Policy, TrustRoot};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::config::{measurements, root};
use report::{Report, Verdict};

/// A document has at most 12,288 bytes, in base64 with line ends some 17,000.
const MAX_INPUT: u64 = 64 << 10;

/// What to check, and against what.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The document, as bytes or in base64; `-` is standard input.
    document: PathBuf,
    /// When its certificates have to be valid: an RFC 3339 time, or `document` for the time that it says it was made. Now, if absent.
    #[arg(long, value_name = "RFC3339-TIME")]
    at: Option<Time>,
    /// The image that it has to be of, as `make eif` or nitro-cli wrote it; of several, any one.
    #[arg(long, value_name = "MEASUREMENTS.JSON")]
    measurements: Vec<PathBuf>,
    /// Another root than AWS's, in PEM: for labs.
    #[arg(long, value_name = "PEM")]
    root: Option<PathBuf>,
    /// For programs.
    #[arg(long)]
    json: bool,
}

/// `--at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Time(At);

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "document" {
            return Ok(Self(At::Document));
        }
        let time = OffsetDateTime::parse(text, &Rfc3339);
        time.map(|time| Self(At::Time(time.into())))
            .map_err(|error| format!("{error}; expected a time like \"2026-01-31T12:00:00Z\", or \"document\""))
    }
}

/// Says on `out` what the document claims.
///
/// # Errors
/// A document that does not hold, after its claims if it is at least genuine; or files that cannot be read.
pub(crate) fn attest(options: &Options, out: impl FnOnce(&str) -> Result<()>) -> Result<()> {
    let document = read(&options.document)?;
    let trust_root = options.root.as_deref().map(root).transpose().context("--root")?.unwrap_or_else(TrustRoot::aws);
    let policy = policy(&options.measurements)?;
    let at = options.at.unwrap_or(Time(At::Time(SystemTime::now()))).0;
    let report = judge(&document, &trust_root, policy.as_ref(), at);
    let mut text = String::new();
    if options.json {
        writeln!(text, "{}", serde_json::to_string_pretty(&report)?)?;
    } else if report.is_genuine() {
        write!(text, "{report}")?;
    }
    out(&text)?;
    report.into_result()
}

/// `None`: any image.
fn policy(paths: &[PathBuf]) -> Result<Option<Policy>> {
    let mut policy = Policy::new();
    for path in paths {
        policy.allow_image(path.display().to_string(), measurements(path).context("--measurements")?);
    }
    Ok((!paths.is_empty()).then_some(policy))
}

fn judge(document: &[u8], root: &TrustRoot, policy: Option<&Policy>, at: At) -> Report {
    match attestation::verify(document, root, at) {
        Ok(claims) => {
            let verdict = verdict(&claims, policy);
            Report::new(root, verdict, Some(claims))
        }
        Err(error) => {
            let is_of_another_time =
                matches!(error, Error::Chain(ChainError::Expired { .. } | ChainError::NotYetValid { .. }));
            let hint = if is_of_another_time { "; `--at` asks about another time than now" } else { "" };
            Report::new(root, Verdict::Refused(format!("{error:#}{hint}")), None)
        }
    }
}

fn verdict(claims: &Claims, policy: Option<&Policy>) -> Verdict {
    let Some(policy) = policy else {
        return if claims.is_debug() {
            Verdict::Refused("PCR0, PCR1 or PCR2 is zero: the enclave runs in debug mode".to_owned())
        } else {
            Verdict::Genuine
        };
    };
    match policy.check(claims) {
        Ok(()) => Verdict::Right,
        Err(violation) => Verdict::Refused(violation.to_string()),
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let object = if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
    let reading = || format!("read {object}");
    match path == Path::new("-") {
        true => std::io::stdin().lock().take(MAX_INPUT + 1).read_to_end(&mut bytes),
        false => File::open(path).with_context(reading)?.take(MAX_INPUT + 1).read_to_end(&mut bytes),
    }
    .with_context(reading)?;
    ensure!(bytes.len() as u64 <= MAX_INPUT, "{object}: more than {MAX_INPUT} bytes, which no document has");
    Ok(decoded(bytes))
}

/// A document starts with a byte that base64 does not have.
fn decoded(bytes: Vec<u8>) -> Vec<u8> {
    let text: Vec<u8> = bytes.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    match STANDARD.decode(text) {
        Ok(document) if !document.is_empty() => document,
        Ok(_) | Err(_) => bytes,
    }
}

#[cfg(test)]
mod tests;
