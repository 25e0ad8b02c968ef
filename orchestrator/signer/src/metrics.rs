//! What `/metrics` shows, in Prometheus's text format (version 0.0.4). Names, codes and numbers: no addresses, no secrets.
//!
//! [`Metrics`] counts requests. What other modules count, they [`Collect`] into a [`Snapshot`] when the page is asked for.

use std::time::Duration;

use ethereum::hex;
use prometheus::core::Collector;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::cache::CacheMetrics;
use crate::nonces::{NonceError, NonceMetrics};
use crate::policy::Rule;
use crate::windows::WindowMetrics;

/// Upper bounds in seconds.
const BUCKETS: [f64; 9] = [0.000_25, 0.000_5, 0.001, 0.002_5, 0.01, 0.05, 0.25, 1.0, 10.0];

/// Names and labels are this program's own words, so they are valid, each is registered once, and there are few.
const VALID: &str = "names and labels are valid, and used once";

/// Counts of one process.
pub(crate) struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    calls: IntCounterVec,
    durations: HistogramVec,
    refusals: IntCounterVec,
    signatures: IntCounter,
    client_requests: IntCounterVec,
    client_signatures: IntCounterVec,
    handshakes_failed: IntCounter,
}

/// Values as they are now.
pub(crate) struct Snapshot(Registry);

/// What has values of its own for the page.
pub(crate) trait Collect {
    /// Adds them.
    fn collect(&self, snapshot: &Snapshot);
}

impl Metrics {
    /// `config_digest` is SHA-256 of the measured configuration.
    pub(crate) fn new(config_digest: &[u8; 32]) -> Self {
        let registry = Registry::new();
        let build = Opts::new("signer_build_info", "This program and its measured configuration.");
        let build = register(&registry, IntGaugeVec::new(build, &["version", "config_sha256"]));
        build.with_label_values(&[env!("CARGO_PKG_VERSION"), &hex::plain(config_digest)]).set(1);
        let client_requests = Opts::new("signer_client_requests_total", "Requests by client and outcome.");
        let client_signatures = Opts::new("signer_client_signatures_total", "Signatures that left, by client.");
        let durations = HistogramOpts::new("signer_request_duration_seconds", "From a request's head to its answer.")
            .buckets(BUCKETS.to_vec());
        let refusals = Opts::new("signer_refusals_total", "Transactions that the policy refused, by rule.");
        let refusals = register(&registry, IntCounterVec::new(refusals, &["rule"]));
        for rule in Rule::ALL {
            refusals.with_label_values(&[rule.name()]);
        }
        let calls = Opts::new("signer_rpc_calls_total", "Calls of JSON-RPC by method and outcome.");
        let requests = Opts::new("signer_requests_total", "Requests by route and outcome.");
        Self {
            requests: register(&registry, IntCounterVec::new(requests, &["route", "outcome"])),
            calls: register(&registry, IntCounterVec::new(calls, &["method", "outcome"])),
            durations: register(&registry, HistogramVec::new(durations, &["route"])),
            refusals,
            signatures: register(&registry, IntCounter::new("signer_signatures_total", "Signatures that left.")),
            client_requests: register(&registry, IntCounterVec::new(client_requests, &["client", "outcome"])),
            client_signatures: register(&registry, IntCounterVec::new(client_signatures, &["client"])),
            handshakes_failed: register(
                &registry,
                IntCounter::new("signer_handshakes_failed_total", "Connections without a TLS session."),
            ),
            registry,
        }
    }

    /// Counts a request that has been answered.
    pub(crate) fn answered(&self, route: &'static str, outcome: &'static str, duration: Duration) {
        self.requests.with_label_values(&[route, outcome]).inc();
        self.durations.with_label_values(&[route]).observe(duration.as_secs_f64());
    }

    /// Counts a request of a client: one that the configuration names, or one of three words for others.
    pub(crate) fn asked(&self, client: &str, outcome: &'static str) {
        self.client_requests.with_label_values(&[client, outcome]).inc();
    }

    /// Counts a call of JSON-RPC. Its method is one of those that the signer or its configuration names, or `other`.
    pub(crate) fn called(&self, method: &str, outcome: &'static str) {
        self.calls.with_label_values(&[method, outcome]).inc();
    }

    pub(crate) fn refused(&self, rule: Rule) {
        self.refusals.with_label_values(&[rule.name()]).inc();
    }

    pub(crate) fn signed(&self, client: &str) {
        self.signatures.inc();
        self.client_signatures.with_label_values(&[client]).inc();
    }

    pub(crate) fn handshake_failed(&self) {
        self.handshakes_failed.inc();
    }

    /// The page, with what the others have counted.
    pub(crate) fn page(&self, others: &[&dyn Collect]) -> String {
        let snapshot = Snapshot(Registry::new());
        for other in others {
            other.collect(&snapshot);
        }
        let families = [self.registry.gather(), snapshot.0.gather()].concat();
        TextEncoder::new().encode_to_string(&families).expect("gather leaves out what is empty")
    }
}

impl Snapshot {
    /// One counter.
    pub(crate) fn counter(&self, name: &str, help: &str, value: u64) {
        register(&self.0, IntCounter::new(name, help)).inc_by(value);
    }

    /// One counter for each value of a label.
    pub(crate) fn counters<'a>(
        &self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'a str, u64)>,
    ) {
        let counters = register(&self.0, IntCounterVec::new(Opts::new(name, help), &[label]));
        for (value, count) in values {
            counters.with_label_values(&[value]).inc_by(count);
        }
    }

    /// One gauge.
    pub(crate) fn gauge(&self, name: &str, help: &str, value: usize) {
        register(&self.0, IntGauge::new(name, help)).set(signed(value));
    }

    /// One gauge for each combination of labels.
    pub(crate) fn gauges<'a, const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [&str; N],
        values: impl IntoIterator<Item = ([&'a str; N], usize)>,
    ) {
        let gauges = register(&self.0, IntGaugeVec::new(Opts::new(name, help), &labels));
        for (labels, value) in values {
            gauges.with_label_values(&labels).set(signed(value));
        }
    }
}

impl Collect for CacheMetrics {
    fn collect(&self, snapshot: &Snapshot) {
        snapshot.counter("signer_key_cache_hits_total", "Keys found in memory.", self.hits);
        snapshot.counter("signer_key_cache_misses_total", "Keys that were not.", self.misses);
        snapshot.gauge("signer_keys_cached", "Keys in memory.", self.keys);
    }
}

impl Collect for NonceMetrics {
    fn collect(&self, snapshot: &Snapshot) {
        for (name, help, value) in [
            ("signer_nonce_accounts", "Accounts, each on one chain, whose spent nonces are remembered.", self.accounts),
            (
                "signer_nonce_runs_guaranteed",
                "Runs of spent nonces that each share has for itself.",
                self.division.guaranteed,
            ),
            ("signer_nonce_runs_common", "Runs that shares have beyond what is guaranteed to them.", self.common),
            ("signer_nonce_runs_common_limit", "Runs that any client can take.", self.division.common),
            ("signer_nonce_latest", "Signed transactions that can be signed again.", self.latest),
            ("signer_nonce_latest_limit", "Signed transactions that a share may have.", self.max_latest),
        ] {
            snapshot.gauge(name, help, value);
        }
        let shares = self.shares.iter().map(|(client, is_key_brought, runs)| {
            let keys = if *is_key_brought { "request" } else { "configured" };
            ([client.as_str(), keys], *runs)
        });
        snapshot.gauges(
            "signer_nonce_runs",
            "Runs of spent nonces by share: of a client, for configured keys or for those of requests.",
            ["client", "keys"],
            shares,
        );
        let count = |reason| (reason, self.refusals.get(reason).copied().unwrap_or(0));
        snapshot.counters(
            "signer_nonce_refusals_total",
            "Transactions that were refused for their nonce, by reason.",
            "reason",
            NonceError::REASONS.map(count),
        );
    }
}

impl Collect for WindowMetrics {
    fn collect(&self, snapshot: &Snapshot) {
        let used = self
            .used
            .iter()
            .map(|((of, limit, period), percent)| ([of.as_str(), *limit, period.as_str()], usize::from(*percent)));
        snapshot.gauges(
            "signer_window_used_percent",
            "Percent of a window's limit that is used, of the fullest key and chain, since the signer started.",
            ["of", "limit", "period"],
            used,
        );
        snapshot.gauge("signer_window_buckets", "Parts of windows in which the signer counts.", self.buckets);
        snapshot.gauge("signer_window_buckets_limit", "Parts of windows that a share may have.", self.max_buckets);
    }
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, collector: prometheus::Result<C>) -> C {
    let collector = collector.expect(VALID);
    registry.register(Box::new(collector.clone())).expect(VALID);
    collector
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).expect("fewer than 2^63 of anything are in memory")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nonces::Division;

    /// As it was when this program wrote the text itself, but for the order of families and of labels.
    #[test]
    fn the_page_is_what_prometheus_reads() {
        let metrics = Metrics::new(&[0xab; 32]);
        metrics.answered("/", "ok", Duration::from_micros(250));
        metrics.answered("/", "policy_refused", Duration::from_secs(11));
        metrics.refused(Rule::MaxGas);
        metrics.asked("pay.example", "ok");
        metrics.asked("unknown", "certificate_required");
        metrics.signed("pay.example");
        let nonces = NonceMetrics {
            accounts: 4,
            latest: 5,
            max_latest: 6,
            shares: vec![("pay.example".to_owned(), false, 7), ("pay.example".to_owned(), true, 8)],
            division: Division { payers: 2, guaranteed: 9, common: 12 },
            common: 11,
            refusals: [("spent", 10), ("full", 14)].into(),
        };
        let used = [(("each key".to_owned(), "max_value", "1day".to_owned()), 16)].into();
        let windows = WindowMetrics { used, buckets: 13, max_buckets: 15 };
        let page = metrics.page(&[&CacheMetrics { hits: 1, misses: 2, keys: 3 }, &nonces, &windows]);
        assert_eq!(page, include_str!("metrics/page.txt"));
    }

    #[test]
    fn a_page_without_requests_has_no_family_without_a_value() {
        let page = Metrics::new(&[0; 32]).page(&[&NonceMetrics::default()]);
        assert!(!page.contains("signer_requests_total") && !page.contains("signer_nonce_runs{"), "{page}");
        assert!(page.contains("signer_signatures_total 0\n") && page.ends_with('\n'), "{page}");
    }
}
