//! Counts the connections that the service closes, and logs them from time to time.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use super::seats::{Bound, Source};
use crate::metrics::{Collect, Snapshot};

/// Why the service ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Closing {
    /// No handshake in time.
    Handshake,
    /// For a newcomer, or as a newcomer: too many of its source.
    Source,
    /// Too many that have proved nothing.
    Unproven,
    /// Too many.
    All,
}

/// The shortest time between two log lines.
const INTERVAL: Duration = Duration::from_secs(10);

/// Counts of one process.
#[derive(Default)]
pub(super) struct Closings(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    all: BTreeMap<Closing, u64>,
    /// Since the last log line: the number, and the last source.
    unlogged: BTreeMap<Closing, (u64, Source)>,
    logged: Option<Instant>,
}

impl Closing {
    const EACH: [Self; 4] = [Self::Handshake, Self::Source, Self::Unproven, Self::All];

    /// As metrics and log have it.
    const fn name(self) -> &'static str {
        match self {
            Self::Handshake => "handshake_timeout",
            Self::Source => "source_limit",
            Self::Unproven => "unproven_limit",
            Self::All => "connection_limit",
        }
    }

    const fn sentence(self) -> &'static str {
        match self {
            Self::Handshake => "connections closed: no TLS handshake within signer.handshake_timeout",
            Self::Source => "connections closed: too many from one address, or one IPv6 /64",
            Self::Unproven => "connections closed: too many without a handshake, or without a client certificate",
            Self::All => "connections closed: too many",
        }
    }
}

impl From<Bound> for Closing {
    fn from(bound: Bound) -> Self {
        match bound {
            Bound::Source => Self::Source,
            Bound::Unproven => Self::Unproven,
            Bound::All => Self::All,
        }
    }
}

impl Closings {
    pub(super) fn note(&self, closing: Closing, source: Source) {
        self.counts().note(closing, source);
    }

    /// Logs what has not been logged, unless the last log line is recent.
    pub(super) fn tell(&self, now: Instant) {
        let due = self.counts().due(now);
        for (closing, (count, last)) in due {
            warn!(count, %last, reason = closing.name(), "{}", closing.sentence());
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collect for Closings {
    fn collect(&self, snapshot: &Snapshot) {
        let counts = self.counts();
        let count = |closing: Closing| (closing.name(), counts.all.get(&closing).copied().unwrap_or(0));
        snapshot.counters(
            "signer_connections_closed_total",
            "Connections that the signer ended, by reason.",
            "reason",
            Closing::EACH.map(count),
        );
    }
}

impl Counts {
    fn note(&mut self, closing: Closing, source: Source) {
        *self.all.entry(closing).or_default() += 1;
        let (count, last) = self.unlogged.entry(closing).or_insert((0, source));
        *count += 1;
        *last = source;
    }

    fn due(&mut self, now: Instant) -> BTreeMap<Closing, (u64, Source)> {
        if self.unlogged.is_empty() || self.logged.is_some_and(|logged| now < logged + INTERVAL) {
            return BTreeMap::new();
        }
        self.logged = Some(now);
        std::mem::take(&mut self.unlogged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    fn source(text: &str) -> Source {
        Source::of(text.parse().unwrap())
    }

    #[test]
    fn the_first_closing_is_logged_at_once_and_all_others_once_per_interval() {
        let (mut counts, start) = (Counts::default(), Instant::now());
        assert_eq!(counts.due(start), BTreeMap::new());
        counts.note(Closing::Handshake, source("192.0.2.1"));
        assert_eq!(counts.due(start), [(Closing::Handshake, (1, source("192.0.2.1")))].into());
        for host in 1..=9 {
            counts.note(Closing::Handshake, source(&format!("192.0.2.{host}")));
        }
        counts.note(Closing::All, source("192.0.2.1"));
        assert_eq!(counts.due(start + INTERVAL - Duration::from_millis(1)), BTreeMap::new());
        let due = counts.due(start + INTERVAL);
        assert_eq!(
            due,
            [(Closing::Handshake, (9, source("192.0.2.9"))), (Closing::All, (1, source("192.0.2.1")))].into()
        );
        assert_eq!(counts.due(start + 3 * INTERVAL), BTreeMap::new());
    }

    #[test]
    fn every_reason_is_in_the_metrics_from_the_start() {
        let closings = Closings::default();
        closings.note(Closing::Unproven, source("192.0.2.1"));
        let page = Metrics::new(&[0; 32]).page(&[&closings]);
        assert!(page.contains("signer_connections_closed_total{reason=\"unproven_limit\"} 1\n"), "{page}");
        assert!(page.contains("signer_connections_closed_total{reason=\"handshake_timeout\"} 0\n"), "{page}");
    }
}
