//! Who is there: the proven enclaves, each with its connections.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use attestation::{Claims, rfc3339};
use serde::Serialize;
use tokio::time::Instant;

use crate::enclave::EnclaveUrl;
use crate::trust::hex;

/// How long an enclave without a connection stays in the table: while its only one is renewed it has none.
const MEMORY: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(crate) struct Table {
    /// By the hypervisor's name for their module.
    enclaves: Mutex<BTreeMap<String, Entry>>,
    /// Why those that should be at these URLs are not there.
    problems: Mutex<BTreeMap<String, String>>,
}

struct Entry {
    row: Row,
    /// When the last connection ended.
    left: Option<Instant>,
}

/// One enclave, as `/enclaves` shows it. Times are in RFC 3339.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    module_id: String,
    /// The file of its measurements, if it is known by one.
    image: Option<String>,
    pcrs: BTreeMap<u8, String>,
    config_sha256: String,
    /// Where it is: its IP address, or its URL.
    address: String,
    /// Since when it has had connections without a long gap.
    since: String,
    /// When its last document was made.
    last_document: String,
    connections: usize,
    requests: u64,
}

/// A connection of a proven enclave; it leaves the table when it is dropped.
pub(crate) struct Seat<'a> {
    table: &'a Table,
    module_id: String,
    image: Option<String>,
    is_first: bool,
}

impl Table {
    pub(crate) fn enter(&self, claims: &Claims, config: &[u8; 32], image: Option<&str>, address: String) -> Seat<'_> {
        let mut entries = self.entries();
        let now = Instant::now();
        entries.retain(|_, entry| entry.left.is_none_or(|left| now < left + MEMORY));
        let is_first = !entries.contains_key(&claims.module_id);
        let entry = entries.entry(claims.module_id.clone()).or_insert_with(|| Entry {
            row: Row {
                module_id: claims.module_id.clone(),
                image: None,
                pcrs: BTreeMap::new(),
                config_sha256: String::new(),
                address: String::new(),
                since: second(SystemTime::now()),
                last_document: String::new(),
                connections: 0,
                requests: 0,
            },
            left: None,
        });
        entry.row.image = image.map(ToOwned::to_owned);
        let pcrs = claims.pcrs.iter().filter(|(_, pcr)| !pcr.is_zero());
        entry.row.pcrs = pcrs.map(|(index, pcr)| (*index, pcr.to_string())).collect();
        entry.row.config_sha256 = hex(config);
        entry.row.address = address;
        entry.row.last_document = second(claims.timestamp);
        entry.row.connections += 1;
        entry.left = None;
        let image = entry.row.image.clone();
        Seat { table: self, module_id: claims.module_id.clone(), image, is_first }
    }

    /// Those with connections.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let entries = self.entries();
        entries.values().map(|entry| &entry.row).filter(|row| row.connections > 0).cloned().collect()
    }

    /// Of all enclaves.
    pub(crate) fn connections(&self) -> usize {
        self.entries().values().map(|entry| entry.row.connections).sum()
    }

    /// Why the enclave at `url` is not there; `None` when it is.
    pub(crate) fn set_problem(&self, url: &EnclaveUrl, problem: Option<&str>) {
        let mut problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        match problem {
            Some(problem) => drop(problems.insert(url.to_string(), problem.to_owned())),
            None => drop(problems.remove(&url.to_string())),
        }
    }

    /// By URL.
    pub(crate) fn problems(&self) -> BTreeMap<String, String> {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.enclaves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A time to the second.
fn second(time: SystemTime) -> String {
    let since_1970 = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(since_1970.as_secs()))
}

impl Seat<'_> {
    /// Whether the enclave was not there before.
    pub(crate) const fn is_first(&self) -> bool {
        self.is_first
    }

    pub(crate) fn image(&self) -> &str {
        self.image.as_deref().unwrap_or("allowed by --pcr")
    }

    pub(crate) fn count_request(&self) {
        if let Some(entry) = self.table.entries().get_mut(&self.module_id) {
            entry.row.requests += 1;
        }
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        if let Some(entry) = self.table.entries().get_mut(&self.module_id) {
            entry.row.connections -= 1;
            if entry.row.connections == 0 {
                entry.left = Some(Instant::now());
            }
        }
    }
}
