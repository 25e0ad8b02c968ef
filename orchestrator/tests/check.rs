//! The program on the build host, as an operator runs it on the samples.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic fails the test")]

use std::fs;
use std::process::{Command, Output};

use tempfile::TempDir;

const CONFIG: &str =
    concat!(include_str!("../../config/enclave/enclave.toml"), "\n", include_str!("../../config/signer.toml"));
const REQUEST: &str = r#"{"transaction_payload": {"value": 0.01, "to": "0xa5D3241A1591061F2a4bB69CA0215F66520E67cf", "nonce": 0,
    "type": 2, "chainId": 1, "gas": 21000, "maxFeePerGas": 100000000000, "maxPriorityFeePerGas": 3000000000},
    "secret_id": "prod/hot-wallet"}"#;

/// A folder with a configuration and a request.
struct Host(TempDir);

impl Host {
    fn new(config: &str, request: &str) -> Self {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("enclave.toml"), config).unwrap();
        fs::write(dir.path().join("request.json"), request).unwrap();
        Self(dir)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orchestrator"));
        command.current_dir(self.0.path()).args(["--check", "enclave.toml"]).args(arguments).output().unwrap()
    }

    /// The code, and what was written to both outputs.
    fn explain(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.run(&[&["--explain", "request.json"], arguments].concat());
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(text).unwrap())
    }
}

#[test]
fn the_samples_are_good() {
    let output = Host::new(CONFIG, REQUEST).run(&[]);
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success() && text.starts_with("enclave.toml: good; nonces: 1 share"), "{text}");
}

#[test]
fn windows_are_listed_for_a_reviewer_of_the_image() {
    let window = "[[signer.policy.windows]]\nperiod = \"24h\"\nmax_value = \"10 ether\"\n[kms]";
    let client =
        "generate_key = false\n[[signer.clients.policy.windows]]\nperiod = \"1h\"\nmax_count = 5\n[signer.policy]";
    let config = CONFIG.replacen("\n[kms]", &format!("\n{window}"), 1);
    let (before, after) = config.split_once("generate_key = false").unwrap();
    let (_, after) = after.split_once("[signer.policy]").unwrap();
    let config = format!("{before}{client}{after}");
    let output = Host::new(&config, REQUEST).run(&[]);
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    for line in [
        "  signer signs at most 10 ether in 1day on each chain for each key; counted since its start",
        "  signer signs at most 5 signatures in 1h on each chain for payments.example, for all its keys together; counted since its start",
    ] {
        assert!(text.lines().any(|has| has == line), "{line} is not in\n{text}");
    }
    let ledger = "[signer.ledger]\nbucket = \"example-ledger\"\nowner = \"111122223333\"\nretention_years = 1\n[kms]";
    let output = Host::new(&config.replacen("\n[kms]", &format!("\n{ledger}"), 1), REQUEST).run(&[]);
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    let line = "10 ether in 1day on each chain for each key; counted in the ledger, for all its enclaves\n";
    assert!(text.contains(line), "{text}");
}

#[test]
fn a_request_that_would_be_signed_ends_with_0_and_one_that_is_refused_with_1() {
    let (code, text) = Host::new(CONFIG, REQUEST).explain(&[]);
    assert!(code == 0 && text.ends_with("\nwould be signed\n"), "{code}: {text}");
    let host = Host::new(CONFIG, &REQUEST.replace("0.01", "1.6"));
    let (code, text) = host.explain(&["--client", "payments.example"]);
    let refused = "refused: policy rule max_value: 1600000000000000000 wei, at most 1500000000000000000 wei\n";
    assert!(code == 1 && text.ends_with(refused), "{code}: {text}");
    let (code, text) = host.explain(&["--json", "--key", "0x2c7536E3605D9C16a7a3D7b1898e529396a65c23"]);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, json["would_be_signed"].as_bool()), (1, Some(false)));
}

#[test]
fn what_cannot_be_judged_ends_with_2_and_says_why() {
    let host = Host::new(CONFIG, REQUEST);
    let broken = Host::new(CONFIG, "{}");
    let unsigned = Host::new(include_str!("../../config/enclave/enclave.toml"), REQUEST);
    for (host, arguments, expected) in [
        (&host, &["--client", "x"][..], "request.json: client `x` is not configured, expected one of payments.example"),
        (&host, &["--key", "0x01"], "--key `0x01`: expected 0x and 40 hex digits"),
        (&broken, &[], "request.json: the request: transaction_payload: missing"),
        (&unsigned, &[], "enclave.toml: there is no [signer]"),
    ] {
        let (code, text) = host.explain(arguments);
        assert!(code == 2 && text.starts_with(expected), "{arguments:?}: {code}: {text}");
    }
    let (code, text) = host.explain(&["--explain", "none.json"]);
    assert!(code == 2 && text.contains("cannot be used multiple times"), "{code}: {text}");
}
