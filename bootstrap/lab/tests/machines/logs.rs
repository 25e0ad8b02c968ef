//! `wg-logs.service` on the parent: the journal has the enclave's console, also when the enclave is not in debug mode.

use std::time::Duration;

use lab::{EnclaveId, Lab, Parent};

use super::shared_lab::{fault, lab_with, wait};
use super::traffic::answers;

const WITHIN: Duration = Duration::from_secs(30);
const ENDED: &str = "relay: the log stream ended";
/// The lab's published key.
const SECRET: &str = "4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318";

/// What the journal has of the enclave: priorities and messages.
fn entries(parent: &Parent) -> Vec<(String, String)> {
    let json = parent.output(&["journalctl", "-q", "-t", "enclave@16", "-o", "json"]).unwrap();
    let entry = |line: &str| {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(entry["ENCLAVE_CID"], "16", "{line}");
        assert_eq!(entry["_SYSTEMD_UNIT"], "wg-logs.service", "{line}");
        [&entry["PRIORITY"], &entry["MESSAGE"]].map(|value| value.as_str().unwrap().to_owned()).into()
    };
    json.lines().map(entry).collect()
}

fn has(parent: &Parent, priority: &str, text: &str) -> bool {
    entries(parent).iter().any(|(found, message)| found == priority && message.contains(text))
}

fn warnings(parent: &Parent) -> usize {
    let is_warning =
        |(priority, message): &(String, String)| priority == "4" && message.contains("relay: the control stream ended");
    entries(parent).iter().filter(|entry| is_warning(entry)).count()
}

/// On the enclave's own console.
fn said(lab: &Lab, text: &str) -> usize {
    lab.enclave(EnclaveId::FIRST).console().text().unwrap().matches(text).count()
}

/// Ends the control stream, which the enclave logs as a warning, and waits until there is another one.
fn lose_the_control_stream(lab: &Lab) {
    const UP: &str = "relay: the control stream is up";
    let before = said(lab, UP);
    fault(lab, "reset --port 821");
    wait(UP, WITHIN, || said(lab, UP) > before);
}

#[test]
fn the_journal_has_the_enclave_s_console_and_a_reader_that_stands_still_changes_nothing() {
    let shared = lab_with(1);
    let parent = shared.lab.parent().unwrap();
    for (priority, text) in
        [("6", "] boot: nsm"), ("6", "] supervise: started the relay"), ("6", "] tunnel: first handshake ")]
    {
        wait(text, WITHIN, || has(&parent, priority, text));
    }
    parent.signal("wg-logs", "STOP").unwrap();
    let before = warnings(&parent);
    lose_the_control_stream(&shared.lab);
    assert!(answers(&shared.lab), "the enclave waits for a reader of its log");
    assert_eq!(warnings(&parent), before, "wg-logs.service does not stand still");
    parent.signal("wg-logs", "CONT").unwrap();
    wait("the warning", WITHIN, || warnings(&parent) > before);

    // Lines on their way when the stream ends are lost, so the enclave has to have noticed.
    let ended = said(&shared.lab, ENDED);
    parent.output(&["systemctl", "stop", "wg-logs"]).unwrap();
    wait("the end of the log stream", WITHIN, || said(&shared.lab, ENDED) > ended);
    let before = warnings(&parent);
    lose_the_control_stream(&shared.lab);
    parent.output(&["systemctl", "start", "wg-logs"]).unwrap();
    wait("the warning that nobody read at first", WITHIN, || warnings(&parent) > before);

    let all: String = entries(&parent).into_iter().map(|(_, message)| message + "\n").collect();
    let keys = parent.shell("wg show wg0 preshared-keys | cut -f2; cat /etc/wg-server/private.key").unwrap();
    for secret in keys.lines().chain([SECRET]) {
        assert!(secret.len() > 40 && !all.contains(secret), "a secret is in the journal");
    }
}
