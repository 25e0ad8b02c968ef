//! Clients that send too much, too slowly, or nothing; and the end.

use std::time::{Duration, Instant};

use signer::service::Limits;
use signer_api::request::MAX_BODY;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};

use super::harness::{Server, open, sign_body, start, start_with};

/// A limit that a test waits for.
const SHORT: Duration = Duration::from_millis(200);

const TEN_MB: usize = 10 << 20;

#[tokio::test]
async fn a_body_of_10_mb_is_refused_before_it_is_read() {
    let server = start(open()).await;
    let mut client = server.connect().await;
    client
        .send(format!("POST / HTTP/1.1\r\nHost: signer\r\nContent-Length: {TEN_MB}\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let answer = client.answer().await.unwrap();
    assert_eq!(answer.error(), (413, "too_large".into(), None));
    assert!(answer.head.contains("connection: close"), "{}", answer.head);
}

#[tokio::test]
async fn a_client_that_sends_10_mb_before_it_reads_still_gets_its_answer() {
    let server = start(open()).await;
    let mut client = server.connect().await;
    let head = format!("POST / HTTP/1.1\r\nHost: signer\r\nContent-Length: {TEN_MB}\r\n\r\n");
    client.send(head.as_bytes()).await.unwrap();
    // Without somebody who still listens, this would end in a reset.
    client.send(&vec![b' '; TEN_MB]).await.unwrap();
    assert_eq!(client.answer().await.unwrap().error(), (413, "too_large".into(), None));
}

#[tokio::test]
async fn a_body_in_chunks_is_refused_where_it_becomes_too_long() {
    let server = start(open()).await;
    let mut client = server.connect().await;
    client.send(b"POST / HTTP/1.1\r\nHost: signer\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
    let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
    for _ in 0..=MAX_BODY / 0x10000 {
        client.send(&chunk).await.unwrap();
    }
    assert_eq!(client.answer().await.unwrap().error(), (413, "too_large".into(), None));
}

#[tokio::test]
async fn long_bodies_that_find_no_room_are_turned_away_and_ordinary_ones_are_not() {
    let server = start_with(open(), Limits { bodies: 0, ..Limits::default() }).await;
    let mut client = server.connect().await;
    let answer = client.post("/", &" ".repeat(20_000)).await;
    assert_eq!(answer.error(), (429, "busy".into(), None));
    assert!(answer.head.contains("retry-after: 1") && answer.head.contains("connection: close"), "{}", answer.head);
    assert_eq!(server.connect().await.sign(0, "prod/wallet").await.status, 200);
}

#[tokio::test]
async fn room_comes_back_when_a_long_body_has_been_answered() {
    let server = start_with(open(), Limits { bodies: MAX_BODY, ..Limits::default() }).await;
    let mut client = server.connect().await;
    for _ in 0..3 {
        let long = format!("{}{}", " ".repeat(MAX_BODY - 1000), sign_body(0, "prod/wallet"));
        assert_eq!(client.post("/", &long).await.status, 200);
    }
}

#[tokio::test]
async fn a_client_that_asks_and_never_reads_is_cut_off() {
    let server = start_with(open(), Limits { write: SHORT, ..Limits::default() }).await;
    let mut client = server.connect().await;
    let asking =
        async { while client.send(&b"GET /metrics HTTP/1.1\r\nHost: signer\r\n\r\n".repeat(50)).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(20), asking).await.expect("still served");
}

#[tokio::test]
async fn ten_thousand_levels_of_json_are_refused_quickly() {
    let server = start(open()).await;
    let mut client = server.connect().await;
    let start = Instant::now();
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let deep = format!("{}1{}", open.repeat(10_000), close.repeat(10_000));
        assert_eq!(client.post("/", &deep).await.status, 400);
        let answer = client.post("/", &sign_body(0, "a").replacen("0.01", &deep, 1)).await;
        assert_eq!(answer.error(), (400, "bad_request".into(), Some("transaction_payload.value".into())));
    }
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_slow_head_ends_the_connection() {
    let server = start_with(open(), Limits { head: SHORT, ..Limits::default() }).await;
    let mut client = server.connect().await;
    client.send(b"POST / HTTP/1.1\r\nHost: ").await.unwrap();
    assert!(!client.closed().await.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test]
async fn a_slow_body_is_answered_with_408() {
    let server = start_with(open(), Limits { body: SHORT, ..Limits::default() }).await;
    let mut client = server.connect().await;
    client.send(b"POST / HTTP/1.1\r\nHost: signer\r\nContent-Length: 100\r\n\r\n{").await.unwrap();
    assert_eq!(client.answer().await.unwrap().error(), (408, "timeout".into(), None));
    client.closed().await;
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let server = start_with(open(), Limits { head: SHORT, ..Limits::default() }).await;
    let mut client = server.connect().await;
    assert_eq!(client.get("/health").await.status, 200);
    client.closed().await;
    server.connect().await.closed().await;
}

#[tokio::test]
async fn a_client_that_never_shakes_hands_is_cut_off() {
    let server = start_with(open(), Limits { handshake: SHORT, ..Limits::default() }).await;
    let mut tcp = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let mut bytes = Vec::new();
    let _end = tokio::time::timeout(Duration::from_secs(10), tcp.read_to_end(&mut bytes)).await.expect("still open");
}

#[tokio::test]
async fn an_old_connection_is_closed_however_busy() {
    let server = start_with(open(), Limits { age: SHORT, ..Limits::default() }).await;
    let mut client = server.connect().await;
    let start = Instant::now();
    while client.send(b"GET /health HTTP/1.1\r\nHost: signer\r\n\r\n").await.is_ok() && client.answer().await.is_ok() {
        assert!(start.elapsed() < Duration::from_secs(10), "still open");
    }
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let server = start(open()).await;
    let mut client = server.connect().await;
    client
        .send(format!("GET /health HTTP/1.1\r\nHost: signer\r\nX: {}\r\n\r\n", "x".repeat(20_000)).as_bytes())
        .await
        .unwrap();
    assert_eq!(client.answer().await.unwrap().status, 431);
}

#[tokio::test]
async fn a_connection_too_many_takes_the_place_of_an_idle_one_and_of_no_busy_one() {
    let server = start_with(open(), Limits { connections: 1, ..Limits::default() }).await;
    let mut first = server.connect().await;
    assert_eq!(first.get("/health").await.status, 200);
    let mut second = server.connect().await;
    assert_eq!(second.get("/health").await.status, 200);
    first.closed().await;
    second.send(b"GET /attestation?nonce=fe HTTP/1.1\r\nHost: signer\r\n\r\n").await.unwrap();
    // Its request may still be on its way.
    let start = Instant::now();
    while server.connect_as(None).await.is_ok() {
        assert!(start.elapsed() < Duration::from_secs(10), "nobody is busy");
        second = server.connect().await;
        second.send(b"GET /attestation?nonce=fe HTTP/1.1\r\nHost: signer\r\n\r\n").await.unwrap();
        tokio::time::sleep(SHORT).await;
    }
}

/// Connections that say nothing, from that address of loopback.
async fn silence(server: &Server, count: usize, from: [u8; 4]) -> Vec<TcpStream> {
    let mut silent = Vec::new();
    for _ in 0..count {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        silent.push(socket.connect(server.address).await.unwrap());
    }
    silent
}

async fn metrics(server: &Server) -> String {
    String::from_utf8(server.connect().await.get("/metrics").await.body).unwrap()
}

#[tokio::test]
async fn silent_connections_shut_nobody_out_not_even_their_neighbours() {
    let server = start(open()).await;
    let mut client = server.connect().await;
    assert_eq!(client.get("/health").await.status, 200);
    let _silent = silence(&server, 600, [127, 0, 0, 1]).await;
    let _others = silence(&server, 600, [127, 0, 0, 2]).await;
    let start = Instant::now();
    assert_eq!(server.connect().await.sign(0, "prod/wallet").await.status, 200);
    assert_eq!(client.sign(0, "prod/wallet").await.status, 200, "one who was there before");
    assert!(start.elapsed() < Duration::from_secs(5));
    let page = metrics(&server).await;
    let closed = |reason: &str| {
        let line = format!("signer_connections_closed_total{{reason=\"{reason}\"}} ");
        page.lines().find_map(|has| has.strip_prefix(&line)).unwrap().parse::<u64>().unwrap()
    };
    assert!(closed("source_limit") + closed("unproven_limit") >= 1200 - 256, "{page}");
}

#[tokio::test]
async fn two_hundred_clients_of_one_address_that_take_their_time_are_all_served() {
    let server = start(open()).await;
    let waiting = silence(&server, 200, [127, 0, 0, 1]).await;
    let mut clients = tokio::task::JoinSet::new();
    for tcp in waiting {
        clients.spawn(async { Server::shake_hands(tcp).await.unwrap().get("/health").await.status });
    }
    assert_eq!(clients.join_all().await, [200; 200]);
    // On a small machine that is busy, a tenth of this was not enough.
    assert!(Limits::default().handshake >= Duration::from_mins(1));
}

#[tokio::test]
async fn a_handshake_that_is_too_slow_is_counted() {
    let server = start_with(open(), Limits { handshake: SHORT, ..Limits::default() }).await;
    for mut tcp in silence(&server, 3, [127, 0, 0, 1]).await {
        assert_eq!(tcp.read(&mut [0]).await.unwrap_or(0), 0);
    }
    let page = metrics(&server).await;
    assert!(page.contains("signer_connections_closed_total{reason=\"handshake_timeout\"} 3\n"), "{page}");
    assert!(page.contains("signer_connections{state=\"proven\"} 1\n"), "{page}");
}

#[tokio::test]
async fn at_the_end_connections_without_a_handshake_are_not_waited_for() {
    let server = start(open()).await;
    let _silent = silence(&server, 3, [127, 0, 0, 1]).await;
    assert_eq!(server.connect().await.get("/health").await.status, 200);
    let start = Instant::now();
    server.shutdown.cancel();
    server.ended().await;
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn at_the_end_idle_connections_close_and_new_ones_are_refused() {
    let server = start(open()).await;
    let address = server.address;
    let mut client = server.connect().await;
    assert_eq!(client.get("/health").await.status, 200);
    server.shutdown.cancel();
    let start = Instant::now();
    client.closed().await;
    server.ended().await;
    assert!(start.elapsed() < Duration::from_secs(5), "an idle connection kept the signer alive");
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn at_the_end_a_request_under_way_is_answered() {
    let server = start(open()).await;
    let mut client = server.connect().await;
    let body = sign_body(0, "prod/wallet");
    let head = format!("POST / HTTP/1.1\r\nHost: signer\r\nContent-Length: {}\r\n\r\n", body.len());
    client.send(head.as_bytes()).await.unwrap();
    client.send(&body.as_bytes()[..10]).await.unwrap();
    // So that the head is there for certain.
    server.connect().await.get("/health").await;
    server.shutdown.cancel();
    client.send(&body.as_bytes()[10..]).await.unwrap();
    assert_eq!(client.answer().await.unwrap().status, 200);
    client.closed().await;
    server.ended().await;
}

#[tokio::test]
async fn at_the_end_a_request_without_end_is_cut_off() {
    let server = start_with(open(), Limits { grace: SHORT, ..Limits::default() }).await;
    let mut client = server.connect().await;
    client.send(b"POST / HTTP/1.1\r\nHost: signer\r\nContent-Length: 100\r\n\r\n{").await.unwrap();
    server.connect().await.get("/health").await;
    let start = Instant::now();
    server.shutdown.cancel();
    server.ended().await;
    assert!(start.elapsed() < Duration::from_secs(5));
}
