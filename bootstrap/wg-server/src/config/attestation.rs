//! `[attestation]`: which enclaves may be peers. As written, as checked without its files, and with their contents.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use attestation::{Measurements, Pcr, Policy, TrustRoot};
use serde::Deserialize;

use super::path::absolute;

/// With a shorter lifetime an enclave would mostly exchange keys. With a longer one a stolen key would stay useful.
const SHORTEST_LIFETIME: Duration = Duration::from_mins(1);
const LONGEST_LIFETIME: Duration = Duration::from_hours(7 * 24);

/// `[attestation]` without what its files hold.
#[derive(Clone, Debug)]
pub(crate) struct AttestationFiles {
    measurements_paths: Vec<PathBuf>,
    /// No images yet.
    policy: Policy,
    /// `None`: AWS's root.
    root_path: Option<PathBuf>,
    key_lifetime: Duration,
}

/// What an enclave must prove before it becomes a peer, and how long the proof is valid.
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
            "attestation.measurements_paths: empty, so no image is allowed, expected a file that `make eif` wrote, like \
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
    /// The files of the images.
    pub(crate) fn measurements_paths(&self) -> &[PathBuf] {
        &self.measurements_paths
    }

    /// Reads the files.
    ///
    /// # Errors
    /// A file cannot be read or parsed.
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

/// Reads the measurements of an image.
pub(crate) fn measurements(path: &Path) -> Result<Measurements> {
    Measurements::parse(&read(path)?).with_context(|| path.display().to_string())
}

/// Reads a trust root that replaces AWS's.
pub(crate) fn root(path: &Path) -> Result<TrustRoot> {
    TrustRoot::from_pem(&read(path)?).with_context(|| path.display().to_string())
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

fn allow(policy: &mut Policy, index: &str, values: &[String]) -> Result<()> {
    let number: u8 = index.parse().with_context(|| format!("{index:?}, expected the number of a register like 8"))?;
    ensure!(!values.is_empty(), "empty, expected at least one value like [\"96 hex digits\"]");
    for value in values {
        policy.allow(number, value.parse::<Pcr>()?)?;
    }
    Ok(())
}
