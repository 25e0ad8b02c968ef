use attestation::test_root::TestRoot;

use super::*;

const POLICY: &str = r#"{"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*"}]}"#;
const ARN: &str = "arn:aws:kms:eu-central-1:111122223333:key/01234567-89ab-cdef-0123-456789abcdef";

fn config() -> String {
    format!(
        r#"
region = "eu-central-1"
listen = ["127.0.0.1:443"]

[tls]
certificate_path = "kms.crt"
key_path = "kms.key"

[[access_keys]]
id = "AKIATESTONLY"
secret = "TEST ONLY secret"
principal = "arn:aws:iam::111122223333:role/enclave"

[[keys]]
arn = "{ARN}"
aliases = ["alias/wallet"]
policy = '''{POLICY}'''
"#
    )
}

/// The error for a configuration in which one part was replaced.
fn refusal(right: &str, wrong: &str) -> String {
    let text = config();
    assert!(text.contains(right), "{right}");
    format!("{:#}", Config::parse(&text.replacen(right, wrong, 1), Path::new("/nowhere")).unwrap_err())
}

#[test]
fn the_example_in_the_documentation_is_one() {
    let example = include_str!("../config.rs").lines().filter_map(|line| line.strip_prefix("//!"));
    let example: Vec<_> =
        example.skip_while(|line| *line != " ```toml").skip(1).take_while(|line| *line != " ```").collect();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("lab-root.pem"), TestRoot::new(std::time::SystemTime::now()).root_pem()).unwrap();
    fs::write(dir.path().join("key-policy.json"), POLICY).unwrap();
    let config = Config::parse(&example.join("\n"), dir.path()).unwrap();
    assert_eq!(config.tls().unwrap().key_path, dir.path().join("kms.key"));
    assert_eq!(config.fault_path, Some(dir.path().join("fault.toml")));
}

#[test]
fn aws_s_root_is_trusted_unless_another_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let config_of = |text: &str| Config::parse(text, dir.path()).unwrap();
    assert!(config_of(&config()).root.is_aws());
    let root = TestRoot::new(std::time::SystemTime::now());
    fs::write(dir.path().join("root.pem"), root.root_pem()).unwrap();
    let other = config_of(&format!("attestation_root_path = \"root.pem\"\n{}", config()));
    assert_eq!(other.root, root.trust_root());
    assert!(other.to_string().contains("attestation documents: NOT AWS's root"), "{other}");
}

#[test]
fn the_summary_contains_no_secret() {
    let config = Config::parse(&config(), Path::new("")).unwrap();
    for text in [config.to_string(), format!("{config:?}")] {
        assert!(text.contains("AKIATESTONLY"), "{text}");
        assert!(!text.contains("TEST ONLY secret"), "{text}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    let access_key =
        "[[access_keys]]\nid = \"AKIATESTONLY\"\nsecret = \"\"\nprincipal = \"arn:aws:iam::111122223333:root\"\n\n";
    let key = format!("[[keys]]\narn = \"{ARN}\"\npolicy = '''{POLICY}'''\n\n[[keys]]\n");
    let same_alias = format!(
        "[[keys]]\narn = \"{}\"\naliases = [\"alias/wallet\"]\npolicy = '''{POLICY}'''\n\n[[keys]]\n",
        ARN.replace("0123-4", "0123-5")
    );
    for (right, wrong, part) in [
        ("region = \"eu-central-1\"", "", "missing field `region`"),
        ("region = \"eu-central-1\"", "region = \"us-east-1\"", "expected one in region \"us-east-1\""),
        ("127.0.0.1:443", "127.0.0.1", "invalid socket address"),
        ("[tls]", "[tls]\nversion = 1", "unknown field `version`"),
        ("listen", "listens", "unknown field `listens`"),
        ("secret =", "secrets =", "unknown field `secrets`"),
        ("role/enclave", "group/enclave", "expected arn:aws:iam::ACCOUNT:role/NAME"),
        ("principal =", "iam_actions = [\"s3:*\"]\nprincipal =", "expected kms:NAME"),
        ("principal =", "expires = \"soon\"\nprincipal =", "expires"),
        ("id = \"AKIATESTONLY\"", "id = \"\"", "access_keys: an empty id"),
        ("[[access_keys]]", &format!("{access_key}[[access_keys]]"), "access_keys: duplicate id AKIATESTONLY"),
        ("key/0", "key/x", "expected a UUID"),
        ("aliases =", "state = \"gone\"\naliases =", "unknown variant `gone`"),
        ("alias/wallet", "wallet", "keys[0]: aliases: \"wallet\", expected alias/NAME"),
        ("alias/wallet", "alias/", "expected alias/NAME"),
        ("[[keys]]", &key, "keys: duplicate UUID 01234567-89ab-cdef-0123-456789abcdef"),
        ("[[keys]]", &same_alias, "keys: duplicate alias alias/wallet"),
        ("policy =", "policy_path = \"a\"\npolicy =", "expected either policy_path or policy"),
        ("\"kms:*\"", "\"s3:*\"", "keys[0]: policy: statement 1: Action: \"s3:*\""),
        ("region =", "attestation_root_path = \"root.pem\"\nregion =", "attestation_root_path: read /nowhere/root.pem"),
    ] {
        let refusal = refusal(right, wrong);
        assert!(refusal.contains(part), "{part}: {refusal}");
    }
    let without = config().replace(&format!("policy = '''{POLICY}'''"), "policy_path = 'policy.json'");
    let refusal = format!("{:#}", Config::parse(&without, Path::new("/nowhere")).unwrap_err());
    assert!(refusal.contains("keys[0]: policy_path: read /nowhere/policy.json"), "{refusal}");
}

#[test]
fn a_configuration_without_keys_or_access_keys_is_refused() {
    let keyless = config().split("[[keys]]").next().unwrap().to_owned() + "[[keys]]\n";
    assert!(format!("{:#}", Config::parse(&keyless, Path::new("")).unwrap_err()).contains("missing field `arn`"));
    let text =
        format!("region = \"eu-central-1\"\naccess_keys = []\n[[keys]]\narn = \"{ARN}\"\npolicy = '''{POLICY}'''");
    let error = format!("{:#}", Config::parse(&text, Path::new("")).unwrap_err());
    assert!(error.contains("access_keys is empty"), "{error}");
    let text = "region = \"eu-central-1\"\nkeys = []\n[[access_keys]]\nid = \"A\"\nsecret = \"\"\n\
                principal = \"arn:aws:iam::111122223333:root\"";
    let error = format!("{:#}", Config::parse(text, Path::new("")).unwrap_err());
    assert!(error.contains("keys is empty"), "{error}");
}

#[test]
fn a_program_needs_an_address_and_a_certificate_and_a_library_does_not() {
    let text = config().replace("listen = [\"127.0.0.1:443\"]", "");
    let text = format!(
        "{}[[access_keys]]{}",
        text.split("[tls]").next().unwrap(),
        text.split_once("[[access_keys]]").unwrap().1
    );
    let config = Config::parse(&text, Path::new("")).unwrap();
    assert!(config.listen().unwrap_err().to_string().contains("listen is empty"));
    assert!(config.tls().unwrap_err().to_string().contains("no [tls]"));
}
