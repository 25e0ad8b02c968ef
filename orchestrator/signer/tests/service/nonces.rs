//! Which nonces are signed for, as clients see it.

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
        "signer_nonce_runs_limit 65536",
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
