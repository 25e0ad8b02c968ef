//! The hub, and real signers that call it.

mod command;
mod front;
mod proof;
mod site;

use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::hub::site::{Site, impatience, with};
use crate::program::PATIENCE;
use crate::real_signer::SECRET;

#[tokio::test]
async fn an_enclave_that_calls_signs_for_a_program_within_its_permission() {
    let site = Site::start().await;
    let _enclave = site.enclave();
    let (status, signed) = site.sign(0, SECRET).await;
    assert!(status == 200 && signed.contains("\"transaction_signed\":\"0x02f8"), "{status} {signed}");
    let (status, refused) = site.sign(1, "prod/other").await;
    assert!(status == 403 && refused.contains("may not use this key"), "{status} {refused}");
    let (status, refused) = site.ask("POST", "/keys", "{}").await;
    assert!(status == 403 && refused.contains("may not generate keys"), "{status} {refused}");
    assert_eq!(site.ask("GET", "/health", "").await, (200, r#"{"status":"ok"}"#.to_owned()));
}

#[tokio::test]
async fn the_table_shows_who_is_there() {
    let site = Site::start().await;
    let enclave = site.enclave_at(site.calls, 2, |_| ());
    site.has(2).await;
    assert_eq!(site.sign(0, SECRET).await.0, 200);
    let (_, text) = site.ask("GET", "/enclaves", "").await;
    let table: serde_json::Value = serde_json::from_str(&text).unwrap();
    let row = &table["enclaves"][0];
    assert_eq!(
        (&row["module_id"], &row["image"]),
        (&"i-0123456789abcdef0-enc0123456789abcdef".into(), &"right.json".into())
    );
    assert_eq!((&row["connections"], &row["requests"]), (&2.into(), &1.into()));
    assert_eq!((&row["config_sha256"], &row["pcrs"]["2"]), (&"09".repeat(32).into(), &"12".repeat(48).into()));
    for time in ["since", "last_document"] {
        let time = OffsetDateTime::parse(row[time].as_str().unwrap(), &Rfc3339).unwrap();
        assert!((OffsetDateTime::now_utc() - time).unsigned_abs() < PATIENCE, "{row}");
    }
    let metrics = site.metrics().await;
    for line in ["hub_enclaves 1\n", "hub_connections 2\n", "hub_requests_total{status=\"200\"} 1\n"] {
        assert!(metrics.contains(line), "{metrics}");
    }
    drop(enclave);
    site.has(0).await;
    assert!(site.ask("GET", "/enclaves", "").await.1.starts_with("{\"enclaves\":[]"));
}

#[tokio::test]
async fn requests_go_to_each_enclave_in_turn_and_to_those_that_are_left() {
    let site = Site::start().await;
    let names = ["i-1-enc1", "i-2-enc2"];
    let [first, _second] =
        names.map(|name| site.enclave_at(site.calls, 1, move |fields| fields.module_id = name.to_owned()));
    site.has(2).await;
    for _ in 0..10 {
        assert_eq!(site.ask("GET", "/health", "").await.0, 200);
    }
    let (_, text) = site.ask("GET", "/enclaves", "").await;
    assert_eq!(text.matches("\"requests\":5").count(), 2, "{text}");
    drop(first);
    site.counts("hub_connections_ended_total{reason=\"closed\"} 1").await;
    site.has(1).await;
    for _ in 0..10 {
        assert_eq!(site.ask("GET", "/health", "").await.0, 200);
    }
}

#[tokio::test]
async fn proofs_are_renewed_and_no_request_notices() {
    for connections in [1, 2] {
        let site = Site::with(with(|limits| limits.renew = Duration::from_millis(100))).await;
        let _enclave = site.enclave_at(site.calls, connections, |_| ());
        let (mut nonce, start) = (0, tokio::time::Instant::now());
        while start.elapsed() < Duration::from_secs(2) {
            let (status, text) = site.sign(nonce, SECRET).await;
            assert_eq!(status, 200, "{text}");
            nonce += 1;
        }
        let metrics = site.metrics().await;
        let renewed =
            metrics.lines().find_map(|line| line.strip_prefix("hub_connections_ended_total{reason=\"renewed\"} "));
        assert!(renewed.unwrap().parse::<u32>().unwrap() >= 5, "{metrics}");
        assert!(metrics.contains("hub_connections_ended_total{reason=\"unhealthy\"} 0\n"), "{metrics}");
    }
}

#[tokio::test]
async fn an_enclave_whose_image_leaves_the_list_is_dropped_and_does_not_come_back() {
    let site = Site::with(with(|limits| limits.wait = Duration::from_millis(300))).await;
    let _enclave = site.enclave();
    assert_eq!(site.sign(0, SECRET).await.0, 200);
    site.allow_only(0x13);
    site.counts("hub_connections_ended_total{reason=\"untrusted\"} 1").await;
    site.counts("hub_proofs_total{outcome=\"refused\"} 1").await;
    let (status, text) = site.sign(1, SECRET).await;
    assert!(status == 503 && text.contains("no_enclave"), "{status} {text}");
    // A list that has it again lets it in again.
    site.allow_only(0x12);
    site.has(1).await;
}

#[tokio::test]
async fn a_request_under_way_ends_with_an_enclave_that_is_not_allowed_any_more() {
    let site = Site::with(with(|limits| limits.wait = Duration::from_millis(300))).await;
    let mut call = site.call().await;
    let document = site.root.sign(&call.fields());
    call.send(document).await;
    site.has(1).await;
    // This enclave answers nothing.
    let dropping = async {
        site.counts("hub_connections 1").await;
        let mut head = [0; 4];
        tokio::io::AsyncReadExt::read_exact(&mut call.stream, &mut head).await.unwrap();
        site.allow_only(0x13);
    };
    let ((status, text), ()) = tokio::join!(site.ask("GET", "/health", ""), dropping);
    assert!(status == 503 && text.contains("enclave_unavailable"), "{status} {text}");
}

#[tokio::test]
async fn an_enclave_that_answers_nothing_is_left() {
    let mut limits = impatience();
    (limits.pool.check, limits.pool.wait) = (Duration::from_millis(100), Duration::from_millis(300));
    let site = Site::with(limits).await;
    let mut call = site.call().await;
    let document = site.root.sign(&call.fields());
    call.send(document).await;
    site.counts("hub_connections_ended_total{reason=\"unhealthy\"} 1").await;
    site.has(0).await;
}

#[tokio::test]
async fn a_hub_that_ends_answers_what_it_has_and_ends_in_time() {
    let mut site = Site::start().await;
    let _enclave = site.enclave();
    site.has(1).await;
    assert_eq!(site.sign(0, SECRET).await.0, 200);
    site.stop.cancel();
    tokio::time::timeout(PATIENCE, site.hub.join_next()).await.expect("no end").unwrap().unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(site.front).await.is_err());
}
