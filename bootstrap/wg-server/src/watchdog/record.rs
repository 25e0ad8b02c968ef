//! The file in which the watchdog leaves what it knows: for itself after a restart, and for `wg-server status`. It is gone after a
//! reboot, as are the times in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::judge::Judge;

/// `RuntimeDirectory` of wg-watchdog.service.
pub(crate) const DEFAULT_STATE_DIR: &str = "/run/wg-watchdog";
/// More than that is no record.
const MAX_LEN: u64 = 64 << 10;
/// Nitro allows four enclaves per instance.
const MAX_RECORDS: usize = 64;

/// What one watchdog knows of its enclave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) cid: u32,
    pub(crate) unit: String,
    /// The monotonic time of the last look.
    pub(crate) looked: Duration,
    /// When the next look is over at the latest.
    pub(crate) next: Duration,
    pub(crate) judge: Judge,
}

impl Record {
    /// That of an earlier watchdog, if there is one.
    pub(super) fn load(dir: &Path, cid: u32) -> Option<Self> {
        read(&path(dir, cid))
    }

    pub(super) fn save(&self, dir: &Path) -> Result<()> {
        let path = path(dir, self.cid);
        let doing = || format!("write {}", path.display());
        let new = path.with_extension("new");
        fs::write(&new, serde_json::to_vec(self)?).with_context(doing)?;
        fs::rename(&new, &path).with_context(doing)
    }
}

/// All records, by CID. What cannot be read is no record: the status must not fail because of it.
pub(crate) fn all(dir: &Path) -> Vec<Record> {
    let entries = fs::read_dir(dir).into_iter().flatten().take(MAX_RECORDS).filter_map(Result::ok);
    let paths = entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "json"));
    let mut records: Vec<Record> = paths.filter_map(|path| read(&path)).collect();
    records.sort_by_key(|record| record.cid);
    records
}

/// The monotonic clock of this host, which all of its processes share.
pub(crate) fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from)
}

fn path(dir: &Path, cid: u32) -> PathBuf {
    dir.join(format!("{cid}.json"))
}

fn read(path: &Path) -> Option<Record> {
    if fs::metadata(path).ok()?.len() > MAX_LEN {
        return None;
    }
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_watchdog_wrote_the_next_one_and_the_status_read() {
        let dir = tempfile::tempdir().unwrap();
        let record = |cid| Record {
            cid,
            unit: "enclave.service".to_owned(),
            looked: Duration::from_millis(1500),
            next: Duration::from_secs(30),
            judge: Judge::default(),
        };
        for cid in [17, 16] {
            record(cid).save(dir.path()).unwrap();
        }
        fs::write(dir.path().join("18.json"), "{").unwrap();
        // Half written, and larger than any record.
        fs::copy(path(dir.path(), 16), dir.path().join("16.new")).unwrap();
        let padded = fs::read_to_string(path(dir.path(), 16)).unwrap() + &" ".repeat(64 << 10);
        fs::write(path(dir.path(), 19), padded).unwrap();
        assert_eq!(all(dir.path()), [record(16), record(17)]);
        assert_eq!(Record::load(dir.path(), 17), Some(record(17)));
        assert_eq!((Record::load(dir.path(), 18), all(&dir.path().join("none"))), (None, Vec::new()));
    }
}
