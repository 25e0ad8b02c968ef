//! `wg-metrics.service` on the parent: what Prometheus would read is what `wg show` says.

use std::collections::BTreeMap;
use std::time::Duration;

use lab::Parent;

use super::shared_lab::{lab_with, restoring, wait};

const URL: &str = "http://127.0.0.1:9586/metrics";
const UP_WITHIN: Duration = Duration::from_secs(60);

fn page(parent: &Parent) -> String {
    parent.output(&["curl", "-s", "-f", "--max-time", "20", URL]).unwrap_or_default()
}

/// What was received and sent, by public key.
fn transfer(parent: &Parent) -> BTreeMap<String, [u64; 2]> {
    let said = parent.output(&["wg", "show", "wg0", "transfer"]).unwrap();
    let row = |line: &str| {
        let [key, received, sent] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
        (key.to_owned(), [received, sent].map(|number| number.parse().unwrap()))
    };
    said.lines().map(row).collect()
}

/// The value of a metric for a public key.
fn value(page: &str, name: &str, key: &str) -> Option<u64> {
    let label = format!("public_key=\"{key}\"");
    let line = page.lines().find(|line| line.starts_with(&format!("{name}{{")) && line.contains(&label))?;
    Some(line.rsplit_once(' ').unwrap().1.parse().unwrap())
}

#[test]
fn prometheus_reads_what_wg_shows_and_that_wg_server_is_down() {
    let shared = lab_with(1);
    let parent = shared.lab.parent().unwrap();
    wait("the page", UP_WITHIN, || page(&parent).contains("\nwg_server_up 1\n"));
    // Packets come meanwhile.
    let before = transfer(&parent);
    let page_now = page(&parent);
    let after = transfer(&parent);
    assert!(!before.is_empty(), "no peer");
    for (key, least) in &before {
        for (at, name) in ["wireguard_received_bytes_total", "wireguard_sent_bytes_total"].into_iter().enumerate() {
            let found = value(&page_now, name, key).unwrap_or_else(|| panic!("{name} of {key} is not in {page_now}"));
            assert!((least[at]..=after[key][at]).contains(&found), "{name}: {found} is not in {least:?} to {after:?}");
        }
    }
    for line in [
        "wg_server_enclave_state{enclave=\"16\",state=\"peer\"} 1",
        "wg_server_named_up 1",
        "wg_server_egress_enforced 1",
        "wg_server_refused_answers_total 0",
    ] {
        assert!(page_now.lines().any(|found| found == line), "{line} is not in {page_now}");
    }
    assert!(page_now.contains("wg_server_enclave_image_info{"), "{page_now}");
    let once = parent.output(&["/usr/local/bin/wg-server", "metrics", "--once"]).unwrap();
    let names =
        |page: &str| page.lines().filter(|line| line.starts_with("# TYPE")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(names(&once), names(&page_now));

    let stop = || {
        parent.output(&["systemctl", "stop", "wg-server"]).unwrap();
        wait("the end", UP_WITHIN, || page(&parent).contains("\nwg_server_up 0\n"));
    };
    restoring(stop, || {
        parent.output(&["systemctl", "start", "wg-server"]).unwrap();
    });
    let is_back = "wg_server_enclave_state{enclave=\"16\",state=\"peer\"} 1";
    wait("the enclave", UP_WITHIN, || page(&parent).contains(is_back));
}
