//! The program: its verbs and its exit.

#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

const CONFIG: &str = r#"
region = "eu-central-1"
listen = ["127.0.0.1:0"]
[tls]
certificate_path = "kms.crt"
key_path = "kms.key"
[[access_keys]]
id = "AKIATESTONLY"
secret = "TEST ONLY secret"
principal = "arn:aws:iam::111122223333:role/enclave"
[[keys]]
arn = "arn:aws:kms:eu-central-1:111122223333:key/01234567-89ab-cdef-0123-456789abcdef"
policy_path = "policy.json"
material_path = "material"
"#;
const POLICY: &str = r#"{"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*"}]}"#;

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_kms-stand-in"))
}

/// A folder with all files that a configuration names.
fn dir(config: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    for (name, content) in [
        ("kms.toml", config),
        ("policy.json", POLICY),
        ("kms.crt", &certified.cert.pem()),
        ("kms.key", &certified.signing_key.serialize_pem()),
    ] {
        fs::write(dir.path().join(name), content).unwrap();
    }
    dir
}

fn check(dir: &Path) -> Output {
    program().arg("check").arg("--config").arg(dir.join("kms.toml")).output().unwrap()
}

#[test]
fn help_names_the_verbs() {
    let output = program().arg("--help").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && said.contains("run ") && said.contains("check "), "{said}");
}

#[test]
fn check_prints_a_summary_and_changes_nothing() {
    let dir = dir(CONFIG);
    let output = check(dir.path());
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    for part in ["attestation documents: AWS's root", "access key: AKIATESTONLY of arn:aws:iam", "key: arn:aws:kms"] {
        assert!(said.contains(part), "{said}");
    }
    assert!(!said.contains("TEST ONLY"), "{said}");
    assert!(!dir.path().join("material").exists());
}

#[test]
fn check_names_the_file_and_its_error() {
    for (right, wrong, part) in [
        ("region", "regions", "kms.toml: TOML parse error"),
        (
            "\"policy.json\"",
            "\"kms.crt\"",
            "keys[0]: policy_path kms.crt: expected a key policy of the supported subset",
        ),
        ("\"kms.key\"", "\"policy.json\"", "kms.toml: tls: private key"),
        ("\"127.0.0.1:0\"", "", "kms.toml: listen is empty"),
    ] {
        let output = check(dir(&CONFIG.replacen(right, wrong, 1)).path());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(part), "{part}: {said}");
    }
}

#[test]
fn run_prints_its_address_and_exits_on_sigterm() {
    let dir = dir(CONFIG);
    let mut child =
        program().arg("run").arg("--config").arg(dir.path().join("kms.toml")).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let listening = lines.find(|line| line.contains("listening")).unwrap();
    assert!(listening.contains("address=127.0.0.1:"), "{listening}");
    assert!(dir.path().join("material").exists());
    let killed = Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(killed.success());
    assert!(lines.any(|line| line.contains("SIGTERM: stopping")));
    assert!(child.wait().unwrap().success());
}
