//! A tunnel in use under vsock faults and crashes of the parent's daemons: it recovers, and no byte is wrong.

use std::sync::MutexGuard;
use std::time::Duration;

use super::shared_lab::{SharedLab, fault, lab_with, wait};
use super::traffic::{answers, transfer_while, wait_answer};
use lab::{EnclaveId, Lab, Report, Test};

/// Traffic resumes a second after wg-server is up, on an idle processor.
const BACK_WITHIN: Duration = Duration::from_secs(20);

/// A lab whose tunnel works, in whatever state the previous test left it.
fn healthy() -> MutexGuard<'static, SharedLab> {
    let shared = lab_with(1);
    fault(&shared.lab, "clear");
    shared.lab.parent().unwrap().release("wg-server").unwrap();
    wait_answer(&shared.lab, Duration::from_secs(60));
    shared
}

/// How often `text` is on the enclave's console.
fn said(lab: &Lab, text: &str) -> usize {
    lab.enclave(EnclaveId::FIRST).console().text().unwrap().matches(text).count()
}

#[test]
fn a_reset_stream_is_dialled_again_and_the_transfer_goes_on() {
    let shared = healthy();
    let before = said(&shared.lab, "relay: the data stream ended");
    transfer_while(&shared.lab, || fault(&shared.lab, "reset --port 820"));
    assert!(
        said(&shared.lab, "relay: the data stream ended") > before,
        "the console does not mention the stream's end"
    );
}

#[test]
fn a_stream_cut_in_the_middle_of_a_frame_loses_nothing() {
    let shared = healthy();
    transfer_while(&shared.lab, || {
        fault(&shared.lab, "cut --after 100001 --port 820 --from 16");
        fault(&shared.lab, "cut --after 300007 --port 820 --from 3");
    });
}

#[test]
fn a_flipped_bit_costs_datagrams_and_never_data() {
    let shared = healthy();
    transfer_while(&shared.lab, || {
        for after in ["1000", "20011", "300017"] {
            fault(&shared.lab, &format!("flip --after {after} --port 820 --from 16"));
            fault(&shared.lab, &format!("flip --after {after} --port 820 --from 3"));
        }
    });
}

#[test]
fn a_direction_that_stalls_for_a_while_goes_on_where_it_was() {
    let shared = healthy();
    let before = said(&shared.lab, "relay: the data stream ended");
    transfer_while(&shared.lab, || fault(&shared.lab, "stall --port 820 --from 16 --for 4s"));
    assert_eq!(said(&shared.lab, "relay: the data stream ended"), before, "the stream was left too soon");
}

#[test]
fn a_direction_that_stalls_for_ever_is_noticed_and_the_stream_left() {
    let shared = healthy();
    let noticed = || shared.lab.parent().unwrap().wg_server_log().unwrap().matches("nothing came back").count();
    let before = noticed();
    transfer_while(&shared.lab, || {
        fault(&shared.lab, "stall --port 820 --from 16");
        wait("the stall to be noticed", Duration::from_secs(60), || noticed() > before);
        fault(&shared.lab, "clear");
    });
}

#[test]
fn a_stream_that_dribbles_byte_by_byte_is_slow_and_right() {
    let shared = healthy();
    transfer_while(&shared.lab, || fault(&shared.lab, "dribble --port 820 --for 3s"));
}

#[test]
fn refused_connections_are_retried_until_they_are_taken() {
    let shared = healthy();
    transfer_while(&shared.lab, || {
        fault(&shared.lab, "refuse --port 820 --for 3s");
        fault(&shared.lab, "reset --port 820");
    });
    wait_answer(&shared.lab, BACK_WITHIN);
}

#[test]
fn a_lost_control_stream_disturbs_no_data() {
    let shared = healthy();
    let before = said(&shared.lab, "relay: the data stream ended");
    transfer_while(&shared.lab, || fault(&shared.lab, "reset --port 821"));
    assert_eq!(said(&shared.lab, "relay: the data stream ended"), before, "the data stream was lost too");
    // Reconnecting creates new keys. Old and new are peers until the new ones have had a handshake.
    let peers = || shared.lab.parent().unwrap().output(&["wg", "show", "wg0", "peers"]).unwrap().lines().count();
    wait("one peer", Duration::from_secs(30), || peers() == 1);
}

#[test]
fn a_wg_server_killed_in_a_transfer_is_back_and_the_session_lives() {
    let shared = healthy();
    let parent = shared.lab.parent().unwrap();
    let handshakes = said(&shared.lab, "first handshake");
    transfer_while(&shared.lab, || {
        parent.signal("wg-server", "KILL").unwrap();
        wait_answer(&shared.lab, BACK_WITHIN);
    });
    assert!(parent.wg_server_log().unwrap().contains("peer adopted"), "{}", parent.wg_server_log().unwrap());
    assert_eq!(said(&shared.lab, "first handshake"), handshakes, "the enclave started over");
}

#[test]
fn a_wg_server_restarted_in_order_is_back() {
    let shared = healthy();
    let parent = shared.lab.parent().unwrap();
    let enclave_starts =
        || shared.lab.enclave(EnclaveId::FIRST).console().text().unwrap().matches("boot: mounts").count();
    let before = enclave_starts();
    parent.hold("wg-server").unwrap();
    let left = parent.shell("nft list tables; ip -o link show wg0 2>/dev/null; pidof named; true").unwrap();
    let nameds = left.lines().last().unwrap_or_default().split(' ').count();
    assert!(!left.contains("wg_server") && !left.contains("wg0") && nameds == 1, "left behind: {left}");
    parent.release("wg-server").unwrap();
    wait("wg0", BACK_WITHIN, || parent.wg_show().is_ok());
    wait_answer(&shared.lab, BACK_WITHIN);
    transfer_while(&shared.lab, || {});
    assert_eq!(enclave_starts(), before);
}

#[test]
fn wg_server_is_not_root_and_named_is_another_user_that_cannot_read_the_private_key() {
    let shared = healthy();
    let parent = shared.lab.parent().unwrap();
    let status = parent
        .shell("grep -E '^(Uid|CapEff|CapBnd|NoNewPrivs)' /proc/$(systemctl show -P MainPID wg-server)/status")
        .unwrap();
    // CAP_NET_BIND_SERVICE is bit 10, CAP_NET_ADMIN bit 12 (linux/capability.h).
    let uid = parent.output(&["id", "-u", "wg-server"]).unwrap();
    assert!(status.contains(&format!("Uid:\t{0}\t{0}", uid.trim())) && uid.trim() != "0", "{status}");
    assert!(status.contains("CapEff:\t0000000000001400"), "{status}");
    assert!(status.contains("CapBnd:\t0000000000001400") && status.contains("NoNewPrivs:\t1"), "{status}");
    let named = "$(pgrep -P $(systemctl show -P MainPID wg-named) named)";
    let status = parent.shell(&format!("ps -o user= -p {named}; grep CapEff /proc/{named}/status")).unwrap();
    assert!(status.starts_with("wg-named\n") && status.contains("CapEff:\t0000000000000400"), "{status}");
    let key = "/etc/wg-server/private.key";
    let read = parent.shell(&format!("setpriv --reuid=bind --regid=bind --clear-groups cat {key} 2>&1; true")).unwrap();
    assert!(read.contains("Permission denied"), "{read}");
}

#[test]
fn a_killed_named_is_started_again() {
    let shared = healthy();
    let parent = shared.lab.parent().unwrap();
    let pid = || parent.shell("pgrep -P $(systemctl show -P MainPID wg-named) named").unwrap_or_default();
    let before = pid();
    assert!(!before.is_empty(), "wg-server has no named");
    parent.shell(&format!("kill -9 {before}")).unwrap();
    wait("another named", Duration::from_secs(15), || !pid().is_empty() && pid() != before);
    wait("a name to resolve", Duration::from_secs(15), || {
        let test = Test::Resolve { name: "aws.com.".into() };
        matches!(shared.lab.enclave(EnclaveId::FIRST).self_test(&test),
            Ok(Report::Resolved(resolved)) if !resolved.addresses.is_empty())
    });
}

#[test]
fn a_second_wg_server_says_that_the_first_runs_and_touches_nothing() {
    let shared = healthy();
    let parent = shared.lab.parent().unwrap();
    let state = || {
        // Without the addresses of names, whose time runs.
        let table = "nft --stateless list table inet wg_server | grep -v elements";
        parent.shell(&format!("systemctl show -P MainPID wg-server; wg show wg0 peers; {table}")).unwrap()
    };
    let before = state();
    let second = "/usr/local/bin/wg-server run --config /etc/wg-server/parent.toml";
    let output = parent.shell(&format!("{second} 2>&1 && echo ended well; true")).unwrap();
    assert!(output.contains("another wg-server runs") && !output.contains("ended well"), "{output}");
    assert_eq!(state(), before);
    wait_answer(&shared.lab, BACK_WITHIN);
}

#[test]
fn an_enclave_without_its_gateway_waits_says_so_and_comes_up_when_it_appears() {
    let shared = healthy();
    let parent = shared.lab.parent().unwrap();
    let enclave = shared.lab.enclave(EnclaveId::FIRST);
    parent.hold("wg-server").unwrap();
    enclave.stop().unwrap();
    enclave.start(None).unwrap();
    enclave.wait_console("no control stream to the parent yet", Duration::from_secs(30)).unwrap();
    parent.release("wg-server").unwrap();
    enclave.wait_tunnel().unwrap();
    wait_answer(&shared.lab, BACK_WITHIN);
}

#[test]
fn an_enclave_that_is_gone_is_no_peer_any_more() {
    let shared = lab_with(2);
    let parent = shared.lab.parent().unwrap();
    let second: EnclaveId = "17".parse().unwrap();
    let peers = || parent.output(&["wg", "show", "wg0", "peers"]).unwrap().lines().count();
    wait("two peers", Duration::from_secs(30), || peers() == 2);
    shared.lab.enclave(second).stop().unwrap();
    wait("the peer's end", Duration::from_secs(60), || peers() == 1);
    assert!(answers(&shared.lab), "the other enclave is not concerned");
}
