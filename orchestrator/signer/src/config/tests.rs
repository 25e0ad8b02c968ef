use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

use super::*;

const POLICY: &str = r#"
[policy]
chain_ids = [1]
recipients = "any"
max_value = "1 ether"
max_fee_per_gas = "200 gwei"
max_gas = 500000
contract_creation = false
data_selectors = "any"
nonce_reuse = false
"#;

fn authority() -> String {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
}

fn good() -> String {
    let head = "port = 443\nkey_cache_time = \"10m\"\n";
    let clients = "[[clients]]\nname = \"pay.example\"\nsecret_ids = [\"prod/wallet\"]\n";
    format!("{head}client_ca = \"\"\"\n{}\"\"\"\n{clients}{POLICY}", authority())
}

fn check(text: &str) -> Result<Config> {
    toml::from_str::<SignerTable>(text)?.check()
}

/// The error of the good table with `from` replaced.
fn refused(from: &str, to: &str) -> String {
    let good = good();
    assert!(good.contains(from), "{from} is not in the table");
    format!("{:#}", check(&good.replacen(from, to, 1)).expect_err("accepted"))
}

#[test]
fn the_good_table_is_read() {
    let config = check(&good()).unwrap();
    let Access::Clients { authorities, permissions } = config.access else { panic!("open") };
    assert_eq!((authorities.len(), permissions.len()), (1, 1));
    assert!(permissions["pay.example"].secret_ids.contains("prod/wallet") && !permissions["pay.example"].generate_key);
}

#[test]
fn a_handshake_has_a_minute_unless_the_table_says_otherwise() {
    let minute = Duration::from_mins(1);
    assert_eq!(check(&good()).unwrap().handshake_timeout, minute);
    let slow = good().replacen("port = 443", "port = 443\nhandshake_timeout = \"2m\"", 1);
    assert_eq!(check(&slow).unwrap().handshake_timeout, 2 * minute);
}

#[test]
fn open_mode_has_to_be_written_out() {
    let open = format!("port = 443\nkey_cache_time = \"10m\"\nopen = true\n{POLICY}");
    assert!(matches!(check(&open).unwrap().access, Access::Open));
    for neither in [open.replace("open = true\n", ""), open.replace("true", "false")] {
        let error = check(&neither).unwrap_err().to_string();
        assert!(error.starts_with("signer.client_ca: missing, expected"), "{error}");
    }
}

#[test]
fn open_mode_beside_clients_is_refused() {
    assert!(refused("port = 443", "port = 443\nopen = true").starts_with("signer.client_ca: beside open = true"));
    let clients = format!("port = 443\nkey_cache_time = \"10m\"\nopen = true\n[[clients]]\nname = \"a\"\n{POLICY}");
    assert!(check(&clients).unwrap_err().to_string().starts_with("signer.clients: beside open = true"));
}

#[test]
fn an_authority_that_is_no_certificate_is_refused() {
    for pem in [
        "",
        "hello",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\nAAAA\n",
    ] {
        let text = format!(
            "port = 443\nkey_cache_time = \"10m\"\nclient_ca = \"\"\"{pem}\"\"\"\n[[clients]]\nname = \"a\"\n{POLICY}"
        );
        let error = format!("{:#}", check(&text).unwrap_err());
        assert!(error.starts_with("signer.client_ca: expected certificates as PEM"), "{error}");
    }
}

#[test]
fn clients_have_distinct_dns_names() {
    let again = "[[clients]]\nname = \"pay.example\"\n[policy]";
    assert!(refused("[policy]", again).starts_with("signer.clients[1].name: `pay.example` is written twice"));
    for name in ["", "Pay.example", "*.example", "pay example"] {
        let error = refused("pay.example", name);
        assert!(error.starts_with(&format!("signer.clients[0].name: `{name}` is not a DNS name, expected")), "{error}");
    }
    let none = "[[clients]]\nname = \"pay.example\"\nsecret_ids = [\"prod/wallet\"]\n";
    assert!(refused(none, "").starts_with("signer.clients: empty"));
}

#[test]
fn a_client_has_any_key_or_a_list() {
    let error = refused("secret_ids", "any_key = true\nsecret_ids");
    assert!(error.starts_with("signer.clients[0].secret_ids: beside any_key = true"), "{error}");
    let error = refused(
        "secret_ids = [\"prod/wallet\"]",
        "any_key = true\naddresses = [\"0x0101010101010101010101010101010101010101\"]",
    );
    assert!(error.starts_with("signer.clients[0].addresses: beside any_key = true"), "{error}");
    let error = refused("secret_ids = [\"prod/wallet\"]", "addresses = [\"0x01\"]");
    assert!(error.starts_with("signer.clients[0].addresses: `0x01`: expected 0x and 40 hex digits"), "{error}");
    assert!(refused("prod/wallet", "").starts_with("signer.clients[0].secret_ids: expected"));
}

#[test]
fn numbers_and_times_have_a_range_and_keys_are_known() {
    assert!(refused("= 443", "= 0").starts_with("signer.port: 0 is not a port"));
    for time in ["0s", "25h"] {
        assert!(refused("10m", time).starts_with("signer.key_cache_time: expected"));
    }
    for time in ["0s", "999ms", "11m"] {
        let error = refused("port = 443", &format!("port = 443\nhandshake_timeout = \"{time}\""));
        assert_eq!(error, "signer.handshake_timeout: expected a time from \"1s\" to \"10m\"");
    }
    assert!(refused("port", "prot").contains("unknown field `prot`"));
    assert!(refused("secret_ids", "secrets").contains("unknown field `secrets`"));
    assert!(refused("[policy]", "[policies]").contains("unknown field `policies`"));
}

#[test]
fn keys_are_named_by_a_secret_or_a_ciphertext_and_perhaps_an_address() {
    let with = |keys: &str| check(&good().replacen("[policy]", &format!("{keys}\n[policy]"), 1));
    let address = "0x2c7536E3605D9C16a7a3D7b1898e529396a65c23";
    let config = with(&format!(
        "[[keys]]\nsecret_id = \"a\"\naddress = \"{address}\"\n[[keys]]\nencrypted_key = \"Y2lw\\naGVy\""
    ))
    .unwrap();
    let names: Vec<_> = config.keys.iter().map(|key| key.name.as_str()).collect();
    assert_eq!(names, ["secret a", "signer.keys[1]"]);
    assert_eq!(config.keys[0].address.unwrap().to_string(), address);
    let many = "[[keys]]\nsecret_id = \"a\"\n".repeat(65);
    for (keys, expected) in [
        ("[[keys]]", "signer.keys[0].secret_id: missing, expected secret_id or encrypted_key"),
        ("[[keys]]\nsecret_id = \"\"", "signer.keys[0].secret_id: empty, expected"),
        ("[[keys]]\nsecret_id = \"a\"\nencrypted_key = \"YQ==\"", "signer.keys[0].encrypted_key: beside secret_id"),
        ("[[keys]]\nencrypted_key = \"a\"", "signer.keys[0].encrypted_key: expected base64 of 1 to 6144 bytes"),
        ("[[keys]]\nencrypted_key = \"\"", "signer.keys[0].encrypted_key: expected base64"),
        (
            "[[keys]]\nsecret_id = \"a\"\naddress = \"0x1\"",
            "signer.keys[0].address: `0x1`: expected 0x and 40 hex digits",
        ),
        (
            "[[keys]]\nsecret_id = \"a\"\n[[keys]]\nsecret_id = \"a\"",
            "signer.keys[1]: the same key as secret a, expected",
        ),
        ("[[keys]]\nsecret_id = \"a\"\nname = \"b\"", "unknown field `name`"),
        (&many, "signer.keys: 65 tables, expected at most 64"),
    ] {
        let error = format!("{:#}", with(keys).unwrap_err());
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_ledger_is_a_bucket_with_its_account_and_a_time() {
    let ledger = "[ledger]\nbucket = \"example-ledger\"\nowner = \"111122223333\"\nretention_years = 10\n";
    let settings = check(&format!("{}{ledger}", good())).unwrap().ledger.unwrap();
    assert_eq!((settings.identity().as_str(), settings.strict), ("111122223333/example-ledger", true));
    assert_eq!(settings.retention, Duration::from_hours(10 * 366 * 24));
    let refused =
        |from: &str, to: &str| format!("{:#}", check(&format!("{}{}", good(), ledger.replace(from, to))).unwrap_err());
    for wrong in ["ab", "Example", "a.b.c", "-abc", "abc-", "a/b", ""] {
        let error = refused("example-ledger", wrong);
        assert!(error.starts_with(&format!("signer.ledger.bucket: `{wrong}`, expected")), "{error}");
    }
    for wrong in ["11112222333", "1111-2222-33", "0x1122223333"] {
        let error = refused("111122223333", wrong);
        assert!(error.starts_with(&format!("signer.ledger.owner: `{wrong}`, expected the 12 digits")), "{error}");
    }
    for wrong in ["0", "101"] {
        let error = refused("= 10\n", &format!("= {wrong}\n"));
        assert!(error.starts_with(&format!("signer.ledger.retention_years: {wrong}, expected 1 to 100")), "{error}");
    }
    let trusting = format!("{ledger}strict = false\n");
    assert!(!check(&format!("{}{trusting}", good())).unwrap().ledger.unwrap().strict);
    let delegates = "nonce_reuse = false\ndelegates = [\"0x63c0c19a282a1B52b07dD5a65b58948A07DAE32B\"]\nany_chain_authorizations = true";
    let both = format!("{}{trusting}", good().replacen("nonce_reuse = false", delegates, 1));
    let error = format!("{:#}", check(&both).unwrap_err());
    assert!(error.starts_with("signer.ledger.strict: false beside any_chain_authorizations"), "{error}");
    check(&both.replace("strict = false", "strict = true")).unwrap();
}
