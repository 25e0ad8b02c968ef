//! New keys for a tunnel in use: connections inside survive, whatever happens to the exchange.

use std::sync::MutexGuard;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::shared_lab::{SharedLab, fault, lab_with, wait};
use super::traffic::{answers, transfer_while, wait_answer};
use lab::Lab;

/// WireGuard repeats its handshake after 5 s, and the enclave reconnects its streams within 5 s.
const RENEWED_WITHIN: Duration = Duration::from_secs(30);

fn healthy() -> MutexGuard<'static, SharedLab> {
    let shared = lab_with(1);
    fault(&shared.lab, "clear");
    shared.lab.parent().unwrap().release("wg-server").unwrap();
    wait_answer(&shared.lab, Duration::from_secs(60));
    wait("one peer", RENEWED_WITHIN, || peers(&shared.lab).len() == 1);
    shared
}

/// The peers' keys on the parent's wg0.
fn peers(lab: &Lab) -> Vec<String> {
    let text = lab.parent().unwrap().output(&["wg", "show", "wg0", "peers"]).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// The key that the enclave's addresses belong to.
fn owner(lab: &Lab) -> Option<String> {
    let text = lab.parent().unwrap().output(&["wg", "show", "wg0", "allowed-ips"]).unwrap_or_default();
    let line = text.lines().find(|line| line.contains("203.0.113.2/32"))?;
    line.split_whitespace().next().map(str::to_owned)
}

fn renew(lab: &Lab) {
    let output = lab.parent().unwrap().shell("/usr/local/bin/wg-server renew 2>&1").unwrap();
    assert!(output.contains("renewing the keys of 1 enclave"), "{output}");
}

/// Waits until the addresses belong to another key than `before`, which is the only peer.
fn wait_renewed(lab: &Lab, before: Option<&String>) {
    wait("another key", RENEWED_WITHIN, || {
        let owner = owner(lab);
        owner.is_some() && owner.as_ref() != before && peers(lab).len() == 1
    });
}

#[test]
fn keys_are_renewed_three_times_in_a_transfer_and_the_connection_lives() {
    let shared = healthy();
    transfer_while(&shared.lab, || {
        for _ in 0..3 {
            let before = owner(&shared.lab);
            renew(&shared.lab);
            wait_renewed(&shared.lab, before.as_ref());
        }
    });
    let secrets = shared.lab.parent().unwrap().output(&["wg", "show", "wg0", "preshared-keys"]).unwrap();
    assert!(!secrets.contains("(none)"), "a peer without a pre-shared key: {secrets}");
}

#[test]
fn keys_are_renewed_on_schedule() {
    let shared = healthy();
    let parent = shared.lab.parent().unwrap();
    let file = "/etc/wg-server/parent.toml";
    let with = |lifetime: &str| {
        parent.hold("wg-server").unwrap();
        parent.shell(&format!("sed -i 's/^key_lifetime = .*/key_lifetime = \"{lifetime}\"/' {file}")).unwrap();
        parent.release("wg-server").unwrap();
        wait_answer(&shared.lab, Duration::from_secs(60));
    };
    with("1m");
    wait("the addresses to have an owner", RENEWED_WITHIN, || owner(&shared.lab).is_some());
    let before = owner(&shared.lab);
    wait("another key", Duration::from_secs(90), || owner(&shared.lab).is_some_and(|key| Some(key) != before));
    assert!(parent.wg_server_log().unwrap().contains("key_lifetime has passed"));
    with("1h");
}

#[test]
fn a_renewal_while_the_relay_is_stalled_is_done_when_the_stall_ends() {
    let shared = healthy();
    let before = owner(&shared.lab);
    transfer_while(&shared.lab, || {
        fault(&shared.lab, "stall --port 820 --from 16 --for 4s");
        renew(&shared.lab);
        sleep(Duration::from_secs(2));
        assert_eq!(owner(&shared.lab), before, "the addresses moved to a key that never had a handshake");
        wait_renewed(&shared.lab, before.as_ref());
    });
}

#[test]
fn an_exchange_that_stalls_costs_nothing_and_is_repeated() {
    let shared = healthy();
    let before = owner(&shared.lab);
    transfer_while(&shared.lab, || {
        fault(&shared.lab, "stall --port 821 --from 16 --for 12s");
        renew(&shared.lab);
        wait_renewed(&shared.lab, before.as_ref());
    });
}

#[test]
fn a_wg_server_killed_in_the_middle_of_an_exchange_loses_no_connection() {
    let shared = healthy();
    let parent = shared.lab.parent().unwrap();
    let before = owner(&shared.lab);
    transfer_while(&shared.lab, || {
        // The enclave's answer is held back, and then wg-server is not there to read it.
        fault(&shared.lab, "stall --port 821 --from 16");
        renew(&shared.lab);
        sleep(Duration::from_millis(500));
        parent.signal("wg-server", "KILL").unwrap();
        fault(&shared.lab, "clear");
        wait_renewed(&shared.lab, before.as_ref());
    });
}

#[test]
fn an_enclave_that_cannot_prove_its_next_keys_keeps_its_session_until_its_end_and_no_longer() {
    let shared = healthy();
    let parent = shared.lab.parent().unwrap();
    let before = owner(&shared.lab);
    let file = "/etc/wg-server/measurements.json";
    parent
        .shell(&format!("cp {file} {file}.right && sed -i 's/\"PCR2\": *\"...../\"PCR2\": \"00000/' {file}"))
        .unwrap();
    // Killed, so that the session survives: a wg-server that stops in order removes wg0.
    parent.signal("wg-server", "KILL").unwrap();
    let refused = || parent.wg_server_log().unwrap().contains("refused: the attestation document");
    wait("the refusal", Duration::from_secs(30), refused);
    let refused_at = Instant::now();
    sleep(Duration::from_secs(60));
    assert!(answers(&shared.lab), "the session ended before its time");
    assert_eq!(owner(&shared.lab), before);
    wait("the peer's end", Duration::from_secs(180), || peers(&shared.lab).is_empty());
    // As after a kill: two minutes from the next start of wg-server.
    assert!(refused_at.elapsed() > Duration::from_secs(90), "the peer went after {:?}", refused_at.elapsed());
    parent.shell(&format!("mv {file}.right {file}")).unwrap();
    parent.signal("wg-server", "KILL").unwrap();
    wait_answer(&shared.lab, Duration::from_secs(60));
}
