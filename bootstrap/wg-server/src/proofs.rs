//! When each peer's key was proved. After a crash, the next wg-server reads it, so that a restart does not extend a proof.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tunnel::control::PublicKey;

use crate::boot::Boot;

const FILE: &str = "proofs.json";

/// The proofs of an earlier run.
#[derive(Debug)]
pub(crate) struct Proofs {
    now: i64,
    proved: BTreeMap<String, i64>,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    boot_id: String,
    /// By public key, in seconds since that boot. Negative for proofs whose age is a guess.
    proved: BTreeMap<String, i64>,
}

impl Proofs {
    /// Reads what an earlier run wrote. If the file cannot be read, all proofs are unknown and expire sooner.
    pub(crate) fn load(dir: &Path) -> Self {
        let path = dir.join(FILE);
        let loaded = Boot::this().and_then(|boot| {
            let text = match std::fs::read_to_string(&path) {
                Ok(text) => text,
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::unknown()),
                Err(error) => return Err(error.into()),
            };
            Self::parse(&text, &boot)
        });
        loaded.unwrap_or_else(|error| {
            tracing::warn!(
                "read when peers proved their keys, {}: {error:#}; they must prove them again soon",
                path.display()
            );
            Self::unknown()
        })
    }

    fn unknown() -> Self {
        Self { now: 0, proved: BTreeMap::new() }
    }

    fn parse(text: &str, boot: &Boot) -> Result<Self> {
        let Saved { boot_id, proved } = serde_json::from_str(text)?;
        if boot_id != boot.id {
            return Ok(Self::unknown());
        }
        Ok(Self { now: boot.now, proved })
    }

    /// How long ago a key was proved, if known.
    pub(crate) fn age(&self, public_key: PublicKey) -> Option<Duration> {
        let proved = self.proved.get(&public_key.to_string())?;
        u64::try_from(self.now.checked_sub(*proved)?).ok().map(Duration::from_secs)
    }

    /// Replaces the whole file. Not synced to disk: a crash of the machine ends the peers too.
    pub(crate) fn save(dir: &Path, ages: &[(PublicKey, Duration)]) -> Result<()> {
        let path = dir.join(FILE);
        let write = || {
            let boot = Boot::this()?;
            let new_path = dir.join(format!("{FILE}.new"));
            std::fs::File::create(&new_path)?.write_all(format(ages, &boot)?.as_bytes())?;
            Ok::<_, anyhow::Error>(std::fs::rename(&new_path, &path)?)
        };
        write().with_context(|| format!("write when peers proved their keys, {}", path.display()))
    }
}

fn format(ages: &[(PublicKey, Duration)], boot: &Boot) -> Result<String> {
    let seconds =
        |age: Duration| i64::try_from(age.as_secs()).expect("a proof is not older than its lifetime, which is days");
    let proved = |age: Duration| boot.now - seconds(age);
    let proved = ages.iter().map(|(key, age)| (key.to_string(), proved(*age))).collect();
    Ok(serde_json::to_string(&Saved { boot_id: boot.id.clone(), proved })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: PublicKey = PublicKey([1; 32]);

    fn boot(id: &str, now: i64) -> Boot {
        Boot { id: id.to_owned(), now }
    }

    #[test]
    fn a_proof_is_as_old_after_a_restart_as_it_is() {
        for age in [0, 5, 100_000] {
            let text = format(&[(KEY, Duration::from_secs(age))], &boot("a", 60)).unwrap();
            let after = Proofs::parse(&text, &boot("a", 90)).unwrap();
            assert_eq!(after.age(KEY), Some(Duration::from_secs(age + 30)), "{text}");
            assert_eq!(after.age(PublicKey([2; 32])), None);
        }
    }

    #[test]
    fn what_another_boot_or_the_future_says_is_not_known() {
        let text = format(&[(KEY, Duration::ZERO)], &boot("a", 60)).unwrap();
        assert_eq!(Proofs::parse(&text, &boot("b", 90)).unwrap().age(KEY), None);
        assert_eq!(Proofs::parse(&text, &boot("a", 59)).unwrap().age(KEY), None);
    }

    #[test]
    fn a_file_that_is_damaged_or_missing_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Proofs::load(dir.path()).age(KEY), None);
        Proofs::save(dir.path(), &[(KEY, Duration::from_secs(7))]).unwrap();
        assert!(Proofs::load(dir.path()).age(KEY).is_some_and(|age| (7..10).contains(&age.as_secs())));
        std::fs::write(dir.path().join(FILE), "{").unwrap();
        assert_eq!(Proofs::load(dir.path()).age(KEY), None);
    }
}
