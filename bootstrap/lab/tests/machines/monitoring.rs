//! A real Prometheus with the rules that ship: it reads both pages, every query of the dashboard has an answer, and a fault makes its own
//! alert true and no other. `bootstrap/monitoring/test.sh` has every alert and its time; here the numbers are real.

use std::collections::BTreeSet;
use std::time::Duration;

use lab::{Attempt, EnclaveId, Parent, Prometheus, Test};

use super::shared_lab::{SharedLab, lab_with, restoring, wait};
use super::traffic::wait_answer;

const WITHIN: Duration = Duration::from_secs(60);
/// Where nothing is, so that these queries have no series in a healthy lab.
const WITHOUT_SERIES: [&str; 4] =
    ["signer_rpc_calls_total", "signer_ledger_requests_total", "wg_server_watchdog_restarts", "wg_server_forward_up"];

fn alerts(prometheus: &Prometheus) -> BTreeSet<String> {
    prometheus.alerts().unwrap().into_keys().collect()
}

/// Waits until the fault's alert is true, and sees that no other has become so meanwhile. Those of earlier faults stay for a while.
fn only(prometheus: &Prometheus, known: &mut BTreeSet<String>, alert: &str, fault: impl FnOnce()) {
    fault();
    wait(alert, WITHIN, || alerts(prometheus).contains(alert));
    known.insert(alert.to_owned());
    let others: Vec<_> = alerts(prometheus).difference(known).cloned().collect();
    assert_eq!(others, [""; 0], "beside {alert}");
}

fn reach(shared: &SharedLab, to: &str, by: Attempt) {
    let test = Test::Reach { to: to.parse().unwrap(), by };
    shared.lab.enclave(EnclaveId::FIRST).self_test(&test).unwrap();
}

fn page(parent: &Parent, url: &str) -> String {
    parent.output(&["curl", "-s", "-k", "-f", "--max-time", "20", url]).unwrap()
}

#[test]
fn prometheus_reads_everything_and_a_fault_makes_its_own_alert_true() {
    let shared = lab_with(1);
    let parent = shared.lab.parent().unwrap();
    wait_answer(&shared.lab, WITHIN);
    let prometheus = Prometheus::start(&shared.lab, EnclaveId::FIRST).unwrap();
    let address = shared.lab.enclave(EnclaveId::FIRST).addresses().unwrap()[0];
    for url in ["http://127.0.0.1:9586/metrics".to_owned(), format!("https://{address}/metrics")] {
        prometheus.check_page(&page(&parent, &url)).unwrap();
    }
    wait("both targets", WITHIN, || prometheus.query("up == 1").unwrap().len() == 2);
    wait("two samples of a client's requests", WITHIN, || {
        page(&parent, &format!("https://{address}/attestation?nonce=00"));
        !prometheus.query("rate(signer_requests_total{route=\"/attestation\"}[1m])").unwrap().is_empty()
    });
    for expression in prometheus.expressions().unwrap() {
        let series = prometheus.query(&expression).unwrap();
        let is_empty = WITHOUT_SERIES.iter().any(|name| expression.contains(name));
        assert!(is_empty || !series.is_empty(), "no series: {expression}");
    }
    // An earlier test may have had the watchdog restart an enclave.
    let mut known = BTreeSet::from(["WatchdogRestarted".to_owned()]);
    wait("a healthy lab", WITHIN, || alerts(&prometheus).is_subset(&known));
    restoring(
        || faults(&shared, &parent, &prometheus, &mut known),
        || {
            parent.shell("systemctl start wg-server; wg-server drain --undo").unwrap();
            wait_answer(&shared.lab, WITHIN);
        },
    );
}

fn faults(shared: &SharedLab, parent: &Parent, prometheus: &Prometheus, known: &mut BTreeSet<String>) {
    only(prometheus, known, "EgressRefused", || reach(shared, "198.51.100.66:443", Attempt::Tcp));
    only(prometheus, known, "DnsQuestionsDropped", || reach(shared, "198.51.100.53:53", Attempt::Udp));
    only(prometheus, known, "HostRepaired", || {
        parent.output(&["ip", "link", "set", "wg0", "mtu", "1400"]).unwrap();
    });
    only(prometheus, known, "HostDraining", || {
        parent.output(&["/usr/local/bin/wg-server", "drain"]).unwrap();
    });
    parent.output(&["/usr/local/bin/wg-server", "drain", "--undo"]).unwrap();
    wait("the end of the drain", WITHIN, || !alerts(prometheus).contains("HostDraining"));
    // wg0 goes with it, and the way to the signer.
    known.insert("SignerDown".to_owned());
    only(prometheus, known, "WgServerDown", || {
        parent.output(&["systemctl", "stop", "wg-server"]).unwrap();
    });
}
