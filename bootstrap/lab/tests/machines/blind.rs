//! Blind mode: the gateway is another host, its key is in the image, and the parent relays only ciphertext.

use std::thread;
use std::thread::sleep;
use std::time::Duration;

use super::shared_lab::{SharedLab, lab_with, restoring, wait};
use lab::{Blind, EnclaveId, Report, Test};

const ENCLAVE: EnclaveId = EnclaveId::SECOND;
const TRANSFER: u64 = 8 << 20;
/// `aws.com` in a DNS query in plain text.
const QUESTION: &str = "\u{3}aws\u{3}com";

/// Runs a test in blind mode, with an enclave whose tunnel is up, and then ends blind mode.
fn in_blind_mode(test: impl FnOnce(&SharedLab, &Blind<'_>)) {
    let shared = lab_with(1);
    let blind = Blind::begin(&shared.lab).unwrap();
    let test = || {
        blind.boot(ENCLAVE).unwrap();
        test(&shared, &blind);
    };
    let restore = || {
        shared.lab.enclave(ENCLAVE).stop().unwrap();
        Blind::end(&shared.lab).unwrap();
    };
    restoring(test, restore);
}

fn transfer(blind: &Blind<'_>) {
    let test = Test::Tcp { server: "198.51.100.10:7008".parse().unwrap(), bytes: TRANSFER, seed: 3 };
    // An early end of the connection and a difference of hashes are errors.
    let report = blind.self_test(ENCLAVE, &test).expect("the transfer");
    assert!(matches!(report, Report::Transfer(_)), "{report:?}");
}

/// Runs a transfer, and `disturb` in the middle of it.
fn transfer_while(blind: &Blind<'_>, disturb: impl FnOnce()) {
    let received = || -> u64 {
        let text = blind.output(&["cat", "/sys/class/net/wg0/statistics/rx_bytes"]).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    };
    thread::scope(|scope| {
        let before = received();
        let running = scope.spawn(|| transfer(blind));
        wait("the transfer to be under way", Duration::from_secs(30), || received() > before + (1 << 20));
        assert!(!running.is_finished(), "the transfer is over before anything could disturb it");
        disturb();
    });
}

fn peers(blind: &Blind<'_>) -> String {
    blind.output(&["wg", "show", "wg0", "peers"]).unwrap_or_default()
}

#[test]
fn the_parent_sees_ciphertext_and_nothing_else() {
    in_blind_mode(|shared, blind| {
        let captures = blind
            .capture(QUESTION, || {
                blind.self_test(ENCLAVE, &Test::Resolve { name: "aws.com.".into() })?;
                transfer(blind);
                Ok(())
            })
            .unwrap();
        assert!(captures.seen_by_gateway > 0, "the capture proves nothing");
        assert_eq!(captures.seen_by_parent, 0);
        assert_eq!(captures.unexpected(), Vec::<String>::new());
        let parent = shared.lab.parent().unwrap();
        assert_eq!(parent.output(&["ip", "-o", "link", "show", "type", "wireguard"]).unwrap(), "");
        // With a gateway's key, logs.to_parent is false.
        assert_eq!(parent.output(&["systemctl", "is-active", "wg-logs"]).unwrap(), "active\n");
        let since = "$(systemctl show -P ActiveEnterTimestamp wg-relay | cut -d' ' -f2-3)";
        let said = parent.shell(&format!("journalctl -q -o cat -t enclave@17 --since \"{since}\"")).unwrap();
        assert_eq!(said, "", "lines have left the enclave");
    });
}

#[test]
fn the_gateway_knows_the_enclave_by_its_document_and_names_its_parent() {
    in_blind_mode(|_, blind| {
        let status = blind.status().unwrap();
        assert!(status.contains("enclave: CID 17\n  via: 198.51.100.2\n  state: peer\n"), "{status}");
        let measurements = std::fs::read_to_string(blind.eif_path().with_file_name("measurements.json")).unwrap();
        let pcr2 = measurements.split("\"PCR2\": \"").nth(1).unwrap().split('"').next().unwrap();
        assert!(status.contains(&format!("PCR2: {pcr2}")), "{status}");
    });
}

#[test]
fn keys_are_renewed_and_the_relay_killed_in_a_transfer_that_lives() {
    in_blind_mode(|shared, blind| {
        transfer_while(blind, || {
            let before = peers(blind);
            let renew = ["/usr/local/bin/wg-server", "renew", "--cid", "17", "--runtime-dir", "/run/wg-gateway"];
            let said = blind.output(&renew).unwrap();
            assert!(said.contains("renewing the keys of 1 enclave"), "{said}");
            wait("another key", Duration::from_secs(30), || {
                let now = peers(blind);
                now != before && now.lines().count() == 1
            });
            shared.lab.parent().unwrap().signal("wg-relay", "KILL").unwrap();
        });
    });
}

#[test]
fn a_gateway_without_its_firewall_hears_no_parent_even_while_wg_server_stands_still() {
    in_blind_mode(|shared, blind| {
        let parent = shared.lab.parent().unwrap();
        let sees = |device: &str| -> u64 {
            let file = format!("/sys/class/net/{device}/statistics/rx_packets");
            blind.output(&["cat", &file]).unwrap().trim().parse().unwrap()
        };
        let uplink =
            blind.output(&["sh", "-c", "ip -o route get 198.51.100.2 | sed 's/.* dev \\([^ ]*\\).*/\\1/'"]).unwrap();
        parent.signal("wg-gateway", "STOP").unwrap();
        blind.output(&["nft", "flush", "ruleset"]).unwrap();
        let (out_of_the_tunnel, into_the_host) = (sees("wg0"), sees(uplink.trim()));
        // The enclave's own probe asks the gateway every few seconds.
        wait("the enclave to try", Duration::from_secs(30), || sees(uplink.trim()) > into_the_host + 3);
        let passed = sees("wg0") - out_of_the_tunnel;
        parent.signal("wg-gateway", "CONT").unwrap();
        assert_eq!(passed, 0, "packets came out of the tunnel without a firewall");
        wait("the table", Duration::from_secs(20), || {
            blind.output(&["nft", "list", "table", "inet", "wg_server"]).is_ok()
        });
        // wg-server takes wg0 down for as long as it cannot restore the table.
        let is_up = || blind.output(&["ip", "-o", "link", "show", "dev", "wg0", "up"]).unwrap().contains("wg0");
        let break_nft = "cp /usr/sbin/nft /run/nft && printf '#!/bin/sh\nexit 1\n' >/run/broken && chmod +x /run/broken \
                         && mount --bind /run/broken /usr/sbin/nft";
        parent.shell(break_nft).unwrap();
        blind.output(&["/run/nft", "flush", "ruleset"]).unwrap();
        let is_taken_down = (0..100).any(|_| {
            sleep(Duration::from_millis(200));
            !is_up()
        });
        // In any case: the next tests need nft.
        parent.shell("umount /usr/sbin/nft").unwrap();
        assert!(is_taken_down, "wg0 is up, and nothing filters it");
        wait("wg0 to be up", Duration::from_secs(20), is_up);
        transfer(blind);
    });
}

#[test]
fn an_enclave_whose_image_pins_another_key_than_the_gateway_s_accepts_none() {
    let shared = lab_with(1);
    let blind = Blind::begin(&shared.lab).unwrap();
    let eif = blind.eif_path().to_owned();
    // Back to the parent's own gateway, which will accept that image.
    Blind::end(&shared.lab).unwrap();
    let parent = shared.lab.parent().unwrap();
    parent.trust(&eif).unwrap();
    let enclave = shared.lab.enclave(ENCLAVE);
    enclave.stop().unwrap();
    enclave.start(Some(&eif)).unwrap();
    let line = enclave.wait_console("tunnel.gateway_key", Duration::from_secs(60));
    let said = enclave.console().text().unwrap();
    enclave.stop().unwrap();
    parent.trust(&shared.lab.eif_path().unwrap()).unwrap();
    assert!(line.unwrap().contains("and not that of tunnel.gateway_key"), "{said}");
    assert!(!said.contains("first handshake"), "{said}");
}
