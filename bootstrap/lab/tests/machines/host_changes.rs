//! Changes that others make to the parent's network. wg-server restores its own settings within seconds, and counts
//! and shows the repairs. While a setting is missing, no packet passes that should not. wg-server reports changes
//! that are not its own to repair.

use std::sync::MutexGuard;
use std::thread::{self, sleep};
use std::time::Duration;

use super::shared_lab::{SharedLab, fault, lab_with, wait};
use super::traffic::{answers, wait_answer};
use lab::{EnclaveId, Lab, Report, Test};

/// Repairs take at most three seconds on an idle processor.
const BACK_WITHIN: Duration = Duration::from_secs(20);
/// For a command on an emulated parent.
const COMMAND: Duration = Duration::from_secs(10);
/// wg-server reads other tables less often if reading them takes long.
const NAMED_WITHIN: Duration = Duration::from_secs(20);
/// New keys need an exchange and a handshake.
const RENEWED_WITHIN: Duration = Duration::from_secs(30);
const TRANSFER: u64 = 16 << 20;

fn healthy() -> MutexGuard<'static, SharedLab> {
    let shared = lab_with(1);
    fault(&shared.lab, "clear");
    shared.lab.parent().unwrap().release("wg-server").unwrap();
    wait_answer(&shared.lab, Duration::from_secs(60));
    wait("no problem", BACK_WITHIN + COMMAND, || problems(&shared.lab).is_empty());
    shared
}

fn shell(lab: &Lab, line: &str) -> String {
    lab.parent().unwrap().shell(line).unwrap()
}

fn status(lab: &Lab) -> serde_json::Value {
    serde_json::from_str(&shell(lab, "/usr/local/bin/wg-server status --json")).unwrap()
}

fn repairs(lab: &Lab, kind: &str) -> u64 {
    status(lab)["repairs"][kind]["count"].as_u64().unwrap()
}

fn problems(lab: &Lab) -> Vec<String> {
    serde_json::from_value(status(lab)["problems"].clone()).unwrap()
}

/// Changes something on the parent that wg-server must restore as a repair of this kind.
fn put_back(lab: &Lab, kind: &str, change: &str, mut is_back: impl FnMut() -> bool) {
    let before = repairs(lab, kind);
    shell(lab, change);
    wait(&format!("the end of `{change}`"), BACK_WITHIN + COMMAND, &mut is_back);
    wait(&format!("`{change}` to be counted"), COMMAND, || repairs(lab, kind) > before);
}

/// Packets that have come out of the tunnel.
fn received(lab: &Lab) -> u64 {
    shell(lab, "cat /sys/class/net/wg0/statistics/rx_packets").trim().parse().unwrap()
}

#[test]
fn no_packet_of_an_enclave_passes_while_the_firewall_is_missing_and_it_comes_back_by_itself() {
    let shared = healthy();
    let lab = &shared.lab;
    let parent = lab.parent().unwrap();
    let enclave = lab.enclave(EnclaveId::FIRST);
    let test = Test::Tcp { server: "198.51.100.10:7008".parse().unwrap(), bytes: TRANSFER, seed: 3 };
    let before = repairs(lab, "firewall");
    thread::scope(|scope| {
        let start = received(lab);
        let transfer = scope.spawn(|| enclave.self_test(&test));
        wait("the transfer to be under way", Duration::from_secs(30), || received(lab) > start + 100);
        // With a working nft, the table would be back before the test could look.
        shell(
            lab,
            "cp /usr/sbin/nft /run/nft && printf '#!/bin/sh\nexit 1\n' > /run/broken && chmod +x /run/broken \
                    && mount --bind /run/broken /usr/sbin/nft && /run/nft flush ruleset",
        );
        let at = received(lab);
        let carried = |lab: &Lab| status(lab)["enclaves"][0]["relay"]["from_enclave_datagrams"].as_u64().unwrap();
        let sent = carried(lab);
        wait("the enclave to try", Duration::from_secs(20), || carried(lab) > sent + 5);
        assert_eq!(received(lab), at, "packets came out of the tunnel without a firewall");
        assert!(!answers(lab));
        let said = problems(lab).join("\n");
        assert!(said.contains("no datagram of an enclave passes while the table is missing"), "{said}");
        shell(lab, "umount /usr/sbin/nft");
        wait("the table", BACK_WITHIN + COMMAND, || {
            parent.output(&["nft", "list", "table", "inet", "wg_server"]).is_ok()
        });
        // Without the table nothing is translated: the parent resets the connection at the server's next packet.
        drop(transfer.join().unwrap());
    });
    let report = enclave.self_test(&test).expect("the transfer");
    assert!(matches!(report, Report::Transfer(_)), "{report:?}");
    assert!(repairs(lab, "firewall") > before);
    assert!(parent.wg_server_log().unwrap().contains("repaired what something else on this host changed"));
    put_back(lab, "firewall", "nft flush chain inet wg_server input", || {
        shell(lab, "nft list chain inet wg_server input").contains("enclaves_to_parent")
    });
    wait_answer(lab, RENEWED_WITHIN);
}

#[test]
fn an_interface_that_is_deleted_is_made_again_with_everything_that_belongs_to_it() {
    let shared = healthy();
    let lab = &shared.lab;
    let named = || shell(lab, "pgrep -P $(systemctl show -P MainPID wg-named) named");
    let before = named();
    put_back(lab, "interface", "ip link del wg0", || lab.parent().unwrap().wg_show().is_ok());
    wait("new keys", RENEWED_WITHIN, || answers(lab));
    let made = shell(lab, "ip -o addr show wg0; wg show wg0 listen-port; cat /proc/sys/net/ipv4/conf/wg0/forwarding");
    assert!(made.contains("203.0.113.1/24") && made.contains("fd3b:74ac:9d21::1/64"), "{made}");
    assert!(made.contains("51820") && made.trim_end().ends_with('1'), "{made}");
    wait("a name to resolve", Duration::from_secs(30), || {
        let test = Test::Resolve { name: "aws.com.".into() };
        matches!(lab.enclave(EnclaveId::FIRST).self_test(&test), Ok(Report::Resolved(it)) if !it.addresses.is_empty())
    });
    assert_eq!(named(), before, "named was killed for it");
}

#[test]
fn what_is_changed_about_the_interface_its_peers_and_its_forwarding_is_put_back() {
    let shared = healthy();
    let lab = &shared.lab;
    let has = |command: &'static str, text: &'static str| move || shell(lab, command).contains(text);
    let ipv6 = "ip -o addr show dev wg0 to fd3b:74ac:9d21::1";
    put_back(lab, "address", "ip addr flush dev wg0", has(ipv6, "fd3b:74ac:9d21::1/64"));
    put_back(lab, "link", "ip link set wg0 down", has(ipv6, "fd3b:74ac:9d21::1/64"));
    put_back(lab, "link", "ip link set wg0 mtu 1400", has("ip link show wg0", "mtu 15360"));
    put_back(lab, "interface", "wg set wg0 listen-port 4444", has("wg show wg0 listen-port", "51820"));
    put_back(lab, "route", "ip route flush dev wg0", has("ip route show dev wg0", "203.0.113.0/24"));
    let ipv6_route = "ip -6 route show dev wg0";
    put_back(lab, "route", "ip -6 route del fd3b:74ac:9d21::/64 dev wg0", has(ipv6_route, "fd3b:74ac:9d21::/64"));
    let all = "cat /proc/sys/net/ipv4/conf/wg0/forwarding /proc/sys/net/ipv4/conf/uplink0/forwarding \
               /proc/sys/net/ipv6/conf/all/forwarding";
    let off = "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 0 > /proc/sys/net/ipv4/ip_forward; \
               echo 0 > /proc/sys/net/ipv6/conf/all/forwarding";
    put_back(lab, "forwarding", off, has(all, "1\n1\n1"));
    wait_answer(lab, RENEWED_WITHIN);

    let peers = "wg show wg0 allowed-ips";
    put_back(lab, "peer", "wg set wg0 peer $(wg show wg0 peers) allowed-ips 0.0.0.0/0", has(peers, "203.0.113.2/32"));
    put_back(lab, "peer", "wg set wg0 peer $(wg genkey | wg pubkey) allowed-ips 203.0.113.77/32", || {
        !shell(lab, peers).contains("203.0.113.77")
    });
    let keepalive = "wg set wg0 peer $(wg show wg0 peers) persistent-keepalive 0";
    put_back(lab, "peer", keepalive, has("wg show wg0 persistent-keepalive", "\t15\n"));
    // wg-server does not keep the pre-shared key, so the enclave gets new keys.
    let before = shell(lab, "wg show wg0 preshared-keys");
    shell(lab, "wg set wg0 peer $(wg show wg0 peers) preshared-key /dev/null");
    wait("another pre-shared key", RENEWED_WITHIN, || {
        let now = shell(lab, "wg show wg0 preshared-keys");
        now != before && now.lines().count() == 1 && !now.contains("(none)")
    });
    assert!(answers(lab));
    put_back(lab, "peer", "wg set wg0 peer $(wg show wg0 peers) remove", || answers(lab));
    assert_eq!(problems(lab), [] as [&str; 0]);
}

#[test]
fn what_is_not_wg_server_s_to_put_back_is_named_with_what_to_do() {
    let shared = healthy();
    let lab = &shared.lab;
    let named = |change: &str, expected: &str, undo: &str| {
        shell(lab, change);
        wait(expected, NAMED_WITHIN, || problems(lab).iter().any(|problem| problem.contains(expected)));
        shell(lab, undo);
        wait("no problem", NAMED_WITHIN, || problems(lab).is_empty());
    };
    named(
        "nft add table inet strict; nft add chain inet strict forward '{ type filter hook forward priority 0; policy drop; }'",
        "`nft insert rule inet strict forward iifname \"wg0\" accept`",
        "nft insert rule inet strict forward iifname wg0 accept; nft insert rule inet strict forward oifname wg0 accept",
    );
    shell(lab, "nft delete table inet strict");
    named(
        "cat /proc/sys/net/netfilter/nf_conntrack_max > /run/most; echo 1 > /proc/sys/net/netfilter/nf_conntrack_max",
        "the host's connection table is full",
        "cat /run/most > /proc/sys/net/netfilter/nf_conntrack_max",
    );
    named(
        "echo 1 > /proc/sys/net/ipv6/conf/wg0/disable_ipv6",
        "net.ipv6.conf.wg0.disable_ipv6 is 1",
        "echo 0 > /proc/sys/net/ipv6/conf/wg0/disable_ipv6",
    );
    sleep(Duration::from_millis(100));
    assert!(answers(lab), "none of this was the tunnel's");
    let forwards = status(lab)["forwards"].clone();
    assert_eq!(forwards[0]["is_peer"], true, "{forwards}");
}

#[test]
fn the_status_of_a_wg_server_that_is_stopped_is_an_error_that_says_so() {
    let shared = healthy();
    let lab = &shared.lab;
    let parent = lab.parent().unwrap();
    assert_eq!(shell(lab, "/usr/local/bin/wg-server status 2>&1 | head -1; exit 0"), "interface: wg0\n");
    parent.signal("wg-server", "STOP").unwrap();
    let said = shell(lab, "/usr/local/bin/wg-server status 2>&1; true");
    parent.signal("wg-server", "CONT").unwrap();
    assert!(said.contains("wg-server runs, but has not answered within 5 s"), "{said}");
}

#[test]
fn who_breaks_named_does_not_get_the_gateway_s_key() {
    let shared = healthy();
    let key = "/etc/wg-server/private.key";
    let named = shell(
        &shared.lab,
        "pid=$(pgrep -P $(systemctl show -P MainPID wg-named) named) && ps -o uid=,gid= -p $pid && grep -E '^(Groups|CapEff|NoNewPrivs):' /proc/$pid/status",
    );
    let mut words = named.split_ascii_whitespace();
    let (uid, gid) = (words.next().unwrap(), words.next().unwrap());
    assert!(uid != "0" && uid != shell(&shared.lab, "id -u wg-server").trim(), "named runs as {named}");
    // It is in wg-server's group, to read and write its folders.
    let group = shell(&shared.lab, "id -g wg-server").trim().to_owned();
    // CAP_NET_BIND_SERVICE (linux/capability.h).
    assert!(named.contains("CapEff:\t0000000000000400\n") && named.contains("NoNewPrivs:\t1"), "{named}");
    let groups = named.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap();
    assert!(groups.split_ascii_whitespace().all(|each| each == group || each == gid), "{named}");
    let read = |uid: &str, gid: &str| {
        shell(
            &shared.lab,
            &format!("setpriv --reuid={uid} --regid={gid} --groups={group} cat {key} >/dev/null 2>&1; echo $?"),
        )
    };
    assert_eq!(read("wg-server", "wg-server"), "0\n", "wg-server reads it");
    assert_ne!(read(uid, gid), "0\n", "so does named");
}

#[test]
fn a_named_that_hangs_is_started_again_and_counted() {
    let shared = healthy();
    let lab = &shared.lab;
    let pid = "pgrep -P $(systemctl show -P MainPID wg-named) named";
    let before = (shell(lab, pid), repairs(lab, "named"));
    shell(lab, &format!("kill -STOP $({pid})"));
    wait("named to be started again", BACK_WITHIN + COMMAND * 2, || repairs(lab, "named") > before.1);
    assert_ne!(shell(lab, pid), before.0);
    wait("no problem", BACK_WITHIN + COMMAND, || problems(lab).is_empty());
}

#[test]
fn apparmor_that_keeps_named_from_its_files_is_said_by_its_name_and_the_lines_it_asks_for_let_named_in() {
    const PROFILE: &str = "/etc/apparmor.d/usr.sbin.named";
    const LOCAL: &str = "/etc/apparmor.d/local/usr.sbin.named";
    let shared = healthy();
    let lab = &shared.lab;
    let named = || status(lab)["named"].as_str().unwrap().to_owned();
    shell(lab, &format!("apparmor_parser --replace {PROFILE}"));
    let said = shell(lab, "/usr/local/bin/wg-server check --config /etc/wg-server/parent.toml 2>&1");
    let lines: Vec<&str> = said.split('`').filter(|word| word.ends_with("rwk,") || word.ends_with("rw,")).collect();
    assert!(said.contains("AppArmor's profile of named") && lines.len() == 2, "{said}");
    // systemd waits for named, which does not start. The tunnel comes up.
    shell(lab, "systemctl restart --no-block wg-server");
    wait("wg-server to say why", Duration::from_secs(20), || {
        shell(lab, "/usr/local/bin/wg-server status --json 2>/dev/null || true").contains("AppArmor")
    });
    assert!(named().contains("named ended"), "{}", named());
    wait_answer(lab, RENEWED_WITHIN);
    assert_eq!(shell(lab, "systemctl show -P ActiveState wg-server"), "activating\n");
    assert!(lab.parent().unwrap().wg_server_log().unwrap().contains("AppArmor's profile of named"));
    shell(lab, &format!("printf '%s\\n' '{}' >>{LOCAL} && apparmor_parser --replace {PROFILE}", lines.join("' '")));
    wait("named to answer", Duration::from_secs(30), || named() == "running");
    wait("systemd to hear of it", COMMAND, || shell(lab, "systemctl show -P ActiveState wg-server") == "active\n");
    shell(lab, &format!("apparmor_parser --remove {PROFILE} && rm {LOCAL}"));
}
