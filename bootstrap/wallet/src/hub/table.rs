//! Who is there: the proven enclaves, each with its connections.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use attestation::{Claims, rfc3339};
use binding::home::Binding;
use serde::Serialize;
use tokio::time::Instant;

use crate::trust::hex;

/// How long an enclave without a connection stays in the table: while its only one is renewed it has none.
const MEMORY: Duration = Duration::from_secs(60);

/// Enclaves by the hypervisor's name for their module.
#[derive(Default)]
pub(super) struct Table(Mutex<BTreeMap<String, Entry>>);

struct Entry {
    row: Row,
    /// When the last connection ended.
    left: Option<Instant>,
}

/// One enclave, as `/enclaves` shows it. Times are in RFC 3339.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    module_id: String,
    /// The file of its measurements, if it is known by one.
    image: Option<String>,
    pcrs: BTreeMap<u8, String>,
    config_sha256: String,
    address: String,
    /// Since when it has had connections without a long gap.
    since: String,
    /// When its last document was made.
    last_document: String,
    connections: usize,
    requests: u64,
}

/// A connection of a proven enclave; it leaves the table when it is dropped.
pub(super) struct Seat<'a> {
    table: &'a Table,
    module_id: String,
    image: Option<String>,
    is_first: bool,
}

impl Table {
    pub(super) fn enter(&self, claims: &Claims, binding: &Binding, image: Option<&str>, peer: SocketAddr) -> Seat<'_> {
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
        entry.row.config_sha256 = hex(&binding.config);
        entry.row.address = peer.ip().to_string();
        entry.row.last_document = second(claims.timestamp);
        entry.row.connections += 1;
        entry.left = None;
        let image = entry.row.image.clone();
        Seat { table: self, module_id: claims.module_id.clone(), image, is_first }
    }

    /// Those with connections.
    pub(super) fn rows(&self) -> Vec<Row> {
        let entries = self.entries();
        entries.values().map(|entry| &entry.row).filter(|row| row.connections > 0).cloned().collect()
    }

    /// Of all enclaves.
    pub(super) fn connections(&self) -> usize {
        self.entries().values().map(|entry| entry.row.connections).sum()
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A time to the second.
fn second(time: SystemTime) -> String {
    let since_1970 = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(since_1970.as_secs()))
}

impl Seat<'_> {
    /// Whether the enclave was not there before.
    pub(super) const fn is_first(&self) -> bool {
        self.is_first
    }

    pub(super) fn image(&self) -> &str {
        self.image.as_deref().unwrap_or("allowed by --pcr")
    }

    pub(super) fn count_request(&self) {
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
