//! Two enclaves that keep one ledger in S3: one payload for each nonce, whatever happens to them and to the bucket.

use std::time::{Duration, Instant};

use super::shared_lab::{SharedLab, lab_with, restoring};
use lab::{EnclaveId, More, Parent, Variant, Wallet};
use parent_vm::paths::{S3_FAULT_PATH, WEB_CA_PATH};
use serde_json::{Value, json};

const VECTORS: &str = include_str!("../../../../orchestrator/signer/tests/vectors/ethereum-transactions.json");
const SCRIPT: &str = include_str!("ledger.py");
const BUCKET: &str = "lab-ledger";
const TABLES: &str = r#"
[signer.ledger]
bucket = "lab-ledger"
owner = "111122223333"
retention_years = 1

[[signer.policy.windows]]
period = "24h"
max_count = 100000
"#;
const SECRET: &str = "test/ledger";
/// The enclaves in the tunnel, from the parent.
const ADDRESSES: [&str; 2] = ["203.0.113.2", "203.0.113.3"];
const RACES: usize = 200;
const PATIENCE: Duration = Duration::from_secs(60);

/// A request of the published key's first test vector with another nonce and value.
fn request(nonce: u64, value: &str) -> Value {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let mut payload = vectors["transactions"][0]["request"].clone();
    (payload["nonce"], payload["value"]) = (json!(nonce), json!(value));
    json!({"transaction_payload": payload, "secret_id": SECRET})
}

/// A verb of the script on the parent: of the administrator in the lab's internet, of clients beside the enclaves.
fn script(parent: &Parent, verb: &str, arguments: &[&str]) -> Value {
    let place: &[&str] = if verb == "race" { &[] } else { &["ip", "netns", "exec", "internet"] };
    let python = ["env", "PYTHONPATH=/opt/python/moto", "python3", "-c", SCRIPT, WEB_CA_PATH, verb];
    let said = parent.output(&[place, &python, arguments].concat()).unwrap();
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

fn fail(parent: &Parent, faults: Option<&str>) {
    let write = match faults {
        Some(faults) => format!("printf '%s\\n' '{faults}' >{S3_FAULT_PATH}"),
        None => format!("rm -f {S3_FAULT_PATH}"),
    };
    parent.shell(&write).unwrap();
}

fn refusal(wallet: &Wallet, enclave: usize, nonce: u64, value: &str) -> String {
    let url = format!("https://{}", ADDRESSES[enclave]);
    format!("{:#}", wallet.sign(&url, &request(nonce, value)).expect_err("a refusal"))
}

/// Signs; where S3 takes more than two seconds, as it may here, the client repeats the same request.
fn signed(wallet: &Wallet, enclave: usize, nonce: u64, value: &str) -> String {
    let url = format!("https://{}", ADDRESSES[enclave]);
    for _ in 0..5 {
        match wallet.sign(&url, &request(nonce, value)) {
            Ok((transaction, _)) => return transaction,
            Err(error) if format!("{error:#}").contains("ledger_unavailable") => {}
            Err(error) => panic!("{error:#}"),
        }
    }
    panic!("nonce {nonce}: S3 is away")
}

#[test]
fn two_enclaves_with_one_ledger_sign_one_payload_for_each_nonce() {
    let shared = lab_with(1);
    let second = EnclaveId::first(2).last().unwrap();
    let restore = || {
        let parent = shared.lab.parent().unwrap();
        fail(&parent, None);
        shared.lab.enclave(second).stop().unwrap();
        let enclave = shared.lab.enclave(EnclaveId::FIRST);
        enclave.stop().unwrap();
        Variant::end(&shared.lab).unwrap();
        enclave.start(None).unwrap();
        enclave.wait_tunnel().unwrap();
    };
    restoring(|| keep_one_ledger(&shared, second), restore);
}

fn keep_one_ledger(shared: &SharedLab, second: EnclaveId) {
    let parent = shared.lab.parent().unwrap();
    parent.wait_aws().unwrap();
    let name = format!("{BUCKET}.s3.eu-central-1.amazonaws.com");
    let more = More { tables: TABLES, names: &[&name], ..More::default() };
    let variant = Variant::begin(&shared.lab, &more).unwrap();
    let enclaves = [EnclaveId::FIRST, second].map(|id| variant.boot(id).unwrap());
    for enclave in &enclaves {
        // There is no bucket yet.
        enclave.wait_console("ledger: nothing with a nonce or in a window is signed", PATIENCE).unwrap();
        enclave.wait_console("NoSuchBucket", PATIENCE).unwrap();
    }
    let wallet = Wallet::trusting(parent.clone(), variant.eif_path()).unwrap();
    wallet.import(serde_json::from_str::<Value>(VECTORS).unwrap()["private_key"].as_str().unwrap()).unwrap();
    wallet.set_key_for(SECRET, &["purpose=lab", "ledger=111122223333/lab-ledger"]).unwrap();
    wallet.set_key_for("test/no-ledger", &["purpose=lab"]).unwrap();
    let wallet = wallet.in_tunnel();
    let error = refusal(&wallet, 0, 1, "0.01");
    assert!(error.contains("ledger_refused") && error.contains("NoSuchBucket"), "{error}");
    script(&parent, "bucket", &[BUCKET]);
    for enclave in &enclaves {
        enclave.wait_console("ledger: the bucket keeps what is written", PATIENCE).unwrap();
    }

    a_key_without_the_ledger_in_its_context_is_not_opened(&wallet);
    an_administrator_changes_nothing(&parent, &wallet);
    a_ledger_that_is_away_refuses(&parent, &wallet);
    races(&parent);
    let [_, second] = enclaves;
    what_a_killed_enclave_reserved_stays_so(&parent, &wallet, || assert!(second.stop().unwrap()));
}

fn a_key_without_the_ledger_in_its_context_is_not_opened(wallet: &Wallet) {
    let mut request = request(2, "0.01");
    request["secret_id"] = json!("test/no-ledger");
    let error = format!("{:#}", wallet.sign("https://203.0.113.2", &request).expect_err("a refusal"));
    assert!(error.contains("key_refused") && error.contains("InvalidCiphertext"), "{error}");
}

fn races(parent: &Parent) {
    let (first, count) = ("1000", RACES.to_string());
    let body = request(0, "0").to_string();
    let outcomes = script(parent, "race", &[&body, first, &count, ADDRESSES[0], ADDRESSES[1]]);
    let outcomes: Vec<[String; 2]> = serde_json::from_value(outcomes).unwrap();
    assert_eq!(outcomes.len(), RACES);
    for (nonce, outcome) in outcomes.iter().enumerate() {
        let winners: Vec<_> = (0..2).filter(|at| outcome[*at].starts_with("signed ")).collect();
        let [winner] = winners[..] else { panic!("nonce {nonce}: {outcome:?}") };
        let loser = &outcome[1 - winner];
        assert!(loser.contains("policy_refused") && loser.contains("nonce"), "nonce {nonce}: {outcome:?}");
    }
}

fn an_administrator_changes_nothing(parent: &Parent, wallet: &Wallet) {
    let (one, other) = ("0.01", "0.02");
    let transaction = signed(wallet, 0, 3000, one);
    assert_eq!(signed(wallet, 1, 3000, one), transaction, "the same request has the same signature");
    for nonce in [3001, 3002] {
        signed(wallet, 0, nonce, one);
    }
    let records = script(parent, "records", &[BUCKET]);
    let records = records.as_array().unwrap();
    assert!(records.iter().all(|record| record["lock"] == "COMPLIANCE"), "{records:?}");
    let text = |record: &Value, member: &str| record[member].as_str().unwrap().to_owned();
    assert!(records.iter().any(|record| text(record, "name").starts_with("lease/")), "{records:?}");
    let of = |nonce: u64| {
        let is_it = |record: &&Value| text(record, "content").contains(&format!("\"nonce\":{nonce},"));
        let [record] = records.iter().filter(is_it).collect::<Vec<_>>()[..] else { panic!("{nonce}: {records:?}") };
        text(record, "name")
    };
    let name = of(3000);

    // Behind a delete marker.
    script(parent, "hide", &[BUCKET, &name]);
    let error = refusal(wallet, 1, 3000, other);
    assert!(error.contains("nonce_reuse") && error.contains("is spent in the ledger"), "{error}");
    // A later version that nobody with the key has made, and a copy of another nonce's record.
    let cases = [
        (3001, "put", "garbage", "not a record that this key has made"),
        (3002, "copy", &name, "a record of nonce 3000 on chain 4"),
    ];
    for (nonce, verb, what, expected) in cases {
        let name = of(nonce);
        script(parent, verb, &[BUCKET, &name, what]);
        let error = refusal(wallet, 0, nonce, one);
        assert!(error.contains("nonce_reuse") && error.contains(expected) && error.contains(&name), "{error}");
    }
    let tries = script(parent, "shorten", &[BUCKET, &name]);
    assert_eq!(tries.as_array().unwrap().len(), 4, "two versions: {tries}");
    assert!(tries.as_array().unwrap().iter().all(|code| code == "AccessDenied"), "{tries}");
}

fn a_ledger_that_is_away_refuses(parent: &Parent, wallet: &Wallet) {
    for fault in ["PutObject hang", "PutObject slow-down", "ListObjectVersions hang"] {
        fail(parent, Some(fault));
        let start = Instant::now();
        let error = refusal(wallet, 0, 4000, "0.01");
        // Not when S3's answer comes, after a minute.
        assert!(start.elapsed() < Duration::from_secs(40), "{fault}: {:?}", start.elapsed());
        assert!(error.contains("ledger_unavailable"), "{fault}: {error}");
    }
    fail(parent, None);
    signed(wallet, 0, 4000, "0.01");
    for fault in
        ["PutObject lose-answer 1", "PutObject conflict 1", "PutObject slow-down 1", "ListObjectVersions lose-answer 1"]
    {
        fail(parent, Some(fault));
        let nonce = 4001 + u64::try_from(fault.len()).unwrap();
        signed(wallet, 0, nonce, "0.01");
        fail(parent, None);
        let error = refusal(wallet, 1, nonce, "0.02");
        assert!(error.contains("nonce_reuse"), "{fault}: {error}");
    }
}

fn what_a_killed_enclave_reserved_stays_so(parent: &Parent, wallet: &Wallet, end: impl FnOnce()) {
    // It has written its record, and waits for the list.
    fail(parent, Some("ListObjectVersions hang"));
    let error = refusal(wallet, 1, 5000, "0.01");
    assert!(error.contains("ledger_unavailable"), "{error}");
    end();
    fail(parent, None);
    let error = refusal(wallet, 0, 5000, "0.02");
    assert!(error.contains("nonce_reuse"), "{error}");
    signed(wallet, 0, 5000, "0.01");
}
