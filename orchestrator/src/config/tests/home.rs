//! `[[home]]`, beside the other tables.

use super::{SAMPLE, SIGNER, parse, reach};

/// The sample in config/signer.toml, without its comment signs.
fn sample() -> String {
    let (_, rest) = SIGNER.split_once("# [[home]]\n").unwrap();
    let lines = rest.lines().take_while(|line| line.starts_with("# ")).map(|line| line.trim_start_matches("# "));
    format!("[[home]]\n{}\n", lines.collect::<Vec<_>>().join("\n"))
}

fn error(text: &str) -> String {
    format!("{:#}", parse(text).unwrap_err())
}

#[test]
fn the_sample_is_read_and_its_hub_needs_no_line_of_egress() {
    let config = parse(&format!("{SAMPLE}\n{SIGNER}\n{}", sample())).unwrap();
    let signing = config.signing.as_ref().unwrap();
    assert_eq!(signing.servers(), "  signer calls https://hub.example:8443, known by its key; connections: 2\n");
    assert!(reach(&config, "signer").contains(" 169.254.169.254:80 hub.example:8443 127.0.53.2:53/udp "));
    assert!(!reach(&config, "probe").contains("hub.example"));
    assert_eq!(config.rules.listen, [443], "a hub needs no inbound port");
}

#[test]
fn a_hub_at_the_address_of_another_destination_is_one_destination() {
    let same = sample().replace("hub.example:8443", "169.254.169.254:80");
    let config = parse(&format!("{SAMPLE}\n{SIGNER}\n{same}")).unwrap();
    assert_eq!(reach(&config, "signer").matches("169.254.169.254:80").count(), 1);
}

#[test]
fn a_hub_without_a_signer_is_refused() {
    let error = error(&format!("{SAMPLE}\n{}", sample()));
    assert!(error.starts_with("home: [[home]] needs [signer]"), "{error}");
}

#[test]
fn a_hub_s_secret_that_the_signer_cannot_reach_is_refused() {
    let elsewhere = "arn:aws:secretsmanager:us-east-1:111122223333:secret:x-AbCdEf";
    let home = sample().replace("prod/treasury", elsewhere);
    let error = error(&format!("{SAMPLE}\n{SIGNER}\n{home}"));
    assert!(error.starts_with(&format!("home: https://hub.example:8443: secret_ids: `{elsewhere}`")), "{error}");
}

#[test]
fn an_unknown_key_of_a_hub_is_named_with_its_line() {
    let error = error(&format!("{SAMPLE}\n{SIGNER}\n{}\nname = \"x\"", sample()));
    assert!(error.contains("`name = \"x\"`: unknown field `name`, expected one of `url`, `ca`"), "{error}");
}

const HELLO: &str = "[[services]]\nname = \"hello\"\nprogram = \"hello\"\nlisten = [8080, 8081]\n";

/// The sample's hub, for a service.
fn for_service(name: &str, port: u16) -> String {
    let table = sample();
    let lines = table.lines().filter(|line| ["[[home]]", "url", "key_sha256"].iter().any(|key| line.starts_with(key)));
    format!("{}\nservice = \"{name}\"\nport = {port}\n", lines.collect::<Vec<_>>().join("\n"))
}

#[test]
fn a_hub_for_a_service_lets_the_signer_reach_its_port_and_nothing_else_there() {
    let config = parse(&format!("{SAMPLE}\n{SIGNER}\n{}\n{HELLO}", for_service("hello", 8080))).unwrap();
    let hubs = config.signing.as_ref().unwrap().servers();
    assert_eq!(
        hubs,
        "  signer calls https://hub.example:8443, known by its key; connections: 2; for port 8080 of hello\n"
    );
    let reached = reach(&config, "signer");
    assert!(reached.contains(" hub.example:8443 127.0.0.1:8080 "), "{reached}");
    assert!(!reached.contains("8081"), "{reached}");
    assert!(!reach(&config, "hello").contains("127.0.0.1"), "{}", reach(&config, "hello"));
}

#[test]
fn a_hub_for_a_service_or_a_port_that_is_not_there_is_refused() {
    let with = |home: String| error(&format!("{SAMPLE}\n{SIGNER}\n{home}\n{HELLO}"));
    let other = with(for_service("other", 8080));
    assert_eq!(other, "home[0].service: `other` is no service of this enclave, expected one of hello");
    let closed = with(for_service("hello", 80));
    assert_eq!(closed, "home[0].port: 80 is not in `listen` of the service hello, expected one of 8080, 8081");
    let none = error(&format!("{SAMPLE}\n{SIGNER}\n{}", for_service("hello", 80)));
    assert_eq!(none, "home[0].service: `hello` is no service of this enclave, expected one, and there is none");
}
