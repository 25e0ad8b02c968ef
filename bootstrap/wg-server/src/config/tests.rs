use super::*;

const SAMPLE: &str = include_str!("../../../../config/parent/parent.toml");
const LAB: &str = include_str!("../../tests/parent.toml");
const BLIND: &str = include_str!("../../../lab/config/blind/gateway.toml");

fn error(from: &str, to: &str) -> String {
    assert!(LAB.contains(from), "{from}");
    format!("{:#}", Config::parse(&LAB.replacen(from, to, 1)).unwrap_err())
}

#[test]
fn the_sample_and_the_tests_file_are_right() {
    for text in [SAMPLE, LAB] {
        let config = Config::parse(text).unwrap();
        assert_eq!(config.wireguard.interface.as_str(), "wg0");
        assert_eq!(config.enclaves.ranges.len(), 253);
        assert_eq!(config.enclaves.ranges.ipv4_at(0), Some("203.0.113.2".parse().unwrap()));
        assert_eq!(config.enclaves.ranges.ipv6_at(252), Some("fd3b:74ac:9d21::fe".parse().unwrap()));
    }
    let list = include_str!("../../../../config/parent/dns-allow-list.txt");
    assert!(!crate::dns::AllowList::parse(list).unwrap().is_empty());
    assert!(!Config::parse(SAMPLE).unwrap().dns.dnssec, "behind AWS's resolver");
    assert!(Config::parse(BLIND).unwrap().remote.is_some());
}

#[test]
fn an_unknown_key_is_named_with_those_that_exist() {
    let error = error("mtu = 15360", "mtuu = 15360");
    assert!(error.contains("unknown field `mtuu`, expected one of") && error.contains("`mtu`"), "{error}");
}

#[test]
fn a_missing_or_mistyped_key_is_named() {
    assert!(error("listen_port = 51820\n", "").contains("missing field `listen_port`"));
    assert!(error("listen_port = 51820", "listen_port = \"x\"").contains("listen_port"));
    assert!(error("deny = \"nxdomain\"", "deny = \"drop\"").contains("expected `nxdomain` or `refused`"));
    assert!(error("[egress]\n", "[egress]\nmode = \"off\"\n").contains("expected `enforce` or `observe`"));
}

#[test]
fn every_invalid_value_is_refused_with_what_is_expected() {
    for (from, to, expected) in [
        ("listen_port = 51820", "listen_port = 0", "wireguard.listen_port: 0 is not a port"),
        ("mtu = 15360", "mtu = 1279", "wireguard.mtu: 1279, expected 1280 to 15360"),
        ("mtu = 15360", "mtu = 15361", "wireguard.mtu: 15361, expected 1280 to 15360"),
        ("\"15s\"", "\"1500ms\"", "wireguard.persistent_keepalive: expected whole seconds"),
        ("\"wg0\"", "\"../wg0\"", "wireguard.interface: \"../wg0\" is not the name of an interface"),
        ("\"wg0\"", "\"wireguard-gateway\"", "expected 1 to 15 letters"),
        ("\"uplink0\"", "\"wg0\"", "nat.uplink: wg0 is the WireGuard interface itself"),
        ("\"/var/lib/wg-server\"", "\"state\"", "enclaves.state_dir: \"state\", expected an absolute path"),
        ("query.log\"", "\\\"; evil\"", "dns.query_log_path"),
        ("[\"198.51.100.53\"]", "[]", "dns.forwarders: empty"),
        ("\"198.51.100.53\"", "\"dns.test\"", "dns.forwarders: \"dns.test\", expected an address"),
        ("\"198.51.100.53\"", "\"203.0.113.1\"", "is in the enclaves' own network"),
        (
            "[egress]",
            "[metrics]\nlisten = \"localhost:1\"\n[egress]",
            "metrics.listen: \"localhost:1\", expected an address",
        ),
        ("[egress]", "[metrics]\nlisten = \"127.0.0.1:0\"\n[egress]", "metrics.listen: 0 is not a port"),
        (
            "[egress]",
            "[metrics]\nlisten = \"203.0.113.1:9586\"\n[egress]",
            "metrics.listen: 203.0.113.1 is in the enclaves' own",
        ),
    ] {
        let error = error(from, to);
        assert!(error.contains(expected), "{to}: {error}");
    }
    assert!(Config::parse(&LAB.replacen("dnssec = false", "dnssec = true", 1)).is_ok());
    for dnssec in ["dnssec = true", "#"] {
        let aws = LAB.replacen("198.51.100.53", "169.254.169.253", 1).replacen("dnssec = false", dnssec, 1);
        let error = format!("{:#}", Config::parse(&aws).unwrap_err());
        assert!(error.contains("dns.dnssec: true does not work with the forwarder 169.254.169.253"), "{error}");
    }
    let both = LAB.replacen("dnssec = false", "dnssec = true", 1).replacen("\"nxdomain\"", "\"refused\"", 1);
    assert!(format!("{:#}", Config::parse(&both).unwrap_err()).contains("dns.dnssec: true does not work with"));
}

#[test]
fn an_attestation_that_allows_nothing_or_makes_no_sense_is_refused_with_what_is_expected() {
    let paths = "measurements_paths = [\"/etc/wg-server/measurements.json\"]";
    let pcr = |index: &str, value: &str| format!("{paths}\npcrs = {{ {index} = [{value}] }}");
    let (zero, one) = (format!("\"{}\"", "0".repeat(96)), format!("\"{}\"", "1".repeat(96)));
    for (to, expected) in [
        ("measurements_paths = []".to_owned(), "attestation.measurements_paths: empty, so no image is allowed"),
        (format!("pcrs = {{ 3 = [{one}] }}"), "attestation.measurements_paths: empty, so no image is allowed"),
        (
            "measurements_paths = [\"m.json\"]".to_owned(),
            "attestation.measurements_paths: \"m.json\", expected an absolute",
        ),
        (pcr("3", ""), "attestation.pcrs.3: empty, expected at least one value"),
        (pcr("3", &zero), "attestation.pcrs.3: PCR3 of zeros means that nothing was measured"),
        (pcr("5", &one), "attestation.pcrs.5: PCR5 does not identify an enclave, expected PCR0"),
        (pcr("x", &one), "attestation.pcrs.x: \"x\", expected the number of a register like 8"),
        (pcr("300", &one), "attestation.pcrs.300: \"300\", expected the number of a register"),
        (pcr("8", "\"xy\""), "attestation.pcrs.8: \"xy\", expected the 96 hex digits of a SHA-384"),
    ] {
        let error = error(paths, &to);
        assert!(error.contains(expected), "{to}: {error}");
    }
    for lifetime in ["59s", "169h"] {
        let error = error("key_lifetime = \"1h\"", &format!("key_lifetime = \"{lifetime}\""));
        assert!(error.contains("attestation.key_lifetime: expected \"1m\" to \"7d\""), "{lifetime}: {error}");
    }
    assert!(error("key_lifetime = \"1h\"\n", "").contains("missing field `key_lifetime`"));
    let only_pcrs = LAB.replacen(paths, &format!("pcrs = {{ 0 = [{one}] }}"), 1);
    assert!(Config::parse(&only_pcrs).is_ok());
}

#[test]
fn enclaves_are_on_other_hosts_only_if_the_file_says_so() {
    let with = |table: &str| Config::parse(&LAB.replacen("[nat]", &format!("[remote]\n{table}\n[nat]"), 1));
    let sample: String = SAMPLE
        .lines()
        .map(|line| {
            ["# [remote]", "# listen", "# parents"].iter().find_map(|key| line.starts_with(key).then(|| &line[2..]))
        })
        .map(|line| format!("{}\n", line.unwrap_or_default()))
        .collect();
    let remote = with(sample.trim().strip_prefix("[remote]").unwrap()).unwrap().remote.unwrap();
    assert_eq!(remote.listen.to_string(), "192.0.2.10:821");
    assert_eq!(remote.parents, ["192.0.2.0/24".parse().unwrap()]);
    assert_eq!(Config::parse(SAMPLE).unwrap().remote, None);
    let one = with("listen = \"[::]:821\"\nparents = [\"192.0.2.2\"]").unwrap().remote.unwrap();
    assert_eq!(one.parents, ["192.0.2.2/32".parse().unwrap()]);
    for (table, expected) in [
        (
            "listen = \"821\"\nparents = [\"::/0\"]",
            "remote.listen: \"821\", expected an address of this host with a TCP port",
        ),
        ("listen = \"0.0.0.0:0\"\nparents = [\"::/0\"]", "remote.listen: 0 is not a port, expected 1 to 65535"),
        ("listen = \"0.0.0.0:821\"\nparents = []", "remote.parents: empty, expected the networks"),
        (
            "listen = \"0.0.0.0:821\"\nparents = [\"192.0.2.2/24\"]",
            "has bits beyond its prefix, expected \"192.0.2.0/24\"",
        ),
        (
            "listen = \"0.0.0.0:821\"\nparents = [\"parent\"]",
            "remote.parents: \"parent\", expected a network or an address",
        ),
        ("listen = \"0.0.0.0:821\"", "missing field `parents`"),
    ] {
        let error = format!("{:#}", with(table).unwrap_err());
        assert!(error.contains(expected), "{table}: {error}");
    }
}

/// The configuration with these forwards, and not the lab's own.
fn with_forwards(text: &str, forwards: &str) -> String {
    let text = text.replacen("[[nat.forwards]]\nport = 443\nto = \"203.0.113.2:443\"\n", "", 1);
    text.replacen("[nat]", &format!("[nat]\nforwards = [{forwards}]"), 1)
}

#[test]
fn a_forward_sends_a_port_to_an_enclave() {
    let forwards = |text: &str| Config::parse(text).unwrap().nat.forwards;
    assert_eq!(forwards(SAMPLE), []);
    let (before, dns) = SAMPLE.split_once("[dns]").unwrap();
    let (before, commented) = before.split_once("# [[nat.forwards]]\n").unwrap();
    let sample =
        format!("{before}[[nat.forwards]]\n{}\n[dns]{dns}", commented.replace("# port", "port").replace("# to", "to"));
    let [forward] = forwards(&sample)[..] else { panic!("{sample}") };
    assert_eq!(forward, Forward { port: 443, to: "203.0.113.2:443".parse().unwrap() });

    let both = "{ port = 443, to = \"203.0.113.254:8443\" }, { port = 443, to = \"[fd3b:74ac:9d21::fe]:443\" }";
    let both = forwards(&with_forwards(LAB, both));
    assert_eq!(
        both.iter().map(|forward| forward.to.to_string()).collect::<Vec<_>>(),
        ["203.0.113.254:8443", "[fd3b:74ac:9d21::fe]:443"]
    );
}

#[test]
fn a_forward_without_a_valid_target_is_refused_with_what_is_expected() {
    let with = |text: &str, forwards: &str| format!("{:#}", Config::parse(&with_forwards(text, forwards)).unwrap_err());
    for (forwards, expected) in [
        ("{ port = 0, to = \"203.0.113.2:443\" }", "nat.forwards.port: 0 is not a port, expected 1 to 65535"),
        ("{ port = 443, to = \"203.0.113.2:0\" }", "nat.forwards.to: \"203.0.113.2:0\" has port 0, expected 1 to"),
        (
            "{ port = 443, to = \"203.0.113.2\" }",
            "nat.forwards.to: \"203.0.113.2\", expected an enclave's address with",
        ),
        ("{ port = 443, to = \"signer:443\" }", "nat.forwards.to: \"signer:443\", expected an enclave's address with"),
        (
            "{ port = 443, to = \"203.0.113.1:443\" }",
            "nat.forwards.to: 203.0.113.1 is not an enclave's address, expected one of 203.0.113.2 to 203.0.113.254",
        ),
        ("{ port = 443, to = \"198.51.100.2:443\" }", "nat.forwards.to: 198.51.100.2 is not an enclave's address"),
        (
            "{ port = 443, to = \"[fd3b:74ac:9d21::1]:443\" }",
            "is not an enclave's address, expected one of fd3b:74ac:9d21::2 to fd3b:74ac:9d21::fe",
        ),
        (
            "{ port = 443, to = \"203.0.113.2:443\" }, { port = 443, to = \"203.0.113.3:443\" }",
            "nat.forwards.port: 443 is used twice for IPv4, expected each port at most once",
        ),
        (
            "{ port = 8, to = \"[fd3b:74ac:9d21::2]:8\" }, { port = 8, to = \"[fd3b:74ac:9d21::2]:9\" }",
            "nat.forwards.port: 8 is used twice for IPv6",
        ),
        (
            "{ port = 443, to = \"203.0.113.2:443\", protocol = \"udp\" }",
            "unknown field `protocol`, expected `port` or `to`",
        ),
        ("{ port = 443 }", "missing field `to`"),
        ("{ port = 65536, to = \"203.0.113.2:443\" }", "nat.forwards.port: 65536, expected a port such as 443"),
    ] {
        let error = with(LAB, forwards);
        assert!(error.contains(expected), "{forwards}: {error}");
    }

    let ipv6 = "{ port = 443, to = \"[fd3b:74ac:9d21::fe]:443\" }";
    let without = LAB.replacen("ipv6_range", "# ipv6_range", 1);
    assert!(with(&without, ipv6).contains("but enclaves.ipv6_range is not set, expected"));
    let shorter = LAB.replacen("203.0.113.2-203.0.113.254", "203.0.113.2-203.0.113.3", 1);
    let error = with(&shorter, ipv6);
    assert!(error.contains("expected one of fd3b:74ac:9d21::2 to fd3b:74ac:9d21::3"), "no enclave gets it: {error}");

    let error = with(BLIND, "{ port = 821, to = \"203.0.113.2:443\" }");
    assert!(error.contains("nat.forwards.port: parents connect to 821 (remote.listen), expected another"), "{error}");
}

#[test]
fn unusable_addresses_are_refused() {
    for (address, expected) in [
        ("203.0.113.0/24", "its network's own address"),
        ("203.0.113.255/24", "broadcast"),
        ("127.0.0.1/8", "cannot be a gateway's address"),
        ("224.0.0.1/8", "cannot be a gateway's address"),
        ("203.0.113.1/31", "leaves no room"),
        ("203.0.113.1", "expected an address with its network"),
        ("fd3b::5/64", "2 IPv6 addresses, expected at most one"),
    ] {
        let error = error("\"203.0.113.1/24\"", &format!("\"{address}\""));
        assert!(error.starts_with("wireguard.addresses: ") && error.contains(expected), "{address}: {error}");
    }
}

#[test]
fn ranges_have_to_fit_the_networks_and_leave_the_gateway_out() {
    for (range, expected) in [
        ("203.0.113.1-203.0.113.9", "contains 203.0.113.1, the gateway's own address"),
        ("203.0.113.0-203.0.113.0", "contains 203.0.113.0, the network's own address"),
        ("203.0.113.2-203.0.113.255", "contains 203.0.113.255, the network's last address"),
        ("203.0.113.9-203.0.113.2", "ends before it starts"),
        ("203.0.113.9-203.0.114.2", "is not inside one network"),
        ("198.51.100.2-198.51.100.9", "is not inside one network"),
        ("203.0.113.2", "expected first and last address"),
        ("203.0.113.2-fd3b::1", "mixes IP versions"),
    ] {
        let error = error("203.0.113.2-203.0.113.254", range);
        assert!(error.starts_with("enclaves.ipv4_range: ") && error.contains(expected), "{range}: {error}");
    }
    let swapped = error("\"203.0.113.2-203.0.113.254\"", "\"fd3b:74ac:9d21::2-fd3b:74ac:9d21::9\"");
    assert!(
        swapped.contains("ipv4_range: fd3b:74ac:9d21::2 has the other IP version, expected addresses of this one"),
        "{swapped}"
    );
}
