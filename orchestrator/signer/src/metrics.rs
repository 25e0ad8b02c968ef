//! What `/metrics` shows, in Prometheus's text format (version 0.0.4). Names, codes and numbers: no addresses, no secrets.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::cache::CacheFigures;
use crate::nonces::{NonceError, NonceFigures};
use crate::policy::Rule;

/// Upper bounds in microseconds and as Prometheus writes them.
const BUCKETS: [(u128, &str); 9] = [
    (250, "0.00025"),
    (500, "0.0005"),
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (10_000, "0.01"),
    (50_000, "0.05"),
    (250_000, "0.25"),
    (1_000_000, "1"),
    (10_000_000, "10"),
];

/// Counts of one process.
#[derive(Default)]
pub(crate) struct Metrics(Mutex<Figures>);

#[derive(Default)]
struct Figures {
    /// By route and outcome; both are this program's words, so there are few.
    requests: BTreeMap<(&'static str, &'static str), u64>,
    durations: BTreeMap<&'static str, Durations>,
    refusals: BTreeMap<Rule, u64>,
    signatures: u64,
    handshakes_failed: u64,
}

#[derive(Default)]
struct Durations {
    buckets: [u64; BUCKETS.len()],
    count: u64,
    sum: Duration,
}

impl Metrics {
    /// Counts a request that has been answered.
    pub(crate) fn answered(&self, route: &'static str, outcome: &'static str, duration: Duration) {
        let mut figures = self.figures();
        *figures.requests.entry((route, outcome)).or_default() += 1;
        let durations = figures.durations.entry(route).or_default();
        for ((bound, _text), bucket) in BUCKETS.iter().zip(&mut durations.buckets) {
            *bucket += u64::from(duration.as_micros() <= *bound);
        }
        durations.count += 1;
        durations.sum += duration;
    }

    pub(crate) fn refused(&self, rule: Rule) {
        *self.figures().refusals.entry(rule).or_default() += 1;
    }

    pub(crate) fn signed(&self) {
        self.figures().signatures += 1;
    }

    pub(crate) fn handshake_failed(&self) {
        self.figures().handshakes_failed += 1;
    }

    /// The page.
    pub(crate) fn render(&self, cache: CacheFigures, nonces: &NonceFigures) -> String {
        let mut page = String::new();
        self.figures().write(&mut page, cache).expect("writing to a String cannot fail");
        write_nonces(&mut page, nonces).expect("writing to a String cannot fail");
        page
    }

    fn figures(&self) -> MutexGuard<'_, Figures> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Figures {
    fn write(&self, page: &mut String, cache: CacheFigures) -> std::fmt::Result {
        head(page, "signer_requests_total", "counter", "Requests by route and outcome.")?;
        for ((route, outcome), count) in &self.requests {
            writeln!(page, "signer_requests_total{{route=\"{route}\",outcome=\"{outcome}\"}} {count}")?;
        }
        head(page, "signer_refusals_total", "counter", "Transactions that the policy refused, by rule.")?;
        for rule in Rule::ALL {
            let count = self.refusals.get(&rule).copied().unwrap_or_default();
            writeln!(page, "signer_refusals_total{{rule=\"{rule}\"}} {count}")?;
        }
        for (name, kind, help, value) in [
            ("signer_signatures_total", "counter", "Signatures that left.", self.signatures),
            ("signer_handshakes_failed_total", "counter", "Connections without a TLS session.", self.handshakes_failed),
            ("signer_key_cache_hits_total", "counter", "Keys found in memory.", cache.hits),
            ("signer_key_cache_misses_total", "counter", "Keys that were not.", cache.misses),
            ("signer_keys_cached", "gauge", "Keys in memory.", cache.keys as u64),
        ] {
            head(page, name, kind, help)?;
            writeln!(page, "{name} {value}")?;
        }
        let name = "signer_request_duration_seconds";
        head(page, name, "histogram", "From a request's head to its answer.")?;
        for (route, durations) in &self.durations {
            for ((_bound, text), count) in BUCKETS.iter().zip(durations.buckets) {
                writeln!(page, "{name}_bucket{{route=\"{route}\",le=\"{text}\"}} {count}")?;
            }
            let Durations { count, sum, .. } = durations;
            writeln!(page, "{name}_bucket{{route=\"{route}\",le=\"+Inf\"}} {count}")?;
            writeln!(page, "{name}_sum{{route=\"{route}\"}} {}", sum.as_secs_f64())?;
            writeln!(page, "{name}_count{{route=\"{route}\"}} {count}")?;
        }
        Ok(())
    }
}

fn write_nonces(page: &mut String, nonces: &NonceFigures) -> std::fmt::Result {
    for (name, help, value) in [
        ("signer_nonce_accounts", "Accounts, each on one chain, whose spent nonces are remembered.", nonces.accounts),
        (
            "signer_nonce_runs_guaranteed",
            "Runs of spent nonces that each share has for itself.",
            nonces.division.guaranteed,
        ),
        ("signer_nonce_runs_common", "Runs that shares have beyond what is guaranteed to them.", nonces.common),
        ("signer_nonce_runs_common_limit", "Runs that there are for whoever comes first.", nonces.division.common),
        ("signer_nonce_latest", "Signed transactions that can be signed again.", nonces.latest),
        ("signer_nonce_latest_limit", "Signed transactions that a share may have.", nonces.max_latest),
    ] {
        head(page, name, "gauge", help)?;
        writeln!(page, "{name} {value}")?;
    }
    let name = "signer_nonce_runs";
    head(
        page,
        name,
        "gauge",
        "Runs of spent nonces by share: of a client, for configured keys or for those of requests.",
    )?;
    for (client, is_key_brought, runs) in &nonces.shares {
        let keys = if *is_key_brought { "request" } else { "configured" };
        writeln!(page, "{name}{{client=\"{client}\",keys=\"{keys}\"}} {runs}")?;
    }
    let name = "signer_nonce_refusals_total";
    head(page, name, "counter", "Transactions that were refused for their nonce, by reason.")?;
    for reason in NonceError::REASONS {
        let count = nonces.refusals.get(reason).copied().unwrap_or_default();
        writeln!(page, "{name}{{reason=\"{reason}\"}} {count}")?;
    }
    Ok(())
}

/// The two lines in front of a figure.
pub(crate) fn head(page: &mut String, name: &str, kind: &str, help: &str) -> std::fmt::Result {
    writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nonces::Division;

    #[test]
    fn the_page_is_what_prometheus_reads() {
        let metrics = Metrics::default();
        metrics.answered("/", "ok", Duration::from_micros(300));
        metrics.answered("/", "policy_refused", Duration::from_secs(11));
        metrics.refused(Rule::MaxGas);
        metrics.signed();
        let nonces = NonceFigures {
            accounts: 4,
            latest: 5,
            max_latest: 6,
            shares: vec![("pay.example".to_owned(), false, 7), ("pay.example".to_owned(), true, 8)],
            division: Division { payers: 2, guaranteed: 9, common: 12 },
            common: 11,
            refusals: [("spent", 10), ("full", 14)].into(),
        };
        let page = metrics.render(CacheFigures { hits: 1, misses: 2, keys: 3 }, &nonces);
        for line in [
            "# TYPE signer_requests_total counter",
            "signer_requests_total{route=\"/\",outcome=\"ok\"} 1",
            "signer_requests_total{route=\"/\",outcome=\"policy_refused\"} 1",
            "signer_refusals_total{rule=\"max_gas\"} 1",
            "signer_refusals_total{rule=\"chain_ids\"} 0",
            "signer_signatures_total 1",
            "signer_key_cache_hits_total 1",
            "signer_keys_cached 3",
            "signer_request_duration_seconds_bucket{route=\"/\",le=\"0.00025\"} 0",
            "signer_request_duration_seconds_bucket{route=\"/\",le=\"0.0005\"} 1",
            "signer_request_duration_seconds_bucket{route=\"/\",le=\"10\"} 1",
            "signer_request_duration_seconds_bucket{route=\"/\",le=\"+Inf\"} 2",
            "signer_request_duration_seconds_sum{route=\"/\"} 11.0003",
            "signer_request_duration_seconds_count{route=\"/\"} 2",
            "signer_nonce_accounts 4",
            "signer_nonce_latest 5",
            "signer_nonce_latest_limit 6",
            "signer_nonce_runs{client=\"pay.example\",keys=\"configured\"} 7",
            "signer_nonce_runs{client=\"pay.example\",keys=\"request\"} 8",
            "signer_nonce_runs_guaranteed 9",
            "signer_nonce_runs_common 11",
            "signer_nonce_runs_common_limit 12",
            "signer_nonce_refusals_total{reason=\"spent\"} 10",
            "signer_nonce_refusals_total{reason=\"full\"} 14",
            "signer_nonce_refusals_total{reason=\"apart\"} 0",
        ] {
            assert!(page.lines().any(|has| has == line), "{line} is not in\n{page}");
        }
        assert!(page.ends_with('\n'));
    }
}
