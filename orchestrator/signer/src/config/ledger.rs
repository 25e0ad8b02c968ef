//! `[signer.ledger]`: the bucket that the enclaves of a fleet share, see [`crate::ledger`].

use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Deserialize;

/// Object Lock keeps nothing longer.
const MAX_YEARS: u32 = 100;
const YEAR: Duration = Duration::from_hours(24 * 366);

/// Which bucket, and how it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerSettings {
    /// Its name.
    pub bucket: String,
    /// The account that it belongs to.
    pub owner: String,
    /// How long a record is kept.
    pub retention: Duration,
    /// Whether all versions of a record are listed after it was written.
    pub strict: bool,
    /// Where S3 is, if not where the region says.
    pub endpoint: Option<String>,
}

/// `[signer.ledger]` as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LedgerTable {
    bucket: String,
    owner: String,
    retention_years: u32,
    strict: Option<bool>,
    endpoint: Option<String>,
}

impl LedgerSettings {
    /// Names the ledger, in its records and in the encryption context of keys: OWNER/BUCKET.
    #[must_use]
    pub fn identity(&self) -> String {
        format!("{}/{}", self.owner, self.bucket)
    }
}

impl LedgerTable {
    pub(super) fn check(self) -> Result<LedgerSettings> {
        let Self { bucket, owner, retention_years, strict, endpoint } = self;
        let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        // S3's rules, but for dots: the certificate of S3's endpoint does not cover them.
        ensure!(
            (3..=63).contains(&bucket.len())
                && bucket.bytes().all(is_inner)
                && !bucket.starts_with('-')
                && !bucket.ends_with('-'),
            "signer.ledger.bucket: `{}`, expected the name of a bucket: 3 to 63 lower-case letters, digits and hyphens, without dots",
            bucket.escape_debug()
        );
        ensure!(
            owner.len() == 12 && owner.bytes().all(|byte| byte.is_ascii_digit()),
            "signer.ledger.owner: `{}`, expected the 12 digits of the bucket's account",
            owner.escape_debug()
        );
        ensure!(
            (1..=MAX_YEARS).contains(&retention_years),
            "signer.ledger.retention_years: {retention_years}, expected 1 to {MAX_YEARS}"
        );
        let (retention, strict) = (YEAR * retention_years, strict.unwrap_or(true));
        Ok(LedgerSettings { bucket, owner, retention, strict, endpoint })
    }
}
