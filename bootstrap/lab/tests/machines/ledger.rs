//! Two enclaves that keep one ledger in S3: one payload for each nonce, whatever happens to them and to the bucket.

use std::time::{Duration, Instant};

use super::shared_lab::{SharedLab, lab_with, restoring, wait};
use super::shared_ledger::{ADDRESSES, SharedLedger, end_variant};
use lab::{EnclaveId, Parent, Wallet};
use parent_vm::paths::S3_FAULT_PATH;
use serde_json::{Value, json};

const LEDGER: SharedLedger = SharedLedger { bucket: "lab-ledger", secret: "test/ledger" };
/// The published key's.
const KEY_ADDRESS: &str = "0x2c7536E3605D9C16a7a3D7b1898e529396a65c23";
/// `orchestrator/tests/fleet` has five times as many, natively.
const RACES: usize = 100;
const PATIENCE: Duration = Duration::from_secs(60);

fn fail(parent: &Parent, faults: Option<&str>) {
    let write = match faults {
        Some(faults) => format!("printf '%s\\n' '{faults}' >{S3_FAULT_PATH}"),
        None => format!("rm -f {S3_FAULT_PATH}"),
    };
    parent.shell(&write).unwrap();
}

#[test]
fn two_enclaves_with_one_ledger_sign_one_payload_for_each_nonce() {
    let shared = lab_with(1);
    let restore = || {
        fail(&shared.lab.parent().unwrap(), None);
        end_variant(&shared, 2);
    };
    restoring(|| keep_one_ledger(&shared), restore);
}

fn keep_one_ledger(shared: &SharedLab) {
    let parent = shared.lab.parent().unwrap();
    let variant = LEDGER.variant(shared, &LEDGER.tables(100_000));
    let enclaves = [EnclaveId::FIRST, EnclaveId::SECOND].map(|id| variant.boot(id).unwrap());
    for enclave in &enclaves {
        // There is no bucket yet.
        enclave.wait_console("ledger: nothing with a nonce or in a window is signed", PATIENCE).unwrap();
        enclave.wait_console("NoSuchBucket", PATIENCE).unwrap();
    }
    let wallet = LEDGER.wallet(&variant);
    wallet.set_key_for("test/no-ledger", &["purpose=lab"]).unwrap();
    let operator = wallet.clone();
    let wallet = wallet.in_tunnel();
    let error = LEDGER.refusal(&wallet, 0, 1, "0.01");
    assert!(error.contains("ledger_refused") && error.contains("NoSuchBucket"), "{error}");
    LEDGER.administrator(&parent, "bucket", &[]);
    for enclave in &enclaves {
        enclave.wait_console("ledger: the bucket keeps what is written", PATIENCE).unwrap();
    }

    a_key_without_the_ledger_in_its_context_is_not_opened_until_it_adopts_it(&operator, &wallet);
    an_administrator_changes_nothing(&parent, &wallet);
    a_ledger_that_is_away_refuses(&parent, &wallet);
    races(&parent);
    let [_, second] = enclaves;
    what_a_killed_enclave_reserved_stays_so(&parent, &wallet, || assert!(second.stop().unwrap()));
}

fn a_key_without_the_ledger_in_its_context_is_not_opened_until_it_adopts_it(operator: &Wallet, wallet: &Wallet) {
    let transaction = LEDGER.signed(wallet, 0, 2, "0.01");
    let mut request = LEDGER.request(2, "0.01");
    request["secret_id"] = json!("test/no-ledger");
    let error = format!("{:#}", wallet.sign("https://203.0.113.3", &request).expect_err("a refusal"));
    assert!(error.contains("key_refused") && error.contains("InvalidCiphertext"), "{error}");
    let said = operator.adopt_ledger("test/no-ledger", KEY_ADDRESS, "111122223333/lab-ledger").unwrap();
    assert!(said.contains("next: put the key policy again without its --adopter"), "{said}");
    let adopted = || wallet.sign("https://203.0.113.3", &request).ok().map(|(transaction, _)| transaction);
    let mut signed = None;
    // Until the enclave asks for the key again.
    wait("the key is opened", PATIENCE, || {
        signed = adopted();
        signed.is_some()
    });
    assert_eq!(signed, Some(transaction), "the same key");
}

fn races(parent: &Parent) {
    let (first, count) = ("1000", RACES.to_string());
    let said = LEDGER.clients(parent, "race", &[first, &count, ADDRESSES[0], ADDRESSES[1]]).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let outcomes: Vec<[String; 2]> = serde_json::from_slice(&said.stdout).unwrap();
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
    let transaction = LEDGER.signed(wallet, 0, 3000, one);
    assert_eq!(LEDGER.signed(wallet, 1, 3000, one), transaction, "the same request has the same signature");
    for nonce in [3001, 3002] {
        LEDGER.signed(wallet, 0, nonce, one);
    }
    let records = LEDGER.administrator(parent, "records", &[]);
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
    LEDGER.administrator(parent, "hide", &[&name]);
    let error = LEDGER.refusal(wallet, 1, 3000, other);
    assert!(error.contains("nonce_reuse") && error.contains("is spent in the ledger"), "{error}");
    // A later version that nobody with the key has made, and a copy of another nonce's record.
    let cases = [
        (3001, "put", "garbage", "not a record that this key has made"),
        (3002, "copy", &name, "a record of nonce 3000 on chain 4"),
    ];
    for (nonce, verb, what, expected) in cases {
        let name = of(nonce);
        LEDGER.administrator(parent, verb, &[&name, what]);
        let error = LEDGER.refusal(wallet, 0, nonce, one);
        assert!(error.contains("nonce_reuse") && error.contains(expected) && error.contains(&name), "{error}");
    }
    let tries = LEDGER.administrator(parent, "shorten", &[&name]);
    assert_eq!(tries.as_array().unwrap().len(), 4, "two versions: {tries}");
    assert!(tries.as_array().unwrap().iter().all(|code| code == "AccessDenied"), "{tries}");
}

fn a_ledger_that_is_away_refuses(parent: &Parent, wallet: &Wallet) {
    for fault in ["PutObject hang", "PutObject slow-down", "ListObjectVersions hang"] {
        fail(parent, Some(fault));
        let start = Instant::now();
        let error = LEDGER.refusal(wallet, 0, 4000, "0.01");
        // Not when S3's answer comes, after a minute.
        assert!(start.elapsed() < Duration::from_secs(40), "{fault}: {:?}", start.elapsed());
        assert!(error.contains("ledger_unavailable"), "{fault}: {error}");
    }
    fail(parent, None);
    LEDGER.signed(wallet, 0, 4000, "0.01");
    for fault in
        ["PutObject lose-answer 1", "PutObject conflict 1", "PutObject slow-down 1", "ListObjectVersions lose-answer 1"]
    {
        fail(parent, Some(fault));
        let nonce = 4001 + u64::try_from(fault.len()).unwrap();
        LEDGER.signed(wallet, 0, nonce, "0.01");
        fail(parent, None);
        let error = LEDGER.refusal(wallet, 1, nonce, "0.02");
        assert!(error.contains("nonce_reuse"), "{fault}: {error}");
    }
}

fn what_a_killed_enclave_reserved_stays_so(parent: &Parent, wallet: &Wallet, end: impl FnOnce()) {
    // It has written its record, and waits for the list.
    fail(parent, Some("ListObjectVersions hang"));
    let error = LEDGER.refusal(wallet, 1, 5000, "0.01");
    assert!(error.contains("ledger_unavailable"), "{error}");
    end();
    fail(parent, None);
    let error = LEDGER.refusal(wallet, 0, 5000, "0.02");
    assert!(error.contains("nonce_reuse"), "{error}");
    LEDGER.signed(wallet, 0, 5000, "0.01");
}
