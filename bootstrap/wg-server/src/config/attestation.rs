//! `[attestation]`: which enclaves may be peers. As it is written, checked without its files, and with what they hold.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use attestation::{Measurements, Pcr, Policy, TrustRoot};
use serde::Deserialize;

use super::path::absolute;

/// Below, the exchange of keys would be most of what an enclave does; above, a stolen key would be of use for long.
const SHORTEST_LIFETIME: Duration = Duration::from_mins(1);
const LONGEST_LIFETIME: Duration = Duration::from_hours(7 * 24);

/// `[attestation]` without what its files hold.
#[derive(Clone, Debug)]
pub(crate) struct AttestationFiles {
    measurements_paths: Vec<PathBuf>,
    /// No images yet.
    policy: Policy,
    /// `None`: AWS's.
    root_path: Option<PathBuf>,
    key_lifetime: Duration,
}

/// What an enclave has to prove before it is a peer, and for how long that is good.
#[derive(Clone, Debug)]
pub(crate) struct Attestation {
    /// Never empty.
    pub(crate) policy: Policy,
    pub(crate) root: TrustRoot,
    pub(crate) key_lifetime: Duration,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AttestationTable {
    #[serde(default)]
    measurements_paths: Vec<PathBuf>,
    #[serde(default)]
    pcrs: BTreeMap<String, Vec<String>>,
    root_path: Option<PathBuf>,
    #[serde(with = "humantime_serde")]
    key_lifetime: Duration,
}

impl AttestationTable {
    pub(super) fn check(self) -> Result<AttestationFiles> {
        let mut policy = Policy::new();
        for (index, values) in &self.pcrs {
            allow(&mut policy, index, values).with_context(|| format!("attestation.pcrs.{index}"))?;
        }
        ensure!(
            !(self.measurements_paths.is_empty() && policy.is_empty()),
            "attestation.measurements_paths: empty, so no image is allowed, expected the file that `make eif` wrote, like \
             [\"/etc/wg-server/measurements.json\"]"
        );
        ensure!(
            (SHORTEST_LIFETIME..=LONGEST_LIFETIME).contains(&self.key_lifetime),
            "attestation.key_lifetime: expected \"1m\" to \"7d\", usually \"1h\""
        );
        let measurements_paths =
            self.measurements_paths.into_iter().map(|path| absolute("attestation.measurements_paths", path));
        Ok(AttestationFiles {
            measurements_paths: measurements_paths.collect::<Result<_>>()?,
            policy,
            root_path: self.root_path.map(|path| absolute("attestation.root_path", path)).transpose()?,
            key_lifetime: self.key_lifetime,
        })
    }
}

impl AttestationFiles {
    /// Reads the files.
    ///
    /// # Errors
    /// A file that cannot be read, or does not hold what it should.
    pub(crate) fn load(&self) -> Result<Attestation> {
        let mut policy = self.policy.clone();
        for path in &self.measurements_paths {
            let measurements = measurements(path).context("attestation.measurements_paths")?;
            policy.allow_image(path.display().to_string(), measurements);
        }
        let root = self.root_path.as_deref().map(root).transpose().context("attestation.root_path")?;
        Ok(Attestation { policy, root: root.unwrap_or_else(TrustRoot::aws), key_lifetime: self.key_lifetime })
    }
}

/// Reads what a build wrote.
pub(crate) fn measurements(path: &Path) -> Result<Measurements> {
    Measurements::parse(&read(path)?).with_context(|| path.display().to_string())
}

/// Reads another root than AWS's.
pub(crate) fn root(path: &Path) -> Result<TrustRoot> {
    TrustRoot::from_pem(&read(path)?).with_context(|| path.display().to_string())
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

fn allow(policy: &mut Policy, index: &str, values: &[String]) -> Result<()> {
    let number: u8 = index.parse().with_context(|| format!("{index:?}, expected a register's number like 8"))?;
    ensure!(!values.is_empty(), "empty, expected at least one value, or no such line");
    for value in values {
        policy.allow(number, value.parse::<Pcr>()?)?;
    }
    Ok(())
}
