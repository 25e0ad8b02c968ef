//! The report as a page for Prometheus (text format, version 0.0.4).
//!
//! WireGuard's metrics have the names and labels of prometheus_wireguard_exporter, so that its dashboards work. There is a series for each
//! of at most 64 enclaves; an enclave's public key, a label, is another one after each renewal.

use prometheus::core::Collector;
use prometheus::{GaugeVec, IntCounterVec, Opts, Registry, TextEncoder};

use super::{DnsReport, EnclaveReport, ForwardReport, RelayReport, Report};
use crate::health::Kind;

/// Names and labels are this program's own words, so they are valid, and each is registered once.
const VALID: &str = "names and labels are valid, and used once";
const ENCLAVE: &str = "enclave";
const STATES: [&str; 3] = ["connecting", "peer", "away"];

impl Report {
    /// The page of a wg-server that runs.
    pub(crate) fn page(&self) -> String {
        let page = Page::default();
        page.gauge("wg_server_up", "1 if wg-server answers.", &[], [(vec![], 1)]);
        page.gauge("wg_server_uptime_seconds", "Since wg-server started.", &[], [(vec![], self.uptime)]);
        page.gauge("wg_server_named_up", "1 if named answers.", &[], [(vec![], u64::from(self.is_named_up))]);
        page.gauge(
            "wg_server_problems",
            "Problems that status shows.",
            &[],
            [(vec![], self.problems.len().try_into().unwrap_or(u64::MAX))],
        );
        self.of_dns(&page);
        self.of_the_host(&page);
        self.of_watchdogs(&page);
        self.of_wireguard(&page);
        self.of_enclaves(&page);
        self.of_relays(&page);
        page.text()
    }

    fn of_dns(&self, page: &Page) {
        let counts = |count: fn(&DnsReport) -> u64| self.dns.as_ref().map(|dns| (vec![], count(dns)));
        let help = "Questions of enclaves and of wg-server itself to named, since named started.";
        page.counter("wg_server_dns_questions_total", help, &[], counts(|dns| dns.questions));
        let help = "Questions for names that are not on the allow-list, since named started.";
        page.counter("wg_server_dns_denied_total", help, &[], counts(|dns| dns.denied));
        let help = "Questions that no forwarder answered, since named started.";
        page.counter("wg_server_dns_failed_total", help, &[], counts(|dns| dns.failed));
    }

    fn of_the_host(&self, page: &Page) {
        let repairs = self.repairs.iter().map(|(kind, repairs)| (vec![Kind::name(*kind).to_owned()], repairs.count));
        page.counter("wg_server_repairs_total", "What wg-server repaired on its host, by kind.", &["kind"], repairs);
        let refused = [(vec![], self.refused_answers)];
        page.counter(
            "wg_server_refused_answers_total",
            "Documents and keys of enclaves that were refused.",
            &[],
            refused,
        );
        let dropped = self.dropped_questions.map(|packets| (vec![], packets));
        page.counter("wg_server_dns_dropped_packets_total", "Packets of enclaves to other name servers.", &[], dropped);
        let unlisted = self.egress.unlisted.map(|packets| (vec![], packets));
        let help = "Packets of enclaves to destinations that are not open; dropped if wg_server_egress_enforced is 1.";
        page.counter("wg_server_egress_unlisted_packets_total", help, &[], unlisted);
        let is_enforced = [(vec![], u64::from(self.egress.is_enforced))];
        page.gauge("wg_server_egress_enforced", "1 if egress.mode is enforce.", &[], is_enforced);
        let forward = |it: &ForwardReport| (vec![it.port.to_string(), it.to.to_string()], u64::from(it.is_peer));
        let forwards = self.forwards.iter().map(forward);
        page.gauge("wg_server_forward_up", "1 if the target of nat.forwards is a peer.", &["port", "to"], forwards);
        page.gauge(
            "wg_server_draining",
            "1 if this host is drained.",
            &[],
            [(vec![], u64::from(self.drain.is_some()))],
        );
    }

    fn of_watchdogs(&self, page: &Page) {
        let each = |value: fn(&super::WatchdogReport) -> u64| {
            self.watchdogs.iter().map(move |watchdog| (vec![watchdog.enclave()], value(watchdog)))
        };
        let looks = each(|watchdog| u64::from(watchdog.is_running()));
        page.gauge("wg_server_watchdog_up", "1 if the watchdog looks at its enclave.", &[ENCLAVE], looks);
        let restarts = each(super::WatchdogReport::restarts);
        page.gauge("wg_server_watchdog_restarts", "Restarts within watchdog.restarts_within.", &[ENCLAVE], restarts);
        let gave_up = each(|watchdog| u64::from(watchdog.gave_up()));
        page.gauge("wg_server_watchdog_gave_up", "1 if restarts have not helped.", &[ENCLAVE], gave_up);
    }

    fn of_wireguard(&self, page: &Page) {
        let labels = ["interface", "public_key", "allowed_ips", "friendly_name"];
        let each = |value: fn(&EnclaveReport) -> u64| {
            self.enclaves.iter().filter_map(move |enclave| {
                let allowed_ips: Vec<_> = enclave.allowed_ips.iter().map(ToString::to_string).collect();
                let name = format!("enclave@{}", enclave.label());
                Some((
                    vec![self.interface.clone(), enclave.public_key.clone()?, allowed_ips.join(","), name],
                    value(enclave),
                ))
            })
        };
        let help = "Bytes that the peer was sent.";
        page.counter("wireguard_sent_bytes_total", help, &labels, each(|enclave| enclave.sent_bytes));
        let help = "Bytes that came from the peer.";
        page.counter("wireguard_received_bytes_total", help, &labels, each(|enclave| enclave.received_bytes));
        let help = "When the latest handshake was, in seconds since 1970; 0: never.";
        let handshakes = each(|enclave| enclave.latest_handshake.unwrap_or_default());
        page.gauge("wireguard_latest_handshake_seconds", help, &labels, handshakes);
    }

    fn of_enclaves(&self, page: &Page) {
        let states = self.enclaves.iter().flat_map(|enclave| {
            STATES.map(|state| (vec![enclave.label(), state.to_owned()], u64::from(enclave.state == state)))
        });
        page.gauge("wg_server_enclave_state", "1 for the state that the enclave is in.", &[ENCLAVE, "state"], states);
        let connections = self.enclaves.iter().map(|enclave| (vec![enclave.label()], enclave.connections));
        let help = "How often the enclave opened its control stream.";
        page.counter("wg_server_enclave_connections_total", help, &[ENCLAVE], connections);
        let proved = |enclave: &EnclaveReport| Some((vec![enclave.label()], enclave.attested.as_ref()?.at));
        let help = "When the enclave proved its image and its present key, in seconds since 1970.";
        let proofs = self.enclaves.iter().filter_map(proved);
        page.gauge("wg_server_enclave_proof_timestamp_seconds", help, &[ENCLAVE], proofs);
        let image = |enclave: &EnclaveReport| {
            let attested = enclave.attested.as_ref()?;
            let pcr0 = attested.pcrs.get(&0).cloned().unwrap_or_default();
            Some((
                vec![enclave.label(), attested.image.clone().unwrap_or_default(), pcr0, attested.config_sha256.clone()],
                1,
            ))
        };
        let help = "The image that the enclave proved: the file that names it, its PCR0, and its configuration.";
        let labels = [ENCLAVE, "image", "pcr0", "config_sha256"];
        page.gauge("wg_server_enclave_image_info", help, &labels, self.enclaves.iter().filter_map(image));
    }

    fn of_relays(&self, page: &Page) {
        let each = |rows: fn(&RelayReport) -> Vec<(&'static str, u64)>| {
            let of = move |enclave: &EnclaveReport| {
                let label = enclave.label();
                rows(&enclave.relay).into_iter().map(move |(name, count)| (vec![label.clone(), name.to_owned()], count))
            };
            self.enclaves.iter().flat_map(of)
        };
        let datagrams = |relay: &RelayReport| {
            vec![("to_enclave", relay.to_enclave_frames), ("from_enclave", relay.from_enclave_datagrams)]
        };
        let labels = [ENCLAVE, "direction"];
        page.counter("wg_server_relay_datagrams_total", "Datagrams that the relay carried.", &labels, each(datagrams));
        let bytes = |relay: &RelayReport| {
            vec![("to_enclave", relay.to_enclave_bytes), ("from_enclave", relay.from_enclave_bytes)]
        };
        page.counter("wg_server_relay_bytes_total", "Bytes that the relay carried.", &labels, each(bytes));
        let dropped = |relay: &RelayReport| {
            vec![
                ("queue_full", relay.to_enclave_dropped),
                ("unfit", relay.to_enclave_unfit),
                ("foreign", relay.to_enclave_foreign),
                ("refused_by_kernel", relay.from_enclave_dropped),
                ("udp_error", relay.udp_errors),
            ]
        };
        let help = "Datagrams that the relay dropped, by cause: the stream was slower than UDP or ended; empty or too long; not from \
                    WireGuard; refused by this host's kernel; lost with an error of UDP.";
        page.counter("wg_server_relay_dropped_datagrams_total", help, &[ENCLAVE, "cause"], each(dropped));
    }
}

/// The page of a wg-server that does not answer.
pub(crate) fn down() -> String {
    let page = Page::default();
    page.gauge("wg_server_up", "1 if wg-server answers.", &[], [(vec![], 0)]);
    page.text()
}

impl EnclaveReport {
    /// Its CID, behind its parent's address unless that is this host.
    fn label(&self) -> String {
        self.via.map_or_else(|| self.cid.to_string(), |via| format!("{via}/{}", self.cid))
    }
}

#[derive(Default)]
struct Page(Registry);

impl Page {
    fn gauge(&self, name: &str, help: &str, labels: &[&str], rows: impl IntoIterator<Item = (Vec<String>, u64)>) {
        let gauges = self.register(GaugeVec::new(Opts::new(name, help), labels));
        for (values, value) in rows {
            #[expect(clippy::cast_precision_loss, reason = "a float is what Prometheus has")]
            gauges.with_label_values(&values).set(value as f64);
        }
    }

    fn counter(&self, name: &str, help: &str, labels: &[&str], rows: impl IntoIterator<Item = (Vec<String>, u64)>) {
        let counters = self.register(IntCounterVec::new(Opts::new(name, help), labels));
        rows.into_iter().for_each(|(values, count)| counters.with_label_values(&values).inc_by(count));
    }

    fn register<C: Collector + Clone + 'static>(&self, collector: prometheus::Result<C>) -> C {
        let collector = collector.expect(VALID);
        self.0.register(Box::new(collector.clone())).expect(VALID);
        collector
    }

    fn text(&self) -> String {
        TextEncoder::new().encode_to_string(&self.0.gather()).expect("gather leaves out what is empty")
    }
}
