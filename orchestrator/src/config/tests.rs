use super::*;

mod home;
mod ledger;
mod rpc;

const GOOD: &str = r#"
[tunnel]
networks = ["203.0.113.0/24", "fd3b:74ac:9d21::/64"]
gateways = ["203.0.113.1", "fd3b:74ac:9d21::1"]
mtu = 15360
default_route_mtu = 1420
persistent_keepalive = "15s"
[dns]
servers = ["203.0.113.1"]
[probe]
name = "aws.com"
interval = "60s"
[[services]]
name = "hello"
program = "hello"
listen = [7007]
"#;

fn parse(text: &str) -> Result<Config> {
    Config::parse(text, Path::new("/nowhere"))
}

/// The error of the good file with `from` replaced.
fn refused(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from} is not in the file");
    match parse(&GOOD.replacen(from, to, 1)) {
        Ok(config) => panic!("accepted as {config:?}"),
        Err(error) => {
            let line = format!("{error:#}");
            assert!(!line.contains('\n'), "{line} is more than a line");
            line
        }
    }
}

#[test]
fn the_good_file_is_read() {
    let config = parse(GOOD).unwrap();
    assert_eq!(
        config.tunnel.gateways().map(|gateway| gateway.to_string()).collect::<Vec<_>>(),
        ["203.0.113.1", "fd3b:74ac:9d21::1"]
    );
    assert_eq!(config.tunnel.mtu, 15_360);
    assert_eq!(config.probe.interval, Duration::from_mins(1));
    assert_eq!(config.services[0].listen, [7007]);
}

#[test]
fn the_files_in_the_repository_are_read() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let services = |path: &str| Config::load(&root.join(path)).unwrap().services;
    assert_eq!(services("config/enclave/enclave.toml"), []);
    assert_eq!(services("bootstrap/lab/config/enclave/enclave.toml")[0].name, "self-test");
    let blind = Config::load(&root.join("bootstrap/lab/config/blind/enclave/enclave.toml")).unwrap();
    assert!(blind.tunnel.gateway_key.is_some());
}

#[test]
fn the_console_s_lines_go_to_the_parent_unless_the_file_says_no() {
    let to_parent = |table: &str| parse(&format!("{GOOD}{table}")).map(|config| config.logs.to_parent);
    assert!(to_parent("").unwrap() && to_parent("[logs]\nto_parent = true\n").unwrap());
    assert!(!to_parent("[logs]\nto_parent = false\n").unwrap());
    let blind =
        GOOD.replace("mtu = 15360", "mtu = 15360\ngateway_key = \"2qHzCH9mm9HBHNMUHGVZ5ZiZE7QBVtLVdJFz0yPtlXI=\"");
    assert!(!parse(&blind).unwrap().logs.to_parent);
    assert!(parse(&format!("{blind}[logs]\nto_parent = true\n")).unwrap().logs.to_parent);
    let error = to_parent("[logs]\nto_parent = \"no\"\n").unwrap_err().to_string();
    assert!(error.contains("`to_parent = \"no\"`: invalid type: string \"no\", expected a boolean"), "{error}");
    let error = to_parent("[logs]\n").unwrap_err().to_string();
    assert!(error.contains("missing field `to_parent`"), "{error}");
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_what_is_known() {
    let error = refused("mtu = 15360", "mtuu = 15360");
    assert!(error.starts_with("line 5: `mtuu = 15360`: unknown field `mtuu`, expected one of `networks`"), "{error}");
    let error = refused("[dns]", "[dnss]");
    assert!(error.contains("unknown field `dnss`"), "{error}");
}

#[test]
fn a_mistyped_value_is_named_with_its_line() {
    let error = refused("mtu = 15360", "mtu = \"15360\"");
    assert!(error.starts_with("line 5: `mtu = \"15360\"`: invalid type: string"), "{error}");
    let error = refused("\"203.0.113.0/24\"", "\"203.0.113.0/33\"");
    assert!(error.starts_with("line 3: "), "{error}");
    let error = refused("\"15s\"", "15");
    assert!(error.starts_with("line 7: "), "{error}");
}

#[test]
fn a_missing_key_is_named() {
    let error = refused("default_route_mtu = 1420\n", "");
    assert!(error.contains("missing field `default_route_mtu`"), "{error}");
}

#[test]
fn networks_that_overlap_are_refused() {
    let error = refused("\"fd3b:74ac:9d21::/64\"", "\"203.0.113.128/25\"");
    assert_eq!(error, "tunnel.networks: 203.0.113.0/24 and 203.0.113.128/25 overlap, expected disjoint networks");
}

#[test]
fn a_network_with_host_bits_is_refused_with_the_right_one() {
    let error = refused("203.0.113.0/24", "203.0.113.7/24");
    assert_eq!(error, "tunnel.networks: 203.0.113.7/24 has host bits set, expected 203.0.113.0/24");
}

#[test]
fn a_network_that_no_host_can_be_in_is_refused() {
    for (network, reason) in [
        ("127.0.0.0/8", "is a loopback address"),
        ("224.0.0.0/8", "is a multicast address"),
        ("0.0.0.0/8", "is the unspecified address"),
        ("169.254.0.0/16", "is a link-local address"),
        ("250.0.0.0/8", "is a reserved address"),
        ("203.0.113.0/31", "has no room"),
    ] {
        let error = refused("203.0.113.0/24", network);
        assert!(error.contains(reason) && error.starts_with("tunnel.networks: "), "{network}: {error}");
    }
    assert!(refused("fd3b:74ac:9d21::/64", "ff02::/64").contains("is a multicast address"));
}

#[test]
fn a_gateway_outside_of_its_network_is_refused() {
    let error = refused("\"203.0.113.1\", ", "\"203.0.114.1\", ");
    assert!(
        error.starts_with("tunnel.gateways: 203.0.114.1 is in none of tunnel.networks (203.0.113.0/24, "),
        "{error}"
    );
}

#[test]
fn each_network_has_one_gateway_that_is_a_host() {
    assert!(refused("\"203.0.113.1\", ", "").starts_with("tunnel.gateways: 1 addresses for 2 networks"));
    assert!(refused("\"fd3b:74ac:9d21::1\"", "\"203.0.113.9\"").contains("are both in 203.0.113.0/24"));
    assert!(refused("\"203.0.113.1\", ", "\"203.0.113.255\", ").contains("is not a host address in"));
    assert!(refused("\"203.0.113.1\", ", "\"127.0.0.1\", ").contains("is a loopback address"));
    assert!(refused("\"fd3b:74ac:9d21::1\"", "\"fd3b:74ac:9d21::\"").contains("is not a host address in"));
}

#[test]
fn an_mtu_out_of_range_is_refused_with_the_range() {
    assert_eq!(refused("= 15360", "= 15361"), "tunnel.mtu: 15361 is out of range, expected 1280 to 15360");
    assert!(refused("= 15360", "= 1279").starts_with("tunnel.mtu: 1279 is out of range"));
    assert!(refused("= 1420", "= 15361").starts_with("tunnel.default_route_mtu: 15361 is out of range"));
    assert!(refused("= 15360", "= 1400").starts_with("tunnel.default_route_mtu: 1420 is out of range"));
}

#[test]
fn times_names_ports_and_servers_out_of_range_are_refused_by_key() {
    assert!(refused("\"15s\"", "\"0s\"").starts_with("tunnel.persistent_keepalive: "));
    assert!(refused("\"15s\"", "\"1500ms\"").starts_with("tunnel.persistent_keepalive: "));
    assert!(refused("\"60s\"", "\"10ms\"").starts_with("probe.interval: "));
    assert!(refused("aws.com", "aws..com").starts_with("probe.name: "));
    assert!(refused("aws.com", "-aws.com").starts_with("probe.name: "));
    assert!(refused("[7007]", "[0]").starts_with("services: hello: listen: "));
    assert!(refused("[7007]", "[53]").contains("services: hello: listen: port 53 is used by resolver"));
    assert!(refused("servers = [\"203.0.113.1\"]", "servers = []").starts_with("dns.servers: 0 addresses"));
    assert!(refused("servers = [\"203.0.113.1\"]", "servers = [\"127.0.0.53\"]").contains("is a loopback address"));
    assert!(refused("servers = [\"203.0.113.1\"]", "servers = [\"0.0.0.0\"]").contains("is the unspecified address"));
}

#[test]
fn a_pinned_gateway_is_a_wireguard_public_key() {
    let pinned = |key: &str| format!("mtu = 15360\ngateway_key = \"{key}\"");
    let key = PublicKey([7; 32]);
    let config = parse(&GOOD.replacen("mtu = 15360", &pinned(&key.to_string()), 1)).unwrap();
    assert_eq!(config.tunnel.gateway_key, Some(key));
    assert_eq!(parse(GOOD).unwrap().tunnel.gateway_key, None);
    for wrong in ["", "BwcH", &PublicKey([0; 32]).to_string()] {
        let error = refused("mtu = 15360", &pinned(wrong));
        assert!(error.starts_with(&format!("tunnel.gateway_key: `{wrong}` is not a WireGuard public key")), "{error}");
    }
}

#[test]
fn the_digest_is_that_of_the_whole_file() {
    let changed = format!("{GOOD}# a comment\n");
    assert_ne!(parse(GOOD).unwrap().digest, parse(&changed).unwrap().digest);
}

const SAMPLE: &str = include_str!("../../../config/enclave/enclave.toml");
const SIGNER: &str = include_str!("../../../config/signer.toml");

fn signing(from: &str, to: &str) -> Result<Config> {
    assert!(SIGNER.contains(from), "{from} is not in the file");
    parse(&format!("{SAMPLE}\n{}", SIGNER.replacen(from, to, 1)))
}

#[test]
fn the_tables_of_a_signer_are_read_behind_those_of_the_enclave() {
    let signing = signing("", "").unwrap().signing.unwrap();
    assert_eq!(signing.service.port, 443);
    assert_eq!(signing.kms.key.region(), "eu-central-1");
    assert!(signing.kms.roots.are_amazons());
    assert!(parse(SAMPLE).unwrap().signing.is_none());
}

#[test]
fn the_shares_of_the_nonce_memory_are_those_of_the_configured_clients() {
    let memory = |from: &str, to: &str| signing(from, to).unwrap().signing.unwrap().nonce_memory();
    let name = "name = \"payments.example\"";
    let others: String =
        (0..26).map(|n| format!("name = \"c{n}.example\"\nsecret_ids = [\"s\"]\n[[signer.clients]]\n")).collect();
    assert_eq!(
        memory(name, &format!("{others}{name}")),
        "nonces: 27 shares of 4854 accounts on a chain, and 131086 more in common"
    );
    assert!(memory("", "").starts_with("nonces: 1 share of 131072 accounts"), "{}", memory("", ""));
}

#[test]
fn a_signer_without_a_key_and_a_key_without_a_signer_are_refused() {
    let (signer, kms) = SIGNER.split_once("[kms]").unwrap();
    let error = |text: &str| format!("{:#}", parse(&format!("{SAMPLE}\n{text}")).unwrap_err());
    assert!(error(signer).contains("kms: missing, expected [kms] with the key_arn"), "{}", error(signer));
    let kms = format!("[kms]{kms}");
    assert!(error(&kms).contains("kms: [kms] needs [signer]"), "{}", error(&kms));
    assert!(error("[imds]").contains("imds: [imds] needs [signer]"), "{}", error("[imds]"));
}

#[test]
fn every_key_of_a_signer_that_cannot_be_used_is_named() {
    for (from, to, expected) in [
        ("port = 443", "port = 0", "signer.port: 0 is not a port"),
        ("port = 443", "prot = 443", "unknown field `prot`"),
        ("key_arn = \"arn:aws:kms", "key_arn = \"arn:aws:s3", "kms.key_arn"),
        ("purpose = \"ethereum-signer\"", "", "kms.encryption_context: is empty"),
        (
            "\"prod/hot-wallet\"",
            "\"prod/hot-wallet\", \"arn:aws:secretsmanager:us-east-1:111122223333:secret:x-AbCdEf\"",
            "signer.clients: payments.example: secret_ids: `arn:aws:secretsmanager:us-east-1:111122223333:secret:x-AbCdEf`: the secret is \
             in us-east-1, and this enclave asks Secrets Manager in eu-central-1",
        ),
        ("max_gas = 500000", "", "signer.policy.max_gas"),
        ("attempt_timeout = \"5s\"", "roots_path = \"none.pem\"", "kms.roots_path: /nowhere/none.pem"),
    ] {
        let error = format!("{:#}", signing(from, to).unwrap_err());
        assert!(error.contains(expected), "{to}: {error}");
    }
}

/// Where a process may connect.
fn reach(config: &Config, name: &str) -> String {
    let process = config.rules.processes.iter().find(|process| process.name == name).unwrap();
    process.destinations.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

#[test]
fn what_the_other_tables_say_needs_no_line_of_egress() {
    let config = signing("", "").unwrap();
    assert_eq!(
        reach(&config, "probe"),
        "203.0.113.1:ping [fd3b:74ac:9d21::1]:ping aws.com:ping 127.0.53.1:53/udp 127.0.53.1:53"
    );
    assert_eq!(
        reach(&config, "signer"),
        "kms.eu-central-1.amazonaws.com:443 secretsmanager.eu-central-1.amazonaws.com:443 169.254.169.254:80 \
         127.0.53.2:53/udp 127.0.53.2:53"
    );
    assert_eq!(reach(&config, "resolver"), "203.0.113.1:53/udp 203.0.113.1:53");
    assert_eq!(config.rules.listen, [443]);
    let elsewhere = signing("key_arn", "endpoint = \"https://192.0.2.7:8443\"\nkey_arn").unwrap();
    assert!(reach(&elsewhere, "signer").starts_with("192.0.2.7:8443 "), "{}", reach(&elsewhere, "signer"));
    assert_eq!(reach(&parse(GOOD).unwrap(), "hello"), "");
    assert_eq!(parse(GOOD).unwrap().rules.listen, [7007]);
}

#[test]
fn a_list_adds_to_what_is_implied_and_a_name_brings_the_resolver() {
    let text = |list: &str| format!("{GOOD}[egress]\nhello = [{list}]");
    let with = |list: &str| reach(&parse(&text(list)).unwrap(), "hello");
    assert_eq!(with("\"10.0.0.0/8:5432\""), "10.0.0.0/8:5432");
    assert_eq!(with("\"Example.com:443\""), "example.com:443 127.0.53.2:53/udp 127.0.53.2:53");
    let error = |list: &str| format!("{:#}", parse(&text(list)).unwrap_err());
    assert_eq!(
        error("\"10.0.0.1/8:5432\""),
        "egress.hello: `10.0.0.1/8:5432`: 10.0.0.1/8 has host bits set, expected 10.0.0.0/8"
    );
    assert!(error("\"192.0.2.1:1\", \"192.0.2.1:1/tcp\"").contains("`192.0.2.1:1` is listed twice"));
    assert!(error(&"\"192.0.2.1:1\",".repeat(33)).contains("egress.hello: 33 destinations, expected at most 32"));
    let other = format!("{GOOD}[egress]\nhallo = []");
    assert_eq!(
        format!("{:#}", parse(&other).unwrap_err()),
        "egress: `hallo` is no process of this enclave, expected one of probe, hello"
    );
}

#[test]
fn a_process_may_look_up_the_names_of_its_destinations_alone() {
    let with = |list: &str| parse(&format!("{GOOD}[egress]\nhello = [{list}]")).unwrap();
    let names = |config: &Config, name: &str| {
        let own = config.lookups.iter().find(|lookups| lookups.process == name);
        own.map(|lookups| lookups.names.iter().cloned().collect::<Vec<_>>().join(" "))
    };
    let config = with("\"b.example:443\", \"a.example:443\", \"a.example:80\", \"10.0.0.0/8:80\"");
    assert_eq!(names(&config, "hello").as_deref(), Some("a.example b.example"));
    assert_eq!(names(&config, "probe").as_deref(), Some("aws.com"));
    assert_eq!(config.name_servers_of("hello"), [IpAddr::from([127, 0, 53, 2])]);
    let config = with("\"10.0.0.0/8:80\"");
    assert_eq!((names(&config, "hello"), config.name_servers_of("hello")), (None, vec![]));
    let config = with("\"a.example:443\", \"anywhere\"");
    assert_eq!((names(&config, "hello"), config.name_servers_of("hello")), (None, config.name_servers.clone()));
}

/// A table of the samples in config/signer.toml, without its comment signs.
fn sample(head: &str) -> String {
    let (_, rest) = SIGNER.split_once(&format!("# {head}\n")).unwrap();
    let lines = rest.lines().take_while(|line| line.starts_with("# ")).map(|line| line.trim_start_matches("# "));
    format!("{head}\n{}\n", lines.collect::<Vec<_>>().join("\n"))
}
