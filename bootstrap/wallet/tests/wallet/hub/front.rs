//! The side of this host's programs.

use std::time::Duration;

use signer_api::request::MAX_BODY;
use tokio::net::UnixStream;
use wallet::hub::Limits;
use wallet::pool::{Front, Rules};

use super::site::{Site, with};
use crate::program::ask;

#[tokio::test]
async fn without_an_enclave_a_request_waits_a_moment_and_says_so() {
    let site = Site::with(with(|limits| limits.wait = Duration::from_millis(200))).await;
    let (status, text) = site.ask("GET", "/health", "").await;
    assert_eq!(status, 503);
    assert!(text.contains("\"no_enclave\"") && text.contains("repeat the request"), "{text}");
}

#[tokio::test]
async fn a_request_that_comes_before_the_enclave_is_answered() {
    let site = Site::start().await;
    let ((status, _), _enclave) = tokio::join!(site.ask("GET", "/health", ""), async { site.enclave() });
    assert_eq!(status, 200);
}

#[tokio::test]
async fn the_signers_own_metrics_are_reachable_beside_the_hubs() {
    let site = Site::start().await;
    let _enclave = site.enclave();
    let (status, page) = site.ask("GET", "/metrics", "").await;
    assert!(status == 200 && page.contains("signer_connections{"), "{status} {page}");
    let (status, page) = site.ask("GET", "/hub/metrics", "").await;
    assert!(status == 200 && page.contains("hub_requests_total{status=\"200\"} 1\n"), "{status} {page}");
}

#[tokio::test]
async fn a_web_page_cannot_ask() {
    let site = Site::start().await;
    let _enclave = site.enclave();
    let (status, text) = site.ask_with("POST", "/", "Origin: https://evil.example\r\n", "{}").await;
    assert!(status == 403 && text.contains("web page"), "{text}");
}

#[tokio::test]
async fn a_body_that_the_signer_would_not_take_is_not_passed_on() {
    let site = Site::start().await;
    let _enclave = site.enclave();
    site.has(1).await;
    let (status, text) = site.ask("POST", "/", &" ".repeat(MAX_BODY + 1)).await;
    assert!(status == 413 && text.contains("too_large"), "{text}");
    assert!(site.ask("GET", "/enclaves", "").await.1.contains("\"requests\":0"));
}

#[tokio::test]
async fn it_listens_on_loopback_and_nowhere_else() {
    for text in ["0.0.0.0:0", "[::]:0", "192.0.2.1:80"] {
        let error = format!("{:#}", Front::listen(text, Rules::default()).await.unwrap_err());
        assert!(error.contains("reachable from other hosts") && error.contains("expected an address on"), "{error}");
    }
    assert!(Front::listen("localhost", Rules::default()).await.is_err());
    for text in ["127.0.0.1:0", "[::1]:0"] {
        assert!(Front::listen(text, Rules::default()).await.is_ok(), "{text}");
    }
}

#[tokio::test]
async fn a_socket_that_was_left_behind_is_replaced_and_one_in_use_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.socket");
    let text = format!("unix:{}", path.display());
    drop(Front::listen(&text, Rules::default()).await.unwrap());
    assert!(path.exists());
    let front = Front::listen(&text, Rules::default()).await.unwrap();
    assert_eq!(front.to_string(), text);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o660);
    let error = format!("{:#}", Front::listen(&text, Rules::default()).await.unwrap_err());
    assert!(error.contains("Address already in use"), "{error}");
}

#[tokio::test]
async fn a_program_asks_over_a_socket() {
    let site = Site::start().await;
    let path = site.dir.path().join("hub.socket");
    let front = Front::listen(&format!("unix:{}", path.display()), Rules::default()).await.unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut hub = tokio::task::JoinSet::new();
    let (identity, trust) = (site.identity.subscribe(), site.trust.subscribe());
    let calls = listener.local_addr().unwrap();
    hub.spawn(wallet::hub::run(listener, front, identity, trust, Limits::default(), site.stop.clone()));
    let _enclave = site.enclave_at(calls, 1, |_| ());
    let stream = UnixStream::connect(&path).await.unwrap();
    assert_eq!(ask(stream, "GET", "/health", "", "").await.0, 200);
}
