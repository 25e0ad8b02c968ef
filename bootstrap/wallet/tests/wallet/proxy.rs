//! The proxy in front of real signers, and of enclaves that are not the right ones.

mod clients;
mod command;
mod front;
mod site;
mod verification;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::program::{PATIENCE, sign_body};
use crate::proxy::site::{Client, Site, with};
use crate::real_signer::{SECRET, Signer};

#[tokio::test]
async fn a_program_gets_the_answers_of_the_enclave() {
    let site = Site::of_one().await;
    let (status, signed) = site.ask("POST", "/", &sign_body(0, SECRET)).await;
    assert!(status == 200 && signed.contains("\"transaction_signed\":\"0x02f8"), "{status} {signed}");
    let (status, refused) = site.ask("POST", "/", &sign_body(1, "prod/other")).await;
    assert!(status == 404 && refused.contains("key_not_found"), "{status} {refused}");
    assert_eq!(site.ask("GET", "/health", "").await, (200, r#"{"status":"ok"}"#.to_owned()));
    let (status, document) = site.ask("GET", "/attestation?nonce=00ff", "").await;
    assert!(status == 200 && document.starts_with(r#"{"document":""#), "{status} {document}");
    let (status, refused) = site.ask("GET", "/nowhere/8453?x=%2F", "").await;
    assert!(status == 404 && refused.contains("no such path"), "{status} {refused}");
    let mut client = Client::connect(&site).await;
    assert_eq!(client.ask("HEAD", "/health", "").await, (200, String::new()));
    assert_eq!(client.ask("GET", "/health", "").await.0, 200);
}

#[tokio::test]
async fn the_table_shows_who_is_there() {
    let site = Site::of_one().await;
    site.has(8).await;
    assert_eq!(site.ask("GET", "/health", "").await.0, 200);
    let table: serde_json::Value = serde_json::from_str(&site.ask("GET", "/enclaves", "").await.1).unwrap();
    let row = &table["enclaves"][0];
    let expected = (&row["address"], &row["image"], &row["connections"], &row["requests"]);
    assert_eq!(expected, (&site.urls[0].as_str().into(), &"right.json".into(), &8.into(), &1.into()), "{table}");
    assert_eq!((&row["config_sha256"], &row["pcrs"]["0"]), (&"09".repeat(32).into(), &"10".repeat(48).into()));
    assert_eq!(table["problems"], serde_json::json!({}));
}

#[tokio::test]
async fn an_enclave_that_restarts_is_found_again_with_its_new_key() {
    let mut site = Site::of_one().await;
    assert_eq!(site.ask("GET", "/health", "").await.0, 200);
    let address = site.signers[0].address;
    site.signers.clear();
    site.has(0).await;
    site.signers.push(Signer::with(address, &site.root, |fields| fields.module_id = "i-1-enc2".to_owned()).await);
    assert_eq!(site.ask("POST", "/", &sign_body(0, SECRET)).await.0, 200);
    assert!(site.ask("GET", "/enclaves", "").await.1.contains("i-1-enc2"));
}

/// Signs with one connection after the other request, until `stop`; the number of signatures.
async fn sign_until(site: Arc<Site>, first_nonce: u64, stop: tokio_util::sync::CancellationToken) -> u64 {
    let mut client = Client::connect(&site).await;
    let mut count = 0;
    while !stop.is_cancelled() || count < 10 {
        let (status, text) = client.ask("POST", "/", &sign_body(first_nonce + count, SECRET)).await;
        assert_eq!(status, 200, "{text}");
        count += 1;
    }
    count
}

#[tokio::test]
async fn when_one_of_two_enclaves_dies_under_load_no_request_fails() {
    let mut site = Site::of(2).await;
    let dying = site.signers.remove(0);
    site.has(16).await;
    let (site, stop, mut clients) = (Arc::new(site), tokio_util::sync::CancellationToken::new(), JoinSet::new());
    for number in 0..64 {
        clients.spawn(sign_until(Arc::clone(&site), number * 1_000_000, stop.clone()));
    }
    site.counts_at_least("proxy_requests_total{status=\"200\"}", 500).await;
    drop(dying);
    site.has(8).await;
    let now = site.count("proxy_requests_total{status=\"200\"}").await;
    site.counts_at_least("proxy_requests_total{status=\"200\"}", now + 500).await;
    stop.cancel();
    let count: u64 = clients.join_all().await.into_iter().sum();
    assert_eq!(site.count("proxy_requests_total{status=\"200\"}").await, count);
}

#[tokio::test]
async fn proofs_are_renewed_and_no_request_notices() {
    let site = Site::with(1, with(|limits| limits.renew = Duration::from_millis(200))).await;
    let mut client = Client::connect(&site).await;
    let start = tokio::time::Instant::now();
    for nonce in 0.. {
        assert_eq!(client.ask("POST", "/", &sign_body(nonce, SECRET)).await.0, 200);
        if start.elapsed() > Duration::from_secs(2) {
            break;
        }
    }
    assert!(site.count("proxy_connections_ended_total{reason=\"renewed\"}").await >= 8);
    assert_eq!(site.count("proxy_connections_ended_total{reason=\"unhealthy\"}").await, 0);
    assert_eq!(site.count("proxy_connections_ended_total{reason=\"closed\"}").await, 0);
}

#[tokio::test]
async fn idle_connections_are_asked_for_their_health() {
    let site = Site::with(1, with(|limits| limits.check = Duration::from_millis(10))).await;
    site.has(8).await;
    let checked = |page: &str| {
        let line =
            page.lines().find_map(|line| line.strip_prefix(HEALTH)).map(|count| count.trim().parse::<u64>().unwrap());
        line.is_some_and(|count| count >= 16)
    };
    let checking = async {
        while !checked(&site.ask("GET", "/metrics", "").await.1) {
            // Else they are never idle.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, checking).await.expect("no health checks");
    assert_eq!(site.count("proxy_connections_ended_total{reason=\"unhealthy\"}").await, 0);
    assert_eq!(site.count("proxy_proofs_total{outcome=\"accepted\"}").await, 8);
}

/// The signer's count of health checks.
const HEALTH: &str = "signer_requests_total{outcome=\"ok\",route=\"/health\"}";

#[tokio::test]
async fn a_proxy_that_ends_answers_what_it_has_and_ends_in_time() {
    let mut site = Site::of_one().await;
    site.has(8).await;
    let mut idle = Client::connect(&site).await;
    assert_eq!(idle.ask("GET", "/health", "").await.0, 200);
    // A body that is still on its way.
    let mut busy = Client::connect(&site).await;
    let body = sign_body(0, SECRET);
    busy.send_head("POST", "/", body.len()).await;
    busy.send(&body.as_bytes()[..9]).await;
    site.counts_at_least("proxy_requests_total{status=\"200\"}", 1).await;
    site.stop.cancel();
    idle.is_closed().await;
    assert!(tokio::net::TcpStream::connect(site.front).await.is_err());
    busy.send(&body.as_bytes()[9..]).await;
    assert_eq!(busy.answer(false).await.0, 200);
    tokio::time::timeout(PATIENCE, site.proxy.join_next()).await.expect("no end").unwrap().unwrap().unwrap();
}
