use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

use super::*;

const KEY: &str = "key_sha256 = \"0101010101010101010101010101010101010101010101010101010101010101\"";

fn authority() -> String {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
}

fn good() -> String {
    format!("url = \"https://hub.example:8443\"\nsecret_ids = [\"prod/wallet\"]\nca = \"\"\"\n{}\"\"\"\n", authority())
}

fn read(texts: &[&str]) -> Result<Vec<Home>> {
    check(texts.iter().map(|text| toml::from_str(text).map_err(Into::into)).collect::<Result<_>>()?)
}

/// The error of one table.
fn refused(text: &str) -> String {
    format!("{:#}", read(&[text]).expect_err("accepted"))
}

#[test]
fn a_home_is_a_url_an_authority_and_what_it_may_ask() {
    let [home] = read(&[&good()]).unwrap().try_into().unwrap();
    assert_eq!(home.url.authority(), "hub.example:8443");
    assert!(matches!(&home.identity, HubIdentity::Authorities(roots) if roots.len() == 1));
    assert_eq!((home.connections, home.longest_pause), (2, Duration::from_secs(30)));
    let Caller::Client { name, permission } = home.caller() else { panic!("not a client") };
    assert_eq!(name, "home hub.example:8443");
    assert_eq!(*permission, Permission { secret_ids: ["prod/wallet".to_owned()].into(), ..Permission::default() });
}

#[test]
fn a_key_may_stand_for_the_authority_and_never_both_or_neither() {
    let pinned = format!("url = \"https://hub.example\"\n{KEY}");
    assert!(matches!(read(&[&pinned]).unwrap()[0].identity, HubIdentity::Key([1, ..])));
    let both = format!("{}{KEY}", good());
    assert_eq!(refused(&both), "home[0].key_sha256: beside ca, expected only one of the two");
    let neither = refused("url = \"https://hub.example\"");
    assert_eq!(neither, "home[0].ca: missing, expected the CA of the hub's certificate as PEM, or key_sha256");
    let short = refused(&pinned.replacen("01", "", 1));
    assert!(short.contains("expected 64 hex digits"), "{short}");
}

#[test]
fn what_is_no_url_of_a_hub_is_refused() {
    for url in ["http://hub.example", "hub.example", "https://hub.example/path", "https://hub.example:0"] {
        let error = refused(&format!("url = \"{url}\"\n{KEY}"));
        assert!(error.starts_with("home[0].url: `") && error.contains("expected https://HOST"), "{error}");
    }
}

#[test]
fn unknown_and_mistyped_keys_are_refused() {
    for line in ["urls = 1", "connections = \"2\"", "longest_pause = 5", "name = \"x\""] {
        assert!(read(&[&format!("{line}\n{}", good())]).is_err(), "{line}");
    }
}

#[test]
fn connections_and_pauses_have_bounds() {
    for connections in [0, 9] {
        let error = refused(&format!("connections = {connections}\n{}", good()));
        assert_eq!(error, format!("home[0].connections: {connections}, expected 1 to 8"));
    }
    for pause in ["1ms", "11m"] {
        let error = refused(&format!("longest_pause = \"{pause}\"\n{}", good()));
        assert_eq!(error, "home[0].longest_pause: expected a time from \"1s\" to \"10m\"");
    }
    let hubs: Vec<_> = (0..5).map(|host| format!("url = \"https://10.0.0.{host}\"\nconnections = 8\n{KEY}")).collect();
    let hubs: Vec<_> = hubs.iter().map(String::as_str).collect();
    assert!(read(&hubs[..2]).is_ok());
    let error = |hubs: &[&str]| format!("{:#}", read(hubs).unwrap_err());
    assert_eq!(error(&hubs[..3]), "home: 24 connections of all tables together, expected at most 16");
    assert_eq!(error(&hubs), "home: 5 tables, expected at most 4");
}

#[test]
fn one_hub_has_one_table() {
    let error = format!("{:#}", read(&[&good(), &good()]).unwrap_err());
    assert_eq!(error, "home: https://hub.example:8443 is written twice, expected each url once");
}

#[test]
fn a_home_pays_for_its_own_nonces() {
    let config = "port = 443\nkey_cache_time = \"10m\"\nopen = true\n[policy]\nchain_ids = [1]\nrecipients = \"any\"\n\
        max_value = \"1 ether\"\nmax_fee_per_gas = \"1 gwei\"\nmax_gas = 21000\ncontract_creation = false\n\
        data_selectors = \"any\"\nnonce_reuse = false\n";
    let mut config = toml::from_str::<crate::config::SignerTable>(config).unwrap().check().unwrap();
    assert_eq!(config.payers(), 2);
    config.homes = read(&[&good()]).unwrap();
    assert_eq!(config.payers(), 3);
}

#[test]
fn a_service_s_port_takes_the_place_of_the_signer() {
    let table = |lines: &str| format!("url = \"https://hub.example\"\n{KEY}\n{lines}");
    let [home] = read(&[&table("service = \"hello\"\nport = 8080")]).unwrap().try_into().unwrap();
    let Offer::Service(port) = &home.offer else { panic!("{home:?}") };
    assert_eq!((port.service.as_str(), port.number), ("hello", 8080));
    let Caller::Client { permission, .. } = home.caller() else { panic!("not a client") };
    assert_eq!(*permission, Permission::default());
    for (lines, expected) in [
        ("service = \"hello\"", "home[0].port: missing, expected a port that the service hello listens on"),
        ("port = 80", "home[0].service: missing, expected the name of the service that port is of"),
        ("service = \"hello\"\nport = 0", "home[0].port: 0 is not a port"),
        ("service = \"hello\"\nport = 80\nany_key = true", "home[0].any_key: beside service"),
        ("service = \"hello\"\nport = 80\nsecret_ids = [\"a\"]", "home[0].secret_ids: beside service"),
        (
            "service = \"hello\"\nport = 80\naddresses = [\"0x0101010101010101010101010101010101010101\"]",
            "home[0].addresses: beside service",
        ),
        ("service = \"hello\"\nport = 80\ngenerate_key = true", "home[0].generate_key: beside service"),
        ("service = \"hello\"\nport = 80\n[policy]\nmax_value = \"1 ether\"", "home[0].policy: beside service"),
    ] {
        let error = refused(&table(lines));
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn a_service_pays_for_no_nonces() {
    let service = format!("url = \"https://hub.example\"\n{KEY}\nservice = \"hello\"\nport = 80");
    assert!(read(&[&service]).unwrap()[0].permission().is_none());
}
