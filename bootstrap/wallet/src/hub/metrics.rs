//! What `/metrics` shows, in Prometheus's text format.

use std::time::Duration;

use hyper::StatusCode;
use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

use super::table::Table;
use super::worker::End;

/// Upper bounds in seconds.
const BUCKETS: [f64; 8] = [0.001, 0.002_5, 0.01, 0.05, 0.25, 1.0, 5.0, 30.0];

/// Names and labels are this program's own words, so they are valid, each is registered once, and there are few.
const VALID: &str = "names and labels are valid, and used once";

/// What became of a call.
#[derive(Clone, Copy)]
pub(super) enum Outcome {
    Accepted,
    /// Its document, or that there was none.
    Refused,
    /// No TLS session of this protocol.
    Handshake,
    /// Too many others.
    Displaced,
}

pub(super) struct Metrics {
    registry: Registry,
    enclaves: IntGauge,
    connections: IntGauge,
    proofs: IntCounterVec,
    ends: IntCounterVec,
    requests: IntCounterVec,
    durations: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        let registry = Registry::new();
        let counters =
            |name: &str, help: &str, label| register(&registry, IntCounterVec::new(Opts::new(name, help), &[label]));
        let proofs = counters("hub_proofs_total", "Calls, by what became of them.", "outcome");
        for outcome in [Outcome::Accepted, Outcome::Refused, Outcome::Handshake, Outcome::Displaced] {
            proofs.with_label_values(&[outcome.name()]);
        }
        let ends = counters("hub_connections_ended_total", "Connections of proven enclaves that ended.", "reason");
        for reason in ["renewed", "closed", "unhealthy", "untrusted"] {
            ends.with_label_values(&[reason]);
        }
        let durations = HistogramOpts::new("hub_request_duration_seconds", "From a request's head to its answer.");
        Self {
            proofs,
            ends,
            requests: counters("hub_requests_total", "Requests, by the HTTP status of their answers.", "status"),
            enclaves: register(&registry, IntGauge::new("hub_enclaves", "Proven enclaves that are connected.")),
            connections: register(&registry, IntGauge::new("hub_connections", "Connections of proven enclaves.")),
            durations: register(&registry, Histogram::with_opts(durations.buckets(BUCKETS.to_vec()))),
            registry,
        }
    }
}

impl Metrics {
    pub(super) fn proof(&self, outcome: Outcome) {
        self.proofs.with_label_values(&[outcome.name()]).inc();
    }

    pub(super) fn ended(&self, end: &End) {
        let reason = match end {
            End::Renewed => "renewed",
            End::Closed => "closed",
            End::Unhealthy(_) => "unhealthy",
            End::Untrusted(_) => "untrusted",
        };
        self.ends.with_label_values(&[reason]).inc();
    }

    pub(super) fn answered(&self, status: StatusCode, duration: Duration) {
        self.requests.with_label_values(&[status.as_str()]).inc();
        self.durations.observe(duration.as_secs_f64());
    }

    pub(super) fn page(&self, table: &Table) -> String {
        let gauge = |count: usize| i64::try_from(count).expect("fewer than 2^63 of anything are in memory");
        self.enclaves.set(gauge(table.rows().len()));
        self.connections.set(gauge(table.connections()));
        TextEncoder::new().encode_to_string(&self.registry.gather()).expect("gather leaves out what is empty")
    }
}

impl Outcome {
    const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Handshake => "handshake",
            Self::Displaced => "displaced",
        }
    }
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, collector: prometheus::Result<C>) -> C {
    let collector = collector.expect(VALID);
    registry.register(Box::new(collector.clone())).expect(VALID);
    collector
}
