//! Programs: many, slow, and broken ones.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::site::{Client, Site, with};
use crate::program::{PATIENCE, sign_body};
use crate::real_signer::SECRET;

#[tokio::test]
async fn many_programs_keep_their_connections() {
    let site = Arc::new(Site::of_one().await);
    let mut clients = JoinSet::new();
    for number in 0..64 {
        let site = Arc::clone(&site);
        clients.spawn(async move {
            let mut client = Client::connect(&site).await;
            for nonce in 0..20 {
                let (status, text) = client.ask("POST", "/", &sign_body(number * 1000 + nonce, SECRET)).await;
                assert!(status == 200 && text.contains("transaction_signed"), "{status} {text}");
            }
        });
    }
    clients.join_all().await;
    // Eight connections have carried all of it.
    assert_eq!(site.count("proxy_proofs_total{outcome=\"accepted\"}").await, 8);
}

#[tokio::test]
async fn garbage_behind_a_request_ends_its_connection_and_no_other() {
    let site = Site::of_one().await;
    let mut other = Client::connect(&site).await;
    assert_eq!(other.ask("GET", "/health", "").await.0, 200);
    let mut client = Client::connect(&site).await;
    client.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n\x00\x16\x03\x01 garbage\r\n\r\n").await;
    assert_eq!(client.answer(false).await.0, 200);
    assert_eq!(client.answer(false).await.0, 400);
    client.is_closed().await;
    assert_eq!(other.ask("GET", "/health", "").await.0, 200);
}

#[tokio::test]
async fn requests_in_a_row_are_answered_in_order() {
    let site = Site::of_one().await;
    let mut client = Client::connect(&site).await;
    for path in ["/health", "/none", "/health"] {
        client.send_head("GET", path, 0).await;
    }
    for expected in [200, 404, 200] {
        assert_eq!(client.answer(false).await.0, expected);
    }
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let site = Site::of_one().await;
    let mut client = Client::connect(&site).await;
    client.send(format!("GET /{} HTTP/1.1\r\n", "a".repeat(64 << 10)).as_bytes()).await;
    let status = client.answer(false).await.0;
    assert!([414, 431].contains(&status), "{status}");
}

#[tokio::test]
async fn slow_programs_are_not_waited_for() {
    let short = Duration::from_millis(200);
    let site = Site::with(1, with(|limits| (limits.head, limits.body) = (short, short))).await;
    let mut silent = Client::connect(&site).await;
    let mut slow = Client::connect(&site).await;
    slow.send_head("POST", "/", 9).await;
    assert_eq!(slow.answer(false).await.0, 408);
    silent.is_closed().await;
}

#[tokio::test]
async fn a_program_that_does_not_read_is_cut_off() {
    let site = Site::with(1, with(|limits| limits.write = Duration::from_millis(200))).await;
    let mut client = Client::connect(&site).await;
    // The write fails when the connection is gone.
    let request = b"GET /proxy/metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let asking = async { while client.try_send(request).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, asking).await.expect("still open");
}

#[tokio::test]
async fn one_program_too_many_is_told_so() {
    let site = Site::with(1, with(|limits| limits.clients = 2)).await;
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = Client::connect(&site).await;
        assert_eq!(client.ask("GET", "/health", "").await.0, 200);
        clients.push(client);
    }
    let (status, text) = site.ask("GET", "/health", "").await;
    assert!(status == 503 && text.contains("2 programs are connected"), "{status} {text}");
    clients.pop();
    let asking = async { while site.ask("GET", "/health", "").await.0 != 200 {} };
    tokio::time::timeout(PATIENCE, asking).await.expect("still full");
}
