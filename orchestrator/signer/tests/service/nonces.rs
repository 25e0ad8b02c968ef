//! Which nonces are signed for, as clients see it.

use std::sync::atomic::Ordering;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use signer::config::Config;

use super::harness::{Authority, POLICY, config, open, payload, sign_body, start};

/// A request with a key of its own.
fn brought(key: u32, nonce: u64) -> String {
    let key = STANDARD.encode(format!("{key:064x}"));
    format!(r#"{{"transaction_payload": {}, "encrypted_key": "{key}"}}"#, payload(nonce))
}

/// Two clients that may sign with any key.
fn with_two_clients(authority: &Authority) -> Config {
    let client = |name: &str| format!("[[clients]]\nname = \"{name}\"\nany_key = true\n");
    let clients = [client("pay.example"), client("other.example")].concat();
    config(&format!("client_ca = \"\"\"\n{}\"\"\"\n{clients}{POLICY}", authority.pem))
}

#[tokio::test]
async fn however_many_keys_come_with_requests_the_others_go_on() {
    let authority = Authority::new();
    let server = start(with_two_clients(&authority)).await;
    let mut other = server.connect_as(Some(authority.issue("other.example", |_| ()))).await.unwrap();
    for key in 1..=258 {
        assert_eq!(other.post("/", &brought(key, 0)).await.status, 200, "key {key}");
    }
    assert_eq!(other.sign(0, "prod/wallet").await.status, 200);
    let mut client = server.connect_as(Some(authority.issue("pay.example", |_| ()))).await.unwrap();
    assert_eq!(client.post("/", &brought(259, 0)).await.status, 200);
    assert_eq!(client.sign(1, "prod/wallet").await.status, 200);
    let page = String::from_utf8(client.get("/metrics").await.body).unwrap();
    for line in [
        "signer_nonce_accounts 260",
        "signer_nonce_runs{client=\"other.example\",keys=\"request\"} 258",
        "signer_nonce_runs{client=\"other.example\",keys=\"configured\"} 1",
        "signer_nonce_runs{client=\"pay.example\",keys=\"request\"} 1",
        "signer_nonce_runs_guaranteed 32768",
        "signer_nonce_runs_common 0",
        "signer_nonce_runs_common_limit 131072",
    ] {
        assert!(page.lines().any(|has| has == line), "{line} is not in\n{page}");
    }
}

#[tokio::test]
async fn nonces_are_signed_in_any_order() {
    let server = start(open()).await;
    let mut client = server.connect().await;
    let order = (0..=300).rev().chain(1_000_000_000..1_000_000_100).chain([u64::MAX - 1]).chain(301..310);
    for nonce in order {
        assert_eq!(client.sign(nonce, "prod/wallet").await.status, 200, "{nonce}");
    }
    for nonce in [0, 300, 309, 1_000_000_099, u64::MAX - 1] {
        let other = client.post("/", &sign_body(nonce, "prod/wallet").replace("0.01", "0.02")).await;
        assert_eq!(other.error(), (422, "policy_refused".into(), Some("transaction_payload.nonce".into())));
    }
}

#[tokio::test]
async fn a_nonce_is_free_after_a_refusal_and_kept_over_a_failure_to_get_the_key() {
    let server = start(open()).await;
    let mut client = server.connect().await;
    let other = |from: &str, to: &str| sign_body(7, "prod/wallet").replacen(from, to, 1);
    assert_eq!(client.post("/", &other("0.01", "1.1")).await.status, 422);
    assert_eq!(client.sign(7, "throttled").await.status, 503);
    assert_eq!(client.sign(7, "prod/wallet").await.status, 200);
    assert_eq!(client.sign(7, "prod/wallet").await.status, 200);
}

#[tokio::test]
async fn a_stuck_transaction_is_bumped_where_the_policy_says_so_and_within_it() {
    let at = |fee: u64, tip: u64| {
        let body = sign_body(7, "prod/wallet");
        body.replacen("100000000000", &fee.to_string(), 1).replacen("3000000000", &tip.to_string(), 1)
    };
    let (original, bumped) = (at(100_000_000_000, 3_000_000_000), at(110_000_000_000, 3_300_000_000));
    let bumping = start(config(&format!("open = true\n{POLICY}fee_bump = true\n"))).await;
    let mut client = bumping.connect().await;
    assert_eq!(client.post("/", &original).await.status, 200);
    let refused = |field: &str| (422, "policy_refused".into(), Some(format!("transaction_payload.{field}")));
    let low = client.post("/", &at(109_999_999_999, 3_300_000_000)).await;
    assert_eq!(low.error(), refused("maxFeePerGas"));
    let message = low.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with("policy rule fee_bump: nonce 7 ") && message.contains("110000000000 wei"), "{message}");
    assert_eq!(client.post("/", &bumped.replace("0.01", "0.02")).await.error(), refused("nonce"));
    let answer = client.post("/", &bumped).await;
    assert_eq!(answer.status, 200);
    assert_eq!(client.post("/", &bumped).await.body, answer.body);
    assert_eq!(client.post("/", &original).await.error(), refused("maxFeePerGas"));
    assert_eq!(client.post("/", &at(200_000_000_001, 6_000_000_000)).await.error(), refused("maxFeePerGas"));
    let strict = start(open()).await;
    let mut client = strict.connect().await;
    assert_eq!(client.post("/", &original).await.status, 200);
    assert_eq!(client.post("/", &bumped).await.error(), refused("nonce"));
}

/// What the documents say, so that nobody relies on more.
#[tokio::test]
async fn a_signer_that_is_started_again_has_forgotten() {
    for value in ["0.01", "0.02"] {
        let server = start(open()).await;
        let body = sign_body(7, "prod/wallet").replace("0.01", value);
        assert_eq!(server.connect().await.post("/", &body).await.status, 200);
        server.shutdown.cancel();
        server.ended().await;
    }
}

#[tokio::test]
async fn a_nonce_is_not_spent_on_what_no_node_takes() {
    let policy = POLICY.replace("contract_creation = false", "contract_creation = true").replace("500000", "20000000");
    let server = start(config(&format!("open = true\n{policy}"))).await;
    let mut client = server.connect().await;
    let key = format!("\"0x{}\"", "03".repeat(32));
    let access = |keys: &str| {
        let address = "0xde0b295669a9fd93d5f28d9ec85e40f4cb697bae";
        format!("21000, \"accessList\": [{{\"address\": \"{address}\", \"storageKeys\": [{keys}]}}]")
    };
    let data = |gas: u64, len: usize| format!("{gas}, \"data\": \"0x{}\"", "01".repeat(len));
    let to = "\"to\": \"0xa5D3241A1591061F2a4bB69CA0215F66520E67cf\", ";
    for (gas, is_creation, field, expected) in [
        ("20999".to_owned(), false, "gas", "expected at least 21000"),
        ("1".to_owned(), false, "gas", "expected at least 21000"),
        (access(""), false, "gas", "expected at least 23400"),
        (access(&key), false, "gas", "expected at least 25300"),
        (data(21_039, 1), false, "gas", "expected at least 21040"),
        (data(53_017, 1), true, "gas", "expected at least 53018"),
        ("16777217".to_owned(), false, "gas", "expected at most 16777216"),
        (data(10_000_000, 49_153), true, "data", "expected at most 49152"),
        (data(10_000_000, 131_000), false, "data", "nodes accept at most 131072"),
    ] {
        let body = sign_body(7, "prod/wallet").replacen("100000", &gas, 1);
        let body = if is_creation { body.replacen(to, "", 1) } else { body };
        let answer = client.post("/", &body).await;
        assert_eq!(
            answer.error(),
            (400, "bad_request".into(), Some(format!("transaction_payload.{field}"))),
            "{answer:?}"
        );
        let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(expected), "{message}");
    }
    assert_eq!(server.fetches.load(Ordering::Relaxed), 0, "a key was fetched for a bad request");
    assert_eq!(client.sign(7, "prod/wallet").await.status, 200);
}

#[tokio::test]
async fn a_chain_with_gas_rules_of_its_own_is_not_judged_by_ethereums() {
    let server = start(config(&format!("open = true\n{POLICY}own_gas_rules = [4]\n"))).await;
    let mut client = server.connect().await;
    let body = |chain: &str| sign_body(0, "prod/wallet").replace("100000,", "20999,").replace("\"chainId\": 4", chain);
    assert_eq!(client.post("/", &body("\"chainId\": 4")).await.status, 200);
    assert_eq!(client.post("/", &body("\"chainId\": 1")).await.status, 400);
}
