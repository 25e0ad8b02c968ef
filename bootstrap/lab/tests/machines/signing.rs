//! Signatures by an enclave for a client in the lab's internet, with a key that KMS decrypts for its image only.

use std::fs;
use std::sync::MutexGuard;

use super::shared_lab::{SharedLab, lab_with};
use lab::{URL, Wallet};
use serde_json::{Value, json};

/// Signed by eth-account with a published test key.
const VECTORS: &str = include_str!("../../../../orchestrator/signer/tests/vectors/ethereum-transactions.json");

fn vectors() -> Value {
    serde_json::from_str(VECTORS).unwrap()
}

/// The request of the test vector whose name starts with `name`, and the expected signature.
pub(crate) fn vector(name: &str) -> (Value, Value) {
    let vectors = vectors();
    let found = vectors["transactions"]
        .as_array()
        .unwrap()
        .iter()
        .find(|vector| vector["name"].as_str().unwrap().starts_with(name));
    let vector = found.expect("a vector of that name").clone();
    (vector["request"].clone(), vector)
}

/// A lab with a client that accepts its image, and the published key under `secret_id`.
pub(crate) fn client(secret_id: &str) -> (MutexGuard<'static, SharedLab>, Wallet) {
    let shared = lab_with(1);
    let parent = shared.lab.parent().unwrap();
    parent.set_kms_fault(None).unwrap();
    let wallet = Wallet::trusting(parent, &shared.lab.eif_path().unwrap()).unwrap();
    wallet.import(vectors()["private_key"].as_str().unwrap()).unwrap();
    wallet.set_key(secret_id).unwrap();
    (shared, wallet)
}

pub(crate) fn request(payload: &Value, secret_id: &str) -> Value {
    json!({"transaction_payload": payload, "secret_id": secret_id})
}

fn refusal(wallet: &Wallet, request: &Value) -> String {
    format!("{:#}", wallet.sign(URL, request).expect_err("a refusal"))
}

#[test]
fn a_request_of_the_seed_is_signed_as_eth_account_signs_it_and_again_the_same() {
    let (_shared, wallet) = client("test/seed");
    let (payload, signed) = vector("seed README example");
    for _ in 0..2 {
        let (transaction, hash) = wallet.sign(URL, &request(&payload, "test/seed")).unwrap();
        assert_eq!(transaction, signed["transaction_signed"]);
        assert_eq!(hash, signed["transaction_hash"]);
        assert_eq!(wallet.signer_of(&transaction).unwrap(), vectors()["address"]);
    }
}

#[test]
fn what_the_measured_policy_forbids_is_refused_by_the_name_of_its_rule() {
    let (_shared, wallet) = client("test/policy");
    let (payload, _) = vector("seed README example");
    for (key, value, rule) in [
        ("chainId", json!(1), "chain_ids"),
        ("to", json!("0x2c7536E3605D9C16a7a3D7b1898e529396a65c23"), "recipients"),
        ("value", json!("1.000000000000000001"), "max_value"),
        ("maxFeePerGas", json!(200_000_000_001_u64), "max_fee_per_gas"),
        ("gas", json!(500_001), "max_gas"),
        ("data", json!("0xa9059cbb"), "data_selectors"),
    ] {
        let mut payload = payload.clone();
        payload["nonce"] = json!(1000);
        payload[key] = value;
        let error = refusal(&wallet, &request(&payload, "test/policy"));
        assert!(error.contains("policy_refused") && error.contains(rule), "{rule}: {error}");
    }
    // Another transaction for a nonce that is used.
    let mut first = payload.clone();
    first["nonce"] = json!(1001);
    wallet.sign(URL, &request(&first, "test/policy")).unwrap();
    first["value"] = json!("0.02");
    let error = refusal(&wallet, &request(&first, "test/policy"));
    assert!(error.contains("nonce_reuse"), "{error}");
}

#[test]
fn a_key_that_kms_does_not_open_as_it_should_signs_nothing_and_the_answer_says_why() {
    let (shared, wallet) = client("test/faults");
    let parent = shared.lab.parent().unwrap();
    let (mut payload, _) = vector("seed README example");
    for (number, (fault, expected)) in [
        ("plaintext", "not encrypted to this enclave"),
        ("wrong-key-id", "KMS used key"),
        ("truncated-cms", "open KMS's answer"),
        ("wrong-algorithm", "open KMS's answer"),
        ("bad-padding", "open KMS's answer"),
        ("bad-key", "open KMS's answer"),
    ]
    .into_iter()
    .enumerate()
    {
        // A new secret each time: the signer caches decrypted keys.
        let secret_id = format!("test/faults-{number}");
        wallet.set_key(&secret_id).unwrap();
        parent.set_kms_fault(Some(&format!("fault = \"{fault}\"\noperation = \"Decrypt\""))).unwrap();
        payload["nonce"] = json!(2000 + number);
        let error = refusal(&wallet, &request(&payload, &secret_id));
        assert!(error.contains(expected), "{fault}: {error}");
        parent.set_kms_fault(None).unwrap();
        wallet.sign(URL, &request(&payload, &secret_id)).expect("the same request when KMS does right");
    }
}

#[test]
fn throttling_and_broken_servers_are_waited_for() {
    let (shared, wallet) = client("test/patience");
    let parent = shared.lab.parent().unwrap();
    let (mut payload, _) = vector("seed README example");
    for (number, fault) in ["throttling", "internal-error", "hang-up"].into_iter().enumerate() {
        let secret_id = format!("test/patience-{number}");
        wallet.set_key(&secret_id).unwrap();
        parent.set_kms_fault(Some(&format!("fault = \"{fault}\"\noperation = \"Decrypt\"\ntimes = 2"))).unwrap();
        payload["nonce"] = json!(3000 + number);
        wallet.sign(URL, &request(&payload, &secret_id)).expect("the third attempt");
    }
    parent.set_kms_fault(None).unwrap();
}

#[test]
fn a_secret_that_is_not_there_and_what_kms_does_not_know_are_named() {
    let (_shared, wallet) = client("test/there");
    let (mut payload, _) = vector("seed README example");
    payload["nonce"] = json!(4000);
    let error = refusal(&wallet, &request(&payload, "test/not-there"));
    assert!(error.contains("key_not_found"), "{error}");
    let error = refusal(&wallet, &json!({"transaction_payload": payload, "encrypted_key": "AAAA"}));
    assert!(error.contains("key_refused") && error.contains("InvalidCiphertext"), "{error}");
}

#[test]
fn a_ciphertext_of_another_purpose_is_not_opened_wherever_it_comes_from() {
    let (_shared, wallet) = client("test/mine");
    wallet.set_key_for("test/other", &["purpose=other"]).unwrap();
    let (mut payload, _) = vector("seed README example");
    payload["nonce"] = json!(5000);
    let inline = |secret_id| json!({"transaction_payload": payload, "encrypted_key": wallet.key(secret_id).unwrap()});
    for request in [request(&payload, "test/other"), inline("test/other")] {
        let error = refusal(&wallet, &request);
        assert!(error.contains("key_refused") && error.contains("InvalidCiphertext"), "{error}");
    }
    wallet.sign(URL, &inline("test/mine")).expect("the same key, encrypted for this enclave");
}

#[test]
fn credentials_of_a_request_are_used_and_named_if_aws_does_not_take_them() {
    let (_shared, wallet) = client("test/credentials");
    let (mut payload, _) = vector("seed README example");
    payload["nonce"] = json!(6000);
    let mut request = request(&payload, "test/credentials");
    for (credential, code, reason) in [
        // The wallet's role, which may encrypt, and which no enclave has.
        (
            json!({
                "access_key_id": "ASIATESTONLYWALLET00",
                "secret_access_key": "TEST/ONLY/secret/of/the/wallets/role/000",
                "token": "TEST/ONLY/session/token/of/the/wallets/role",
            }),
            "key_refused",
            "AccessDenied",
        ),
        (
            json!({
                "access_key_id": "ASIANOBODYKNOWSTHIS0",
                "secret_access_key": "TEST/ONLY/secret/of/nobody/at/all/0000000",
                "token": "TEST/ONLY/session/token/of/nobody",
            }),
            "credential_refused",
            "UnrecognizedClient",
        ),
    ] {
        request["credential"] = credential;
        let error = refusal(&wallet, &request);
        assert!(error.contains(code) && error.contains(reason), "{error}");
        assert!(!error.contains("secret/of/the"), "a secret in {error}");
    }
}

#[test]
fn a_key_that_was_opened_signs_while_kms_is_away() {
    let (shared, wallet) = client("test/kept");
    let parent = shared.lab.parent().unwrap();
    let (mut payload, _) = vector("seed README example");
    payload["nonce"] = json!(7000);
    wallet.sign(URL, &request(&payload, "test/kept")).unwrap();
    parent.set_kms_fault(Some("fault = \"internal-error\"")).unwrap();
    payload["nonce"] = json!(7001);
    wallet.sign(URL, &request(&payload, "test/kept")).expect("the kept key");
    parent.set_kms_fault(None).unwrap();
}

#[test]
fn a_key_that_is_born_in_the_enclave_signs_and_leaves_it_only_encrypted() {
    let (_shared, wallet) = client("test/imported");
    let address = wallet.generate_key(URL, "test/born").unwrap();
    let (payload, _) = vector("seed README example");
    let (transaction, _) = wallet.sign(URL, &request(&payload, "test/born")).unwrap();
    assert_eq!(wallet.signer_of(&transaction).unwrap(), address);
}

#[test]
fn an_enclave_of_another_image_than_the_client_expects_is_asked_nothing() {
    let (shared, _trusting) = client("test/expected");
    let other = shared.lab.dir().join("other");
    fs::create_dir_all(&other).unwrap();
    let measurements = fs::read_to_string(shared.lab.eif_path().unwrap().with_file_name("measurements.json")).unwrap();
    let (before, pcr0) = measurements.split_once("\"PCR0\": \"").unwrap();
    let changed = if pcr0.starts_with('0') { '1' } else { '0' };
    fs::write(other.join("measurements.json"), format!("{before}\"PCR0\": \"{changed}{}", &pcr0[1..])).unwrap();
    let stranger = Wallet::trusting(shared.lab.parent().unwrap(), &other.join("enclave.eif")).unwrap();
    let (payload, _) = vector("seed README example");
    for error in
        [stranger.verify(URL).unwrap_err(), stranger.sign(URL, &request(&payload, "test/expected")).unwrap_err()]
    {
        assert!(format!("{error:#}").contains("PCR0"), "{error:#}");
    }
}
