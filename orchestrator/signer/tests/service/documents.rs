//! Clients that want more documents than the security module can make.

use std::time::{Duration, Instant};

use signer::service::Limits;
use tokio::task::JoinSet;

use super::harness::{Answer, Authority, Client, POLICY, config, open, start, start_with};

/// One question that the made-up module never answers, and eight that wait behind it.
const PLACES: usize = 9;

/// Asks until there are no places; what comes back with them is the answer to one too many.
async fn flood(connect: impl AsyncFn() -> Client) -> (JoinSet<Answer>, Answer) {
    let mut asking = JoinSet::new();
    for _ in 0..=PLACES {
        let mut client = connect().await;
        client.send(b"GET /attestation?nonce=fe HTTP/1.1\r\nHost: signer\r\n\r\n").await.unwrap();
        asking.spawn(async move { client.answer().await.unwrap() });
    }
    let turned_away = asking.join_next().await.unwrap().unwrap();
    (asking, turned_away)
}

#[tokio::test]
async fn a_client_that_floods_is_turned_away_and_another_one_is_answered() {
    let authority = Authority::new();
    let clients = "[[clients]]\nname = \"flood.example\"\n[[clients]]\nname = \"pay.example\"\n";
    let server = start(config(&format!("client_ca = \"\"\"\n{}\"\"\"\n{clients}{POLICY}", authority.pem))).await;
    let connect = async |name: &str| server.connect_as(Some(authority.issue(name, |_| {}))).await.unwrap();
    let (_flood, turned_away) = flood(async || connect("flood.example").await).await;
    assert_eq!(turned_away.error(), (429, "busy".into(), None));
    assert!(turned_away.head.contains("retry-after: 1"), "{}", turned_away.head);
    assert_eq!(connect("pay.example").await.get("/attestation?nonce=00").await.status, 200);
}

#[tokio::test]
async fn an_address_that_floods_is_turned_away_and_another_one_is_answered() {
    let server = start(open()).await;
    let (flood, turned_away) = flood(async || server.connect().await).await;
    assert_eq!(turned_away.error(), (429, "busy".into(), None));
    assert_eq!(server.connect_from([127, 0, 0, 2]).await.get("/attestation?nonce=00").await.status, 200);
    // Those who leave make room.
    drop(flood);
    let start = Instant::now();
    while server.connect().await.get("/attestation?nonce=00").await.status != 200 {
        assert!(start.elapsed() < Duration::from_secs(10), "its line is still full");
    }
}

#[tokio::test]
async fn nobody_waits_long_for_a_turn_that_does_not_come() {
    let server = start_with(open(), Limits { turn: Duration::from_millis(100), ..Limits::default() }).await;
    let start = Instant::now();
    let mut asking = JoinSet::new();
    for _ in 0..5 {
        let mut client = server.connect().await;
        asking.spawn(async move { client.get("/attestation?nonce=fe").await.error() });
    }
    for _ in 1..5 {
        assert_eq!(asking.join_next().await.unwrap().unwrap(), (429, "busy".into(), None));
    }
    assert!(start.elapsed() < Duration::from_secs(10));
}
