use std::path::Path;

use super::super::nft::Nft;
use super::super::ruleset::Plan;
use super::*;
use crate::config::{Config, InterfaceName};
use crate::entry_port::TunnelPorts;
use crate::namespace::{alone, sh};

const LAB: &str = include_str!("../../../tests/parent.toml");

fn packets() -> Vec<Packet> {
    packets_of(LAB)
}

fn packets_of(toml: &str) -> Vec<Packet> {
    let tunnel_ports = TunnelPorts { entry: 51_820, wireguard: 40_001 };
    Plan::new(&Config::parse(toml).unwrap(), InterfaceName::parse("uplink0").unwrap(), tunnel_ports).packets()
}

/// What is said about a ruleset in nft's own words.
fn said_about(ruleset: &str) -> Vec<String> {
    said_about_packets(ruleset, &packets())
}

fn said_about_packets(ruleset: &str, packets: &[Packet]) -> Vec<String> {
    // nft wants a line's end behind a block's.
    std::fs::write("/tmp/ruleset", format!("flush ruleset\n{}\n", ruleset.replace(" }", "\n}"))).unwrap();
    sh("nft -f /tmp/ruleset");
    let nft = Nft::new(Path::new("/usr/sbin/nft").to_owned());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    problems(&runtime.block_on(nft.ruleset()).unwrap(), "wg0", packets)
}

#[test]
fn another_table_that_drops_what_enclaves_send_is_named_with_what_would_let_it_pass() {
    alone("firewall::foreign::tests::inside_drops");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_drops() {
    sh("mount -t tmpfs none /tmp");
    let both = "`nft insert rule inet filter forward iifname \"wg0\" accept` and `nft insert rule inet filter forward oifname \
                \"wg0\" accept`";
    for (rules, expected) in [
        // Debian's own workstation example, with a policy.
        ("table inet filter { chain forward { type filter hook forward priority 0; policy drop; } }", both),
        // What enclaves start is dropped, and what belongs to a connection is not.
        (
            "table inet filter { chain forward { type filter hook forward priority 0; policy drop; \
             ct state vmap { established : accept, related : accept, invalid : drop } } }",
            "`nft insert rule inet filter forward iifname \"wg0\" accept`",
        ),
        (
            "table ip mine { chain onward { type filter hook forward priority -5; iifname \"wg*\" counter drop } }",
            "`nft insert rule ip mine onward iifname \"wg0\" accept`",
        ),
        (
            "table inet filter { chain input { type filter hook input priority 0; policy drop; iif lo accept; \
             ct state established,related accept; tcp dport { 22, 80-90 } accept; icmp type echo-request accept } }",
            "`nft insert rule inet filter input iifname \"wg0\" accept`",
        ),
        // Long answers come over TCP.
        (
            "table inet filter { chain input { type filter hook input priority 0; policy drop; udp dport 53 accept } }",
            "`nft insert rule inet filter input iifname \"wg0\" accept`",
        ),
        (
            "table inet firewalld { chain filter_FORWARD { type filter hook forward priority 10; \
             ct state established,related accept; jump zones; reject with icmpx admin-prohibited }
             chain zones { iifname \"eth0\" goto public; iifname \"docker0\" accept }
             chain public { accept } }",
            "`firewall-cmd --zone=trusted --add-interface=wg0`",
        ),
        (
            "table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; \
             counter jump DOCKER-USER; oifname \"docker0\" ct state established accept; iifname \"docker0\" accept }
             chain DOCKER-USER { counter return } }",
            "`iptables -I DOCKER-USER -i wg0 -j ACCEPT` and `iptables -I DOCKER-USER -o wg0 -j ACCEPT`",
        ),
        (
            "table ip6 filter { chain FORWARD { type filter hook forward priority 0; policy drop; jump ufw6-forward }
             chain ufw6-forward { ct state established accept; ip6 nexthdr icmpv6 accept } }",
            "`ufw route allow in on wg0`",
        ),
    ] {
        let said = said_about(rules);
        assert_eq!(said.len(), 1, "{rules}: {said:?}");
        assert!(said[0].contains(expected), "{rules}: {said:?}");
    }
}

#[test]
fn a_table_that_lets_enclaves_pass_or_may_do_so_is_not_accused() {
    alone("firewall::foreign::tests::inside_passes");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_passes() {
    sh("mount -t tmpfs none /tmp");
    for rules in [
        "",
        "table inet wg_server { chain forward { type filter hook forward priority 0; policy drop; } }",
        "table inet filter { chain forward { type filter hook forward priority 0; policy accept; } }",
        "table inet filter { chain output { type filter hook output priority 0; policy drop; } }",
        // What each problem's own commands make of it.
        "table inet filter { chain forward { type filter hook forward priority 0; policy drop; \
         iifname \"wg0\" accept; oifname \"wg0\" accept } }",
        "table inet filter { chain forward { type filter hook forward priority 0; policy drop; jump mine }
         chain mine { iifname { \"eth1\", \"wg0\" } accept; oifname != \"eth1\" accept } }",
        // IPv6 does not come this way.
        "table ip filter { chain onward { type filter hook forward priority 0; policy drop; \
         ip saddr 203.0.113.0/24 accept; ip daddr 203.0.113.0/24 accept } }",
        // Whom it lets pass is not known here: a set that others fill, a mark, a limit.
        "table inet filter { set let { type ipv4_addr; }\nchain forward { type filter hook forward priority 0; policy drop; \
         ip saddr @let accept; ip daddr @let accept; meta nfproto ipv6 accept } }",
        "table inet filter { chain forward { type filter hook forward priority 0; policy drop; meta mark 7 accept } }",
        "table inet filter { chain forward { type filter hook forward priority 0; limit rate 5/second accept; } }",
        // Not these packets.
        "table inet filter { chain forward { type filter hook forward priority 0; udp dport 443 drop; tcp dport 25 drop; \
         ip saddr 10.0.0.0/8 drop; ip6 daddr fd00::1 drop; ct state invalid drop; oifname \"docker0\" drop } }",
        "table inet filter { chain input { type filter hook input priority 0; policy drop; \
         ip saddr 203.0.113.0-203.0.113.255 udp dport 53 accept; ip6 daddr fd3b:74ac:9d21::/64 meta l4proto udp accept; \
         iifname \"wg0\" tcp dport 53 accept } }",
    ] {
        let said = said_about(rules);
        assert!(said.is_empty(), "{rules}: {said:?}");
    }
}

#[test]
fn a_table_that_drops_what_parents_send_is_named_with_the_ports_that_it_should_open() {
    alone("firewall::foreign::tests::inside_parents");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_parents() {
    sh("mount -t tmpfs none /tmp");
    let remote = "[remote]\nlisten = \"192.0.2.10:821\"\nparents = [\"192.0.2.2\"]\n[nat]";
    let packets = packets_of(&LAB.replacen("[nat]", remote, 1));
    let input = |family: &str, name: &str, rules: &str| {
        format!(
            "table {family} filter {{ chain {name} {{ type filter hook input priority 0; policy drop; iifname \"wg0\" accept; \
             {rules} }} }}"
        )
    };
    let [tcp, udp] = ["tcp dport 821", "udp dport 51820"]
        .map(|port| format!("`nft insert rule inet filter input iifname \"uplink0\" {port} accept`"));
    for (ruleset, expected) in [
        (input("inet", "input", ""), vec![tcp.as_str(), &udp]),
        (input("inet", "input", "udp dport 51820 accept"), vec![&tcp]),
        // Another parent's, another address's.
        (
            input("inet", "input", "ip saddr 192.0.2.3 accept; ip daddr 192.0.2.11 tcp dport 821 accept"),
            vec![&tcp, &udp],
        ),
        (
            input("ip", "INPUT", "tcp dport 821 accept"),
            vec!["`iptables -I INPUT -i uplink0 -p udp --dport 51820 -j ACCEPT`"],
        ),
        (
            format!(
                "{}\ntable ip filter {{ chain ufw-x {{ counter accept }} }}",
                input("ip", "INPUT", "tcp dport 821 accept")
            ),
            vec!["`ufw allow in on uplink0 to any port 51820 proto udp`"],
        ),
    ] {
        let said = said_about_packets(&ruleset, &packets);
        assert_eq!(said.len(), 1, "{ruleset}: {said:?}");
        let expected = format!(
            "drops packets of remote.parents, so their enclaves have no tunnel: run {} (",
            expected.join(" and ")
        );
        assert!(said[0].contains(&expected), "{ruleset}: {said:?}");
    }
    for rules in
        ["ip saddr 192.0.2.2 accept", "iifname \"uplink0\" meta l4proto { tcp, udp } th dport { 821, 51820 } accept"]
    {
        assert_eq!(said_about_packets(&input("inet", "input", rules), &packets), [] as [&str; 0], "{rules}");
    }
}

#[test]
fn a_match_of_iptables_that_lets_in_what_belongs_to_connections_lets_no_first_packet_in() {
    let listing = |matched: &str| {
        serde_json::json!({"nftables": [
            {"chain": {"family": "ip", "table": "filter", "name": "FORWARD", "type": "filter", "hook": "forward",
                "prio": 0, "policy": "drop"}},
            {"rule": {"family": "ip", "table": "filter", "chain": "FORWARD", "expr": [
                {"xt": {"type": "match", "name": matched}}, {"counter": {"packets": 0, "bytes": 0}}, {"accept": null}]}},
        ]})
    };
    let said = problems(&listing("conntrack"), "wg0", &packets());
    assert!(said[0].contains("`iptables -I FORWARD -i wg0 -j ACCEPT`"), "{said:?}");
    assert!(problems(&listing("policy"), "wg0", &packets()).is_empty(), "what it matches is not known");
}

#[test]
fn a_reject_that_nft_shows_as_a_target_of_iptables_drops() {
    let listing = |target: &str| {
        serde_json::json!({"nftables": [
            {"chain": {"family": "ip", "table": "filter", "name": "FORWARD", "type": "filter", "hook": "forward",
                "prio": 0, "policy": "accept"}},
            {"rule": {"family": "ip", "table": "filter", "chain": "FORWARD", "expr": [
                {"counter": {"packets": 0, "bytes": 0}}, {"xt": {"type": "target", "name": target}}]}},
        ]})
    };
    let said = problems(&listing("REJECT"), "wg0", &packets());
    assert!(said[0].contains("`iptables -I FORWARD -i wg0 -j ACCEPT`"), "{said:?}");
    assert!(problems(&listing("LOG"), "wg0", &packets()).is_empty(), "it goes on to the next rule");
}

#[test]
fn a_jump_that_names_no_chain_decides_nothing_that_is_known() {
    let listing = serde_json::json!({"nftables": [
        {"chain": {"family": "ip", "table": "filter", "name": "FORWARD", "type": "filter", "hook": "forward",
            "prio": 0, "policy": "drop"}},
        {"rule": {"family": "ip", "table": "filter", "chain": "FORWARD", "expr": [{"jump": {}}]}},
    ]});
    assert!(problems(&listing, "wg0", &packets()).is_empty());
}
