//! Keys by their address: which there are, whose they are, and when they are there.

use std::sync::atomic::Ordering;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use signer::config::Config;
use tokio::time::sleep;

use super::{changed, error, with};
use crate::harness::{ADDRESS, Authority, Client, KEY, POLICY, SECOND, Server, config, start};

async fn accounts(client: &mut Client) -> Value {
    client.call("/", "eth_accounts", "[]").await["result"].clone()
}

fn with_clients(authority: &Authority) -> Config {
    config(&format!(
        r#"client_ca = """
{}"""
[[keys]]
secret_id = "prod/wallet"
[[keys]]
secret_id = "second"
address = "{SECOND}"
[[clients]]
name = "first.example"
secret_ids = ["prod/wallet"]
[[clients]]
name = "own.example"
secret_ids = ["second", "prod/own"]
[[clients]]
name = "address.example"
addresses = ["{SECOND}"]
[[clients]]
name = "any.example"
any_key = true
[[clients]]
name = "metrics.example"
{POLICY}"#,
        authority.pem
    ))
}

async fn as_client(server: &Server, authority: &Authority, name: &str) -> Client {
    server.connect_as(Some(authority.issue(name, |_| ()))).await.unwrap()
}

#[tokio::test]
async fn a_client_sees_and_uses_its_own_accounts_only() {
    let authority = Authority::new();
    let server = start(with_clients(&authority)).await;
    server.connect().await.wait_ready().await;
    for (name, expected) in [
        ("first.example", json!([ADDRESS])),
        // Its own secret holds the first key, too.
        ("own.example", json!([SECOND, ADDRESS])),
        ("address.example", json!([SECOND])),
        ("any.example", json!([ADDRESS, SECOND])),
    ] {
        let mut client = as_client(&server, &authority, name).await;
        assert_eq!(accounts(&mut client).await, expected, "{name}");
        for from in [ADDRESS, SECOND] {
            let answer = client.call("/", "eth_signTransaction", &changed(json!({"from": from}))).await;
            if expected.as_array().unwrap().contains(&json!(from)) {
                assert!(answer["result"].is_string(), "{name} {answer}");
            } else {
                let (code, message, kind) = error(&answer);
                assert_eq!((code, kind.as_str()), (-32011, "forbidden"), "{name}");
                assert_eq!(
                    message,
                    format!("{name} has no account {from} here, expected one of those that eth_accounts lists")
                );
            }
        }
    }
    // Whoever may sign with no key is not read at all.
    for name in ["metrics.example", "stranger.example"] {
        let answer = as_client(&server, &authority, name)
            .await
            .post("/", r#"{"jsonrpc": "2.0", "id": 1, "method": "eth_accounts"}"#)
            .await;
        assert_eq!(answer.error().0, 403, "{name}");
    }
}

#[tokio::test]
async fn the_secrets_of_a_client_are_loaded_when_it_first_needs_them() {
    let authority = Authority::new();
    let server = start(with_clients(&authority)).await;
    server.connect().await.wait_ready().await;
    let fetches = || server.fetches.load(Ordering::Relaxed);
    assert_eq!(fetches(), 2);
    let mut client = as_client(&server, &authority, "own.example").await;
    for _ in 0..3 {
        accounts(&mut client).await;
        assert_eq!(fetches(), 3);
    }
}

#[tokio::test]
async fn the_signer_is_ready_when_its_keys_are_there_and_healthy_before() {
    let server = start(with("[[keys]]\nsecret_id = \"late\"\n[[keys]]\nsecret_id = \"prod/wallet\"\n", POLICY)).await;
    let mut client = server.connect().await;
    let answer = client.get("/ready").await;
    assert_eq!(answer.error(), (503, "not_ready".into(), None));
    assert!(answer.head.contains("retry-after: 1"));
    let said = String::from_utf8(answer.body).unwrap();
    assert!(!said.contains("late"), "{said}");
    assert_eq!(client.get("/health").await.status, 200);
    let answer = client.call("/", "health_status", "[]").await;
    assert_eq!(error(&answer).0, -32002);
    assert!(error(&answer).1.contains("secret late"), "{answer}");
    server.connect().await.wait_ready().await;
    assert_eq!(client.get("/readyz").await.body, br#"{"status":"ready"}"#);
    let version = client.call("/", "health_status", "[]").await;
    assert!(version["result"].as_str().unwrap().starts_with("enclave-wireguard-signer/"));
}

#[tokio::test]
async fn readiness_needs_no_certificate() {
    let authority = Authority::new();
    let server = start(with_clients(&authority)).await;
    server.connect().await.wait_ready().await;
    assert_eq!(server.connect().await.request("HEAD", "/ready", "", b"").await.status, 200);
}

#[tokio::test]
async fn without_configured_keys_the_signer_is_ready_and_has_no_accounts() {
    let server = start(with("", POLICY)).await;
    let mut client = server.connect().await;
    assert_eq!(client.get("/ready").await.status, 200);
    assert_eq!(accounts(&mut client).await, json!([]));
    assert_eq!(error(&client.call("/", "eth_signTransaction", &changed(json!({}))).await).0, -32011);
}

#[tokio::test]
async fn an_encrypted_key_of_the_configuration_signs_and_counts_as_a_configured_one() {
    let server = start(with(&format!("[[keys]]\nencrypted_key = \"{}\"\n", STANDARD.encode(KEY)), POLICY)).await;
    let mut client = server.connect().await;
    assert_eq!(accounts(&mut client).await, json!([ADDRESS]));
    assert!(client.call("/", "eth_signTransaction", &changed(json!({}))).await["result"].is_string());
    let page = String::from_utf8(client.get("/metrics").await.body).unwrap();
    assert!(page.contains("signer_nonce_runs{client=\"anyone\",keys=\"configured\"} 1\n"), "{page}");
}

#[tokio::test]
async fn a_key_with_another_address_than_the_configured_one_is_never_used() {
    let server = start(with(&format!("[[keys]]\nsecret_id = \"prod/wallet\"\naddress = \"{SECOND}\"\n"), POLICY)).await;
    let mut client = server.connect().await;
    for from in [ADDRESS, SECOND] {
        let answer = client.call("/", "eth_signTransaction", &changed(json!({"from": from}))).await;
        assert!(error(&answer).0 == -32603 || error(&answer).0 == -32011, "{answer}");
    }
    // Nor in the signer's own form.
    let answer = client.sign(0, "prod/wallet").await;
    assert_eq!(answer.error(), (502, "key_answer".into(), None));
    assert_eq!(client.get("/ready").await.status, 503);
}

#[tokio::test]
async fn a_key_that_has_been_replaced_signs_for_nobody_who_names_the_old_one() {
    let text =
        format!("port = 443\nkey_cache_time = \"1s\"\nopen = true\n[[keys]]\nsecret_id = \"replaced\"\n{POLICY}");
    let server = start(toml::from_str::<signer::config::SignerTable>(&text).unwrap().check().unwrap()).await;
    server.connect().await.wait_ready().await;
    let mut client = server.connect().await;
    assert_eq!(accounts(&mut client).await, json!([ADDRESS]));
    sleep(Duration::from_millis(1100)).await;
    let old = client.call("/", "eth_signTransaction", &changed(json!({}))).await;
    let (code, message, _) = error(&old);
    assert_eq!(code, -32603);
    assert!(message.contains(&format!("a key of {SECOND}, expected that of {ADDRESS}")), "{message}");
    assert_eq!(accounts(&mut client).await, json!([SECOND]));
    assert!(client.call("/", "eth_signTransaction", &changed(json!({"from": SECOND}))).await["result"].is_string());
}
