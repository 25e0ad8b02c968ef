//! Which CID has which place in the ranges of addresses, across restarts.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use tunnel::port::Cid;

const FILE: &str = "leases.json";
/// Far more than 65,535 leases need.
const MAX_FILE_LEN: u64 = 16 << 20;

/// Every lease, and what decides which one goes when there is no free place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leases {
    capacity: u16,
    leases: BTreeMap<Cid, Lease>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lease {
    place: u16,
    /// Grows with every use of any lease.
    used: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    cid: u32,
    place: u16,
    used: u64,
}

impl Leases {
    pub(crate) fn new(capacity: u16) -> Self {
        Self { capacity, leases: BTreeMap::new() }
    }

    /// The place of a CID: the one that it had, else the lowest free one, else that of the CID that was away the longest.
    ///
    /// nitro-cli may give every launch a new CID, so that leases of CIDs that never come back must not fill the range.
    pub(crate) fn place(&mut self, cid: Cid, is_live: impl Fn(Cid) -> bool) -> Option<u16> {
        let used = self.leases.values().map(|lease| lease.used).max().unwrap_or(0).saturating_add(1);
        let place = match self.leases.get(&cid) {
            Some(lease) => lease.place,
            None => self.lowest_free().or_else(|| self.reclaim(is_live))?,
        };
        self.leases.insert(cid, Lease { place, used });
        Some(place)
    }

    /// The CID that has a place.
    pub(crate) fn holder(&self, place: u16) -> Option<Cid> {
        self.leases.iter().find(|(_, lease)| lease.place == place).map(|(cid, _)| *cid)
    }

    fn lowest_free(&self) -> Option<u16> {
        let taken: std::collections::BTreeSet<u16> = self.leases.values().map(|lease| lease.place).collect();
        (0..self.capacity).find(|place| !taken.contains(place))
    }

    fn reclaim(&mut self, is_live: impl Fn(Cid) -> bool) -> Option<u16> {
        let away = self.leases.iter().filter(|(cid, _)| !is_live(**cid));
        let (cid, place) = away.min_by_key(|(_, lease)| lease.used).map(|(cid, lease)| (*cid, lease.place))?;
        self.leases.remove(&cid);
        Some(place)
    }

    /// Reads the leases of an earlier run, if there was one. Places that the range no longer has are forgotten.
    pub(crate) fn load(dir: &Path, capacity: u16) -> Result<Self> {
        let path = dir.join(FILE);
        let doing = || format!("read the leases {}", path.display());
        let text = match std::fs::metadata(&path) {
            Ok(metadata) => {
                ensure!(metadata.len() <= MAX_FILE_LEN, "{}: longer than {MAX_FILE_LEN} bytes", doing());
                std::fs::read_to_string(&path).with_context(doing)?
            }
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::new(capacity)),
            Err(error) => return Err(error).with_context(doing),
        };
        Self::parse(&text, capacity)
            .with_context(|| format!("{} (without the file, addresses are given anew)", doing()))
    }

    fn parse(text: &str, capacity: u16) -> Result<Self> {
        let mut leases = Self::new(capacity);
        for Saved { cid, place, used } in serde_json::from_str::<Vec<Saved>>(text)? {
            if place >= capacity {
                continue;
            }
            ensure!(leases.holder(place).is_none(), "place {place} is there twice");
            ensure!(leases.leases.insert(Cid(cid), Lease { place, used }).is_none(), "CID {cid} is there twice");
        }
        Ok(leases)
    }

    /// Replaces the file whole: after a crash the old or the new one is there.
    pub(crate) fn save(&self, dir: &Path) -> Result<()> {
        let path = dir.join(FILE);
        self.replace(dir, &path).with_context(|| format!("write the leases {}", path.display()))
    }

    fn replace(&self, dir: &Path, path: &Path) -> Result<()> {
        let saved: Vec<Saved> =
            self.leases.iter().map(|(cid, lease)| Saved { cid: cid.0, place: lease.place, used: lease.used }).collect();
        let new_path = dir.join(format!("{FILE}.new"));
        let mut file = std::fs::File::create(&new_path)?;
        file.write_all(serde_json::to_string(&saved)?.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new_path, path)?;
        std::fs::File::open(dir)?.sync_all()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nobody(_: Cid) -> bool {
        false
    }

    #[test]
    fn the_first_enclave_gets_the_first_place_and_keeps_it() {
        let mut leases = Leases::new(3);
        assert_eq!(leases.place(Cid(16), nobody), Some(0));
        assert_eq!(leases.place(Cid(17), nobody), Some(1));
        assert_eq!(leases.place(Cid(16), nobody), Some(0));
    }

    #[test]
    fn a_full_range_takes_the_place_of_whoever_was_away_the_longest() {
        let mut leases = Leases::new(2);
        leases.place(Cid(16), nobody);
        leases.place(Cid(17), nobody);
        leases.place(Cid(16), nobody);
        assert_eq!(leases.place(Cid(18), nobody), Some(1));
        assert_eq!(leases.holder(1), Some(Cid(18)));
    }

    #[test]
    fn a_live_enclave_never_loses_its_place() {
        let mut leases = Leases::new(1);
        leases.place(Cid(16), nobody);
        assert_eq!(leases.place(Cid(17), |cid| cid == Cid(16)), None);
        assert_eq!(leases.place(Cid(16), |_| true), Some(0));
    }

    #[test]
    fn leases_outlive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let mut leases = Leases::load(dir.path(), 4).unwrap();
        leases.place(Cid(16), nobody);
        leases.place(Cid(17), nobody);
        leases.save(dir.path()).unwrap();
        assert_eq!(Leases::load(dir.path(), 4).unwrap(), leases);
        assert_eq!(Leases::load(dir.path(), 1).unwrap().holder(1), None, "a smaller range forgets what it cannot hold");
    }

    #[test]
    fn a_damaged_file_is_named_and_never_gives_one_address_to_two() {
        let twice = r#"[{"cid":16,"place":0,"used":1},{"cid":17,"place":0,"used":2}]"#;
        assert_eq!(Leases::parse(twice, 4).unwrap_err().to_string(), "place 0 is there twice");
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), "[{").unwrap();
        let error = format!("{:#}", Leases::load(dir.path(), 4).unwrap_err());
        assert!(error.starts_with("read the leases /") && error.contains("addresses are given anew"), "{error}");
    }
}
