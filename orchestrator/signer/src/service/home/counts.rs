//! Counts the connections to hubs, and the attempts that failed.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::metrics::{Collect, Snapshot};

/// Counts of one process, by hub. All hubs are there from the start.
pub(in crate::service) struct Counts(Mutex<BTreeMap<String, Count>>);

#[derive(Clone, Copy, Default)]
struct Count {
    connections: usize,
    failures: u64,
}

/// A connection that carries requests.
pub(super) struct Connected<'a> {
    counts: &'a Counts,
    hub: &'a str,
}

impl Counts {
    pub(in crate::service) fn new(hubs: impl IntoIterator<Item = String>) -> Self {
        Self(Mutex::new(hubs.into_iter().map(|hub| (hub, Count::default())).collect()))
    }

    pub(super) fn connected<'a>(&'a self, hub: &'a str) -> Connected<'a> {
        self.change(hub, |count| count.connections += 1);
        Connected { counts: self, hub }
    }

    pub(super) fn failed(&self, hub: &str) {
        self.change(hub, |count| count.failures += 1);
    }

    fn change(&self, hub: &str, change: impl FnOnce(&mut Count)) {
        if let Some(count) = self.counts().get_mut(hub) {
            change(count);
        }
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<String, Count>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.counts.change(self.hub, |count| count.connections -= 1);
    }
}

impl Collect for Counts {
    fn collect(&self, snapshot: &Snapshot) {
        let counts = self.counts();
        snapshot.gauges(
            "signer_home_connections",
            "Connections to hubs that have accepted this enclave.",
            ["client"],
            counts.iter().map(|(hub, count)| ([hub.as_str()], count.connections)),
        );
        snapshot.counters(
            "signer_home_failures_total",
            "Attempts to connect to a hub that failed.",
            "client",
            counts.iter().map(|(hub, count)| (hub.as_str(), count.failures)),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn a_hub_is_in_the_metrics_before_its_first_connection_and_after_its_last() {
        let counts = Counts::new(["home hub.example:443".to_owned()]);
        let shows = |connections: usize, failures: usize| {
            let page = Metrics::new(&[0; 32]).page(&[&counts]);
            page.contains(&format!("signer_home_connections{{client=\"home hub.example:443\"}} {connections}\n"))
                && page.contains(&format!("signer_home_failures_total{{client=\"home hub.example:443\"}} {failures}\n"))
        };
        assert!(shows(0, 0));
        let connected = counts.connected("home hub.example:443");
        counts.failed("home hub.example:443");
        assert!(shows(1, 1));
        drop(connected);
        assert!(shows(0, 1));
    }
}
