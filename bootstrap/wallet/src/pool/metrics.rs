//! A hub's or a proxy's own metrics, in Prometheus's text format.

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

/// What became of a call, or of an attempt to connect.
#[derive(Clone, Copy)]
pub(crate) enum Outcome {
    Accepted,
    /// Its document, or that there was none.
    Refused,
    /// No TLS session of this protocol.
    Handshake,
    /// Too many others.
    Displaced,
    /// No document, for another reason than itself.
    Unreachable,
}

pub(crate) struct Metrics {
    registry: Registry,
    enclaves: IntGauge,
    connections: IntGauge,
    proofs: IntCounterVec,
    ends: IntCounterVec,
    requests: IntCounterVec,
    durations: Histogram,
}

impl Metrics {
    /// Their names begin with `name`. `outcomes` are those that there can be.
    pub(crate) fn new(name: &str, outcomes: &[Outcome]) -> Self {
        let registry = Registry::new();
        let counters = |what: &str, help: &str, label| {
            register(&registry, IntCounterVec::new(Opts::new(format!("{name}_{what}"), help), &[label]))
        };
        let gauge = |what: &str, help: &str| register(&registry, IntGauge::new(format!("{name}_{what}"), help));
        let proofs = counters("proofs_total", "Attempts of enclaves to prove themselves.", "outcome");
        for outcome in outcomes {
            proofs.with_label_values(&[outcome.name()]);
        }
        let ends = counters("connections_ended_total", "Connections of proven enclaves that ended.", "reason");
        for reason in ["renewed", "closed", "unhealthy", "untrusted"] {
            ends.with_label_values(&[reason]);
        }
        let durations =
            HistogramOpts::new(format!("{name}_request_duration_seconds"), "From a request's head to its answer.");
        Self {
            proofs,
            ends,
            requests: counters("requests_total", "Requests, by the HTTP status of their answers.", "status"),
            enclaves: gauge("enclaves", "Proven enclaves that are connected."),
            connections: gauge("connections", "Connections of proven enclaves."),
            durations: register(&registry, Histogram::with_opts(durations.buckets(BUCKETS.to_vec()))),
            registry,
        }
    }

    pub(crate) fn proof(&self, outcome: Outcome) {
        self.proofs.with_label_values(&[outcome.name()]).inc();
    }

    pub(crate) fn ended(&self, end: &End) {
        let reason = match end {
            End::Renewed => "renewed",
            End::Closed => "closed",
            End::Unhealthy(_) => "unhealthy",
            End::Untrusted(_) => "untrusted",
        };
        self.ends.with_label_values(&[reason]).inc();
    }

    pub(crate) fn answered(&self, status: StatusCode, duration: Duration) {
        self.requests.with_label_values(&[status.as_str()]).inc();
        self.durations.observe(duration.as_secs_f64());
    }

    pub(crate) fn page(&self, table: &Table) -> String {
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
            Self::Unreachable => "unreachable",
        }
    }
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, collector: prometheus::Result<C>) -> C {
    let collector = collector.expect(VALID);
    registry.register(Box::new(collector.clone())).expect(VALID);
    collector
}
