//! What the proxy itself answers.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use attestation::test_root::TestRoot;
use serde_json::json;
use signer_api::request::MAX_BODY;
use wallet::pool::{Front, Rules};

use super::site::{Client, Site, with};
use crate::enclave::{Enclave, Identity};
use crate::server;

/// Without an enclave.
async fn alone() -> Site {
    let limits = with(|limits| limits.wait = Duration::from_millis(100));
    Site::at(vec!["https://127.0.0.1:1".to_owned()], Arc::new(TestRoot::new(SystemTime::now())), None, limits).await
}

#[tokio::test]
async fn a_call_of_json_rpc_gets_an_error_of_json_rpc() {
    let site = alone().await;
    let body = r#"{"jsonrpc":"2.0","method":"eth_accounts","params":[],"id":"seven"}"#;
    let (status, text) = site.ask("POST", "/chain/1", body).await;
    let error: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &error["id"], &error["jsonrpc"]), (200, &json!("seven"), &json!("2.0")));
    assert_eq!((&error["error"]["code"], &error["error"]["data"]), (&json!(-32002), &json!({"code": "no_enclave"})));
    let message = error["error"]["message"].as_str().unwrap();
    assert!(message.contains("no proven enclave") && message.contains("connect to https://127.0.0.1:1"), "{message}");
    let (status, text) = site.ask("POST", "/", "{}").await;
    assert!(status == 503 && text.starts_with(r#"{"error":{"code":"no_enclave""#), "{status} {text}");
}

#[tokio::test]
async fn a_web_page_cannot_ask() {
    let site = Site::of_one().await;
    let (status, text) = site.ask_with("POST", "/", "Origin: http://localhost\r\n", "{}").await;
    assert!(status == 403 && text.contains("web page"), "{status} {text}");
    let (status, text) = site.ask_with("GET", "/enclaves", "Host: evil.example\r\n", "").await;
    assert!(status == 403 && text.contains("the host `evil.example`, expected localhost"), "{status} {text}");
}

#[tokio::test]
async fn headers_of_the_request_arrive_and_those_of_the_connection_do_not() {
    let (identity, root) = (Identity::new(), TestRoot::new(SystemTime::now()));
    let sign = |root: &TestRoot, fields| root.sign(&fields);
    let enclave = Enclave::saying(root, identity.tls(), identity.digest(), sign, |request| {
        let shown = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let names = ["host", "x-request", "x-hop", "connection", "te", "content-length"];
        (request.uri().path() == "/shown").then(|| {
            server::answer(200, json!({ "headers": names.map(shown), "target": request.uri().to_string() })).unwrap()
        })
    });
    let enclave = enclave.await;
    let site = Site::at(vec![enclave.url_text()], Arc::clone(&enclave.root), None, with(|_| ())).await;
    let headers = "X-Request: 1\r\nX-Hop: 1\r\nConnection: X-Hop\r\nTE: trailers\r\n";
    let (status, text) = site.ask_with("POST", "/shown?a=%2f&b=+", headers, "{}").await;
    let authority = enclave.url_text().replace("https://", "");
    let expected = json!({ "headers": [authority, "1", null, null, null, "2"], "target": "/shown?a=%2f&b=+" });
    assert_eq!((status, serde_json::from_str::<serde_json::Value>(&text).unwrap()), (200, expected));
}

#[tokio::test]
async fn a_body_that_the_signer_would_not_take_is_not_passed_on() {
    let site = Site::of_one().await;
    site.has(8).await;
    let (status, text) = site.ask("POST", "/", &" ".repeat(MAX_BODY + 1)).await;
    assert!(status == 413 && text.contains("too_large"), "{text}");
    let chunk = format!("{MAX_BODY:x}\r\n{}\r\n1\r\n \r\n0\r\n\r\n", " ".repeat(MAX_BODY));
    let mut client = Client::connect(&site).await;
    client.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    client.send(chunk.as_bytes()).await;
    assert_eq!(client.answer(false).await.0, 413);
    assert!(site.ask("GET", "/enclaves", "").await.1.contains("\"requests\":0"));
    let (status, text) = site.ask("POST", "/", &" ".repeat(MAX_BODY)).await;
    assert!(status == 400 && text.contains("bad_request"), "{text}");
}

#[tokio::test]
async fn the_signers_own_metrics_are_reachable_beside_the_proxys() {
    let site = Site::of_one().await;
    let (status, page) = site.ask("GET", "/metrics", "").await;
    assert!(status == 200 && page.contains("signer_connections{"), "{status} {page}");
    assert!(site.metrics().await.contains("proxy_requests_total{status=\"200\"} 1\n"));
}

#[tokio::test]
async fn a_socket_has_the_mode_of_its_option() {
    let dir = tempfile::tempdir().unwrap();
    for (name, socket_mode) in [("own", 0o600), ("group", 0o660)] {
        let path = dir.path().join(name);
        let rules = Rules { socket_mode, ..Rules::default() };
        let front = Front::listen(&format!("unix:{}", path.display()), rules).await.unwrap();
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o777, socket_mode);
        let command = format!("curl --unix-socket {} http://localhost/health", path.display());
        assert_eq!(front.curl("/health"), command);
    }
}

#[tokio::test]
async fn it_listens_for_other_hosts_only_if_told_so() {
    let error = format!("{:#}", Front::listen("0.0.0.0:0", Rules::default()).await.unwrap_err());
    assert!(error.contains("reachable from other hosts") && error.contains("--any-address"), "{error}");
    assert!(Front::listen("0.0.0.0:0", Rules { is_any_address: true, ..Rules::default() }).await.is_ok());
}
