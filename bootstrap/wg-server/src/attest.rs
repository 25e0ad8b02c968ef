//! `wg-server attest`: the claims of a Nitro attestation document, and whether it is valid. Reads files and uses no network.

mod report;

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use attestation::{At, ChainError, Claims, Error, Policy, Register, TrustRoot};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::config::{measurements, root};
use report::{Report, Verdict};

/// A document has at most 12,288 bytes; a status of many enclaves has one for each.
const MAX_INPUT: u64 = 4 << 20;

/// The document and the expectations to check it against.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Document as bytes, hex, base64, base64url, or JSON with a field `document`. `-` reads standard input.
    document: PathBuf,
    /// Time at which the certificates must be valid: RFC 3339, seconds since 1970, or `document` for the document's own
    /// timestamp. The default is now.
    #[arg(long, value_name = "TIME")]
    at: Option<Time>,
    /// Measurements of an image that the document must match, written by `make eif` or nitro-cli. Of several, one must match.
    #[arg(long, value_name = "MEASUREMENTS.JSON")]
    measurements: Vec<PathBuf>,
    /// Value that a register must have: PCR0 to PCR4, PCR8, PCR16 to PCR31. Of several for one register, one must match.
    #[arg(long, value_name = "N=HEX")]
    pcr: Vec<Register>,
    /// Trust root in PEM that replaces AWS's, for labs.
    #[arg(long, value_name = "PEM")]
    root: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Nitro Enclaves appeared in October 2020. A smaller number is a year, or a date without its dashes.
const FIRST_DOCUMENT: i64 = 1_600_000_000;

/// `--at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Time(At);

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "document" {
            return Ok(Self(At::Document));
        }
        let time = match text.parse() {
            Ok(seconds) if seconds < FIRST_DOCUMENT => {
                Err(format!("{seconds} seconds since 1970 is before Nitro Enclaves existed"))
            }
            // Up to the year 9999, so that milliseconds are not taken for seconds.
            Ok(seconds) => OffsetDateTime::from_unix_timestamp(seconds).map_err(|error| error.to_string()),
            Err(_) => OffsetDateTime::parse(text, &Rfc3339).map_err(|error| error.to_string()),
        };
        let expected =
            "expected a time like \"2026-01-31T12:00:00Z\", seconds since 1970 like 1769860800, or \"document\"";
        time.map(|time| Self(At::Time(time.into()))).map_err(|error| format!("{error}; {expected}"))
    }
}

/// Prints the document's claims on `out`.
///
/// # Errors
/// The document is not valid (the claims of a genuine one are printed before that), or a file cannot be read.
pub(crate) fn attest(options: &Options, out: impl FnOnce(&str) -> Result<()>) -> Result<()> {
    let document = read(&options.document)?;
    let trust_root = options.root.as_deref().map(root).transpose().context("--root")?.unwrap_or_else(TrustRoot::aws);
    let policy = policy(&options.measurements, &options.pcr)?;
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
fn policy(paths: &[PathBuf], registers: &[Register]) -> Result<Option<Policy>> {
    let mut policy = Policy::new();
    for path in paths {
        policy.allow_image(path.display().to_string(), measurements(path).context("--measurements")?);
    }
    for register in registers {
        policy.allow(register.index, register.value).context("--pcr")?;
    }
    ensure!(
        registers.is_empty() || !policy.is_empty(),
        "--pcr: neither PCR0 nor PCR1 nor PCR8 is given, so any image would match; expected one of these, or --measurements FILE"
    );
    Ok((!paths.is_empty() || !registers.is_empty()).then_some(policy))
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
            let hint = if is_of_another_time { "; use `--at` to verify the document at another time" } else { "" };
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
    ensure!(bytes.len() as u64 <= MAX_INPUT, "{object}: more than {MAX_INPUT} bytes, longer than any document");
    attestation::decode(&bytes).with_context(|| format!("read the attestation document, {object}"))
}

#[cfg(test)]
mod tests;
