//! Which enclave has which place in the address ranges, across restarts.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use tunnel::port::Cid;

use crate::enclave_id::EnclaveId;

const FILE: &str = "leases.json";
/// Far more than 65,535 leases need.
const MAX_FILE_LEN: u64 = 16 << 20;
/// Nitro allows four enclaves per instance, but a parent elsewhere may invent any number.
pub(crate) const MAX_PER_PARENT: usize = 8;

/// All leases, and their order of use, which decides which one is reclaimed when no place is free.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leases {
    capacity: u16,
    leases: BTreeMap<EnclaveId, Lease>,
    changes: Changes,
}

/// How many changes a file must record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// An enclave got a new place.
    pub(crate) places: u64,
    /// A lease was used, which only decides which one is reclaimed first.
    pub(crate) uses: u64,
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
    /// The parent of an enclave on another host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    via: Option<IpAddr>,
    cid: u32,
    place: u16,
    used: u64,
}

impl Leases {
    pub(crate) fn new(capacity: u16) -> Self {
        Self { capacity, leases: BTreeMap::new(), changes: Changes::default() }
    }

    /// The place of an enclave: its former one, else the lowest free one, else that of the enclave that was away the longest.
    ///
    /// nitro-cli may give every launch a new CID, so leases of CIDs that never return must not fill the range. Enclaves of one
    /// parent elsewhere take each other's places before they take those of others.
    pub(crate) fn place(&mut self, id: EnclaveId, is_live: impl Fn(EnclaveId) -> bool) -> Option<u16> {
        let used = self.leases.values().map(|lease| lease.used).max().unwrap_or(0).saturating_add(1);
        let place = match self.leases.get(&id) {
            Some(lease) => lease.place,
            None if self.has_all_of_its_share(id) => self.reclaim(|other| other.via != id.via || is_live(other))?,
            None => self.lowest_free().or_else(|| self.reclaim(is_live))?,
        };
        if self.leases.insert(id, Lease { place, used }).is_none() {
            self.changes.places += 1;
        }
        self.changes.uses += 1;
        Some(place)
    }

    /// The changes since the leases were loaded.
    pub(crate) fn changes(&self) -> Changes {
        self.changes
    }

    /// The enclave that has a place.
    pub(crate) fn holder(&self, place: u16) -> Option<EnclaveId> {
        self.leases.iter().find(|(_, lease)| lease.place == place).map(|(id, _)| *id)
    }

    fn has_all_of_its_share(&self, id: EnclaveId) -> bool {
        id.via.is_some() && self.leases.keys().filter(|other| other.via == id.via).count() >= MAX_PER_PARENT
    }

    fn lowest_free(&self) -> Option<u16> {
        let taken: std::collections::BTreeSet<u16> = self.leases.values().map(|lease| lease.place).collect();
        (0..self.capacity).find(|place| !taken.contains(place))
    }

    fn reclaim(&mut self, is_kept: impl Fn(EnclaveId) -> bool) -> Option<u16> {
        let away = self.leases.iter().filter(|(id, _)| !is_kept(**id));
        let (id, place) = away.min_by_key(|(_, lease)| lease.used).map(|(id, lease)| (*id, lease.place))?;
        self.leases.remove(&id);
        Some(place)
    }

    /// Reads the leases of an earlier run, if there was one. Forgets places that the range no longer has.
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
            .with_context(|| format!("{} (without the file, wg-server assigns new addresses)", doing()))
    }

    fn parse(text: &str, capacity: u16) -> Result<Self> {
        let mut leases = Self::new(capacity);
        for Saved { via, cid, place, used } in serde_json::from_str::<Vec<Saved>>(text)? {
            if place >= capacity {
                continue;
            }
            ensure!(leases.holder(place).is_none(), "place {place} is used twice");
            let id = EnclaveId { via, cid: Cid(cid) };
            ensure!(leases.leases.insert(id, Lease { place, used }).is_none(), "{id} is listed twice");
        }
        Ok(leases)
    }

    /// Replaces the whole file: after a crash either the old or the new one exists.
    pub(crate) fn save(&self, dir: &Path) -> Result<()> {
        let path = dir.join(FILE);
        self.replace(dir, &path).with_context(|| format!("write the leases {}", path.display()))
    }

    fn replace(&self, dir: &Path, path: &Path) -> Result<()> {
        let saved = self.leases.iter();
        let saved: Vec<Saved> = saved
            .map(|(id, lease)| Saved { via: id.via, cid: id.cid.0, place: lease.place, used: lease.used })
            .collect();
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

    fn nobody(_: EnclaveId) -> bool {
        false
    }

    fn here(cid: u32) -> EnclaveId {
        EnclaveId::here(Cid(cid))
    }

    fn elsewhere(cid: u32) -> EnclaveId {
        EnclaveId::elsewhere("192.0.2.2".parse().unwrap(), Cid(cid))
    }

    #[test]
    fn the_first_enclave_gets_the_first_place_and_keeps_it() {
        let mut leases = Leases::new(3);
        assert_eq!(leases.place(here(16), nobody), Some(0));
        assert_eq!(leases.place(here(17), nobody), Some(1));
        assert_eq!(leases.place(here(16), nobody), Some(0));
    }

    #[test]
    fn only_a_new_place_has_to_be_on_disk_at_once() {
        let mut leases = Leases::new(1);
        leases.place(here(16), nobody);
        leases.place(here(16), nobody);
        assert_eq!(leases.changes(), Changes { places: 1, uses: 2 });
        leases.place(here(17), nobody);
        assert_eq!(leases.changes(), Changes { places: 2, uses: 3 }, "a place that somebody else had");
    }

    #[test]
    fn a_full_range_reclaims_the_place_of_the_enclave_that_was_away_the_longest() {
        let mut leases = Leases::new(2);
        leases.place(here(16), nobody);
        leases.place(here(17), nobody);
        leases.place(here(16), nobody);
        assert_eq!(leases.place(here(18), nobody), Some(1));
        assert_eq!(leases.holder(1), Some(here(18)));
    }

    #[test]
    fn a_live_enclave_never_loses_its_place() {
        let mut leases = Leases::new(1);
        leases.place(here(16), nobody);
        assert_eq!(leases.place(here(17), |id| id == here(16)), None);
        assert_eq!(leases.place(here(16), |_| true), Some(0));
    }

    #[test]
    fn leases_outlive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let mut leases = Leases::load(dir.path(), 4).unwrap();
        leases.place(here(16), nobody);
        leases.place(elsewhere(16), nobody);
        leases.save(dir.path()).unwrap();
        assert_eq!(Leases::load(dir.path(), 4).unwrap().leases, leases.leases);
        assert_eq!(Leases::load(dir.path(), 1).unwrap().holder(1), None, "a smaller range forgets what it cannot hold");
    }

    #[test]
    fn a_damaged_file_is_named_and_never_gives_one_address_to_two() {
        let twice = r#"[{"cid":16,"place":0,"used":1},{"cid":17,"place":0,"used":2}]"#;
        assert_eq!(Leases::parse(twice, 4).unwrap_err().to_string(), "place 0 is used twice");
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), "[{").unwrap();
        let error = format!("{:#}", Leases::load(dir.path(), 4).unwrap_err());
        assert!(error.starts_with("read the leases /") && error.contains("wg-server assigns new addresses"), "{error}");
    }

    #[test]
    fn the_file_names_a_parent_only_where_there_is_one() {
        let text = r#"[{"cid":16,"place":0,"used":1},{"via":"192.0.2.2","cid":16,"place":1,"used":2}]"#;
        let leases = Leases::parse(text, 4).unwrap();
        assert_eq!([leases.holder(0), leases.holder(1)], [Some(here(16)), Some(elsewhere(16))]);
        let dir = tempfile::tempdir().unwrap();
        leases.save(dir.path()).unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join(FILE)).unwrap(), text);
    }

    #[test]
    fn a_parent_that_makes_enclaves_up_costs_nobody_else_a_lease() {
        let mut leases = Leases::new(100);
        leases.place(here(16), nobody);
        for cid in 100..300 {
            assert!(leases.place(elsewhere(cid), nobody).is_some());
        }
        assert_eq!(leases.leases.len(), 1 + MAX_PER_PARENT);
        assert_eq!(leases.place(here(16), nobody), Some(0));
        assert_eq!(leases.place(elsewhere(300), |_| true), None, "its own are all in use");
        assert_eq!(leases.place(here(17), |_| true), Some(9));
    }
}
