//! What each path answers.

use std::sync::atomic::Ordering;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use binding::sha256;
use binding::signer::Binding;
use ethereum::key::SecretKey;
use serde_json::Value;
use signer::service::Limits;
use webpki::EndEntityCert;

use super::harness::{ADDRESS, KEY, config, open, payload, sign_body, start, start_with};

const VECTORS: &str = include_str!("../vectors/ethereum-transactions.json");

#[tokio::test]
async fn the_request_of_the_documentation_is_signed_as_eth_account_signs_it() {
    let server = start(open()).await;
    let answer = server.connect().await.sign(0, "prod/wallet").await;
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let expected = &vectors["transactions"][0];
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["transaction_signed"], expected["transaction_signed"]);
    assert_eq!(answer.json()["transaction_hash"], expected["transaction_hash"]);
    assert_eq!(answer.json().as_object().unwrap().len(), 2);
}

#[tokio::test]
async fn a_kept_alive_connection_signs_many_times_and_the_key_is_fetched_once() {
    let server = start(open()).await;
    let mut client = server.connect().await;
    for nonce in 0..50 {
        assert_eq!(client.sign(nonce, "prod/wallet").await.status, 200);
    }
    assert_eq!(server.fetches.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_key_that_was_opened_with_a_credential_serves_no_other_credential() {
    let server = start(open()).await;
    let mut client = server.connect().await;
    let body = |credential: &str| sign_body(0, "prod/wallet").replacen('{', &format!("{{{credential}"), 1);
    let credential = |token: &str| {
        format!(r#""credential": {{"access_key_id": "A", "secret_access_key": "s", "token": "{token}"}}, "#)
    };
    for (credential, fetches) in [(credential("t"), 1), (credential("t"), 1), (credential("u"), 2), (String::new(), 3)]
    {
        assert_eq!(client.post("/", &body(&credential)).await.status, 200);
        assert_eq!(server.fetches.load(Ordering::Relaxed), fetches);
    }
}

#[tokio::test]
async fn an_encrypted_key_in_the_request_signs_too() {
    let server = start(open()).await;
    let body = format!(r#"{{"transaction_payload": {}, "encrypted_key": "{}"}}"#, payload(0), STANDARD.encode(KEY));
    assert_eq!(server.connect().await.post("/", &body).await.status, 200);
    let body = body.replace(&STANDARD.encode(KEY), &STANDARD.encode("0xno key at all"));
    let answer = server.connect().await.post("/", &body).await;
    assert_eq!(answer.error(), (502, "key_answer".into(), None));
    assert!(!String::from_utf8(answer.body).unwrap().contains("no key at all"));
}

#[tokio::test]
async fn a_bad_field_is_named() {
    let server = start(open()).await;
    let mut client = server.connect().await;
    for (from, to, field) in [
        ("\"gas\": 100000", "\"gas\": \"many\"", "transaction_payload.gas"),
        ("0.01", "-1", "transaction_payload.value"),
        ("0xa5D3", "0xA5D3", "transaction_payload.to"),
        ("\"nonce\"", "\"nonse\"", "transaction_payload.nonse"),
        ("{", "[", "body"),
    ] {
        let answer = client.post("/", &sign_body(0, "prod/wallet").replacen(from, to, 1)).await;
        assert_eq!(answer.error(), (400, "bad_request".into(), Some(field.to_owned())));
    }
    assert_eq!(server.fetches.load(Ordering::Relaxed), 0, "a key was fetched for a bad request");
}

#[tokio::test]
async fn what_the_policy_refuses_is_answered_with_the_rule() {
    let server = start(open()).await;
    let mut client = server.connect().await;
    for (from, to, rule, field) in [
        ("\"chainId\": 4", "\"chainId\": 5", "chain_ids", "chainId"),
        ("0.01", "1.1", "max_value", "value"),
        ("100000000000", "200000000001", "max_fee_per_gas", "maxFeePerGas"),
        ("100000,", "500001,", "max_gas", "gas"),
        ("\"to\": \"0xa5D3241A1591061F2a4bB69CA0215F66520E67cf\"", "\"data\": \"0x00\"", "contract_creation", "to"),
    ] {
        let body = sign_body(0, "prod/wallet");
        assert!(body.contains(from));
        let answer = client.post("/", &body.replacen(from, to, 1)).await;
        assert_eq!(answer.error(), (422, "policy_refused".into(), Some(format!("transaction_payload.{field}"))));
        let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.starts_with(&format!("policy rule {rule}: ")), "{message}");
    }
    let metrics = client.get("/metrics").await;
    let page = String::from_utf8(metrics.body).unwrap();
    assert!(page.contains("signer_refusals_total{rule=\"max_gas\"} 1\n"), "{page}");
    assert!(page.contains("signer_signatures_total 0\n"), "{page}");
}

#[tokio::test]
async fn a_nonce_is_signed_for_one_transaction_however_often() {
    let server = start(open()).await;
    let mut client = server.connect().await;
    let first = client.sign(7, "prod/wallet").await;
    assert_eq!(client.sign(7, "prod/wallet").await.body, first.body);
    let other = client.post("/", &sign_body(7, "prod/wallet").replace("0.01", "0.02")).await;
    assert_eq!(other.error(), (422, "policy_refused".into(), Some("transaction_payload.nonce".into())));
    assert!(other.json()["error"]["message"].as_str().unwrap().starts_with("policy rule nonce_reuse: something else"));
    // The same key by another name is the same key.
    let by_name = sign_body(7, "other/name").replace("0.01", "0.02");
    assert_eq!(client.post("/", &by_name).await.status, 422);
    assert_eq!(
        client.post("/", &sign_body(7, "prod/wallet").replace("\"chainId\": 4", "\"chainId\": 1")).await.status,
        200
    );
}

#[tokio::test]
async fn a_nonce_may_be_replaced_where_the_policy_says_so() {
    let policy = super::harness::POLICY.replace("nonce_reuse = false", "nonce_reuse = true");
    let server = start(config(&format!("open = true\n{policy}"))).await;
    let mut client = server.connect().await;
    assert_eq!(client.sign(7, "prod/wallet").await.status, 200);
    assert_eq!(client.post("/", &sign_body(7, "prod/wallet").replace("0.01", "0.02")).await.status, 200);
}

#[tokio::test]
async fn each_failure_to_get_a_key_has_its_status() {
    let limits = Limits { fetch: Duration::from_millis(100), ..Limits::default() };
    let server = start_with(open(), limits).await;
    let mut client = server.connect().await;
    for (secret_id, status, code) in [
        ("missing", 404, "key_not_found"),
        ("expired", 403, "credential_refused"),
        ("denied", 502, "key_refused"),
        ("wrong", 502, "key_answer"),
        ("throttled", 503, "key_unavailable"),
        ("never", 503, "key_unavailable"),
    ] {
        let answer = client.sign(0, secret_id).await;
        assert_eq!(answer.error(), (status, code.to_owned(), None), "{secret_id}");
        assert_eq!(answer.head.contains("retry-after: 1"), status == 503, "{}", answer.head);
    }
    let elsewhere = client.sign(0, "elsewhere").await.error();
    assert_eq!(elsewhere, (400, "bad_request".to_owned(), Some("secret_id".to_owned())));
}

#[tokio::test]
async fn a_generated_key_comes_encrypted_with_its_address() {
    let server = start(open()).await;
    let mut client = server.connect().await;
    let answer = client.post("/keys", "").await;
    assert_eq!(answer.status, 200);
    let json = answer.json();
    let plaintext = STANDARD.decode(json["encrypted_key"].as_str().unwrap()).unwrap();
    assert_eq!(SecretKey::parse(&plaintext).unwrap().address().to_string(), json["address"].as_str().unwrap());
    assert_eq!(client.post("/keys", "{\"x\": 1}").await.error(), (400, "bad_request".into(), Some("x".into())));
}

#[tokio::test]
async fn a_document_binds_the_key_of_this_connection_the_configuration_and_the_nonce() {
    let server = start(open()).await;
    let mut client = server.connect().await;
    let certificate = client.stream.get_ref().1.peer_certificates().unwrap()[0].clone();
    let tls_key = sha256(EndEntityCert::try_from(&certificate).unwrap().subject_public_key_info().as_ref());
    assert_eq!(server.tls_key, tls_key);
    let answer = client.get("/attestation?nonce=00112233").await;
    let document = STANDARD.decode(answer.json()["document"].as_str().unwrap()).unwrap();
    let (user_data, nonce) = document.split_at(Binding::LEN);
    assert_eq!(Binding::decode(user_data), Ok(Binding { tls_key, config: [9; 32] }));
    assert_eq!(nonce, [0, 0x11, 0x22, 0x33]);
    let cbor = client.request("GET", "/attestation?nonce=00112233", "Accept: application/cbor\r\n", b"").await;
    assert_eq!(cbor.body, document);
    assert!(cbor.head.contains("content-type: application/cbor"));
}

#[tokio::test]
async fn two_signers_have_two_keys() {
    assert_ne!(start(open()).await.tls_key, start(open()).await.tls_key);
}

#[tokio::test]
async fn a_nonce_has_one_to_sixty_four_bytes_of_hex() {
    let server = start(open()).await;
    let mut client = server.connect().await;
    let longest = format!("?nonce={}", "ab".repeat(64));
    assert_eq!(client.get(&format!("/attestation{longest}")).await.status, 200);
    for query in [
        "",
        "?",
        "?nonce=",
        "?nonce=0",
        "?nonce=xy",
        "?nonce=00&nonce=01",
        "?x=1",
        "?nonce=00&x=1",
        &format!("{longest}00"),
    ] {
        let answer = client.get(&format!("/attestation{query}")).await;
        assert_eq!(answer.error(), (400, "bad_request".into(), Some("nonce".into())), "{query}");
    }
}

#[tokio::test]
async fn without_a_document_the_answer_says_so() {
    let server = start_with(open(), Limits { fetch: Duration::from_millis(100), ..Limits::default() }).await;
    let mut client = server.connect().await;
    for nonce in ["ff", "fe"] {
        let answer = client.get(&format!("/attestation?nonce={nonce}")).await;
        assert_eq!(answer.error(), (503, "attestation_unavailable".into(), None));
    }
}

#[tokio::test]
async fn health_and_metrics_are_there() {
    let server = start(open()).await;
    let mut client = server.connect().await;
    assert_eq!(client.get("/health").await.body, br#"{"status":"ok"}"#);
    client.sign(0, "prod/wallet").await;
    let answer = client.get("/metrics").await;
    let page = String::from_utf8(answer.body).unwrap();
    for line in [
        "signer_requests_total{outcome=\"ok\",route=\"/\"} 1",
        "signer_signatures_total 1",
        "signer_keys_cached 1",
        "signer_keys_missing 0",
    ] {
        assert!(page.lines().any(|has| has == line), "{line} is not in {page}");
    }
    assert!(answer.head.contains("content-type: text/plain; version=0.0.4"));
    for secret in [KEY, ADDRESS, "prod/wallet"] {
        assert!(!page.contains(secret), "{secret} is in the page");
    }
}

#[tokio::test]
async fn another_path_or_method_is_refused() {
    let server = start(open()).await;
    let mut client = server.connect().await;
    assert_eq!(client.get("/x").await.error(), (404, "not_found".into(), None));
    assert_eq!(client.get("//").await.error(), (404, "not_found".into(), None));
    for (method, path, allow) in [
        ("GET", "/", "POST"),
        ("PUT", "/", "POST"),
        ("GET", "/keys", "POST"),
        ("HEAD", "/", "POST"),
        ("POST", "/health", "GET, HEAD"),
        ("DELETE", "/metrics", "GET, HEAD"),
        ("POST", "/attestation?nonce=00", "GET, HEAD"),
    ] {
        let answer = client.request(method, path, "", b"").await;
        assert_eq!(answer.status, 405, "{method} {path}");
        if method != "HEAD" {
            assert_eq!(answer.error(), (405, "method_not_allowed".into(), None), "{method} {path}");
        }
        assert!(answer.head.contains(&format!("allow: {allow}\r\n")), "{}", answer.head);
    }
}

#[tokio::test]
async fn health_is_there_for_load_balancers_as_they_ask_for_it() {
    let server = start(open()).await;
    let mut client = server.connect().await;
    for path in ["/health", "/health/", "/healthz", "/healthz/", "/health?verbose", "/health/?a=b"] {
        assert_eq!(client.get(path).await.body, br#"{"status":"ok"}"#, "{path}");
        // Twice: the body of a HEAD must not stand in front of the next answer.
        for _ in 0..2 {
            let answer = client.request("HEAD", path, "", b"").await;
            assert_eq!((answer.status, answer.body.len()), (200, 0), "{path}");
            assert!(answer.head.contains("content-length: 15"), "{}", answer.head);
        }
    }
}

#[tokio::test]
async fn a_document_comes_in_the_form_that_the_client_prefers() {
    let server = start(open()).await;
    let mut client = server.connect().await;
    for (headers, expected) in [
        ("Accept: application/cbor;q=1, */*\r\n", "application/cbor"),
        ("Accept: application/cbor, */*\r\n", "application/cbor"),
        ("Accept: text/html\r\nAccept: APPLICATION/CBOR\r\n", "application/cbor"),
        ("Accept: */*\r\n", "application/json"),
        ("Accept: application/cbor;q=0.1, application/json\r\n", "application/json"),
    ] {
        let answer = client.request("GET", "/attestation?nonce=00", headers, b"").await;
        assert!(answer.head.contains(&format!("content-type: {expected}\r\n")), "{headers}: {}", answer.head);
    }
}

#[tokio::test]
async fn what_a_client_wrote_comes_back_as_it_wrote_it() {
    let server = start(open()).await;
    let mut client = server.connect().await;
    for (from, to, message) in [
        ("\"0xa5D3241A1591061F2a4bB69CA0215F66520E67cf\"", "\"0x\"", "transaction_payload.to: \"0x\": "),
        ("\"gas\": 100000", "\"gas\": \"a'b\"", "transaction_payload.gas: \"a'b\": "),
        ("0.01", "\"1\\\\2\"", "transaction_payload.value: \"1\\\\2\": "),
        ("\"nonce\"", "\"a\\\"b\"", "transaction_payload.a\"b: unknown field"),
    ] {
        let answer = client.post("/", &sign_body(0, "prod/wallet").replacen(from, to, 1)).await;
        let json = answer.json();
        let said = json["error"]["message"].as_str().unwrap();
        assert!(said.starts_with(message), "{said}");
    }
}
