//! Calls to hubs: right ones, and every kind of wrong one.

mod hub;
mod service;

use std::time::{Duration, Instant};

use binding::home::Binding;
use home::exchange::send;
use home::message::Message;
use rcgen::{BasicConstraints, IsCa, date_time_ymd};
use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};
use signer::service::{Limits, Patience};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use crate::harness::{ADDRESS, SECOND, open, sign_body};
use hub::{Calling, Certificates, Hub, PATIENCE, call, impatience, patience, self_signed};

async fn calling(hub: &Hub) -> Calling {
    call(&hub.table, open(), Limits::default(), &patience()).await
}

/// Sends a request and returns the answer's status and text.
async fn request(stream: &mut TlsStream<TcpStream>, head: &str, body: &str) -> (u16, String) {
    let text = format!("{head} HTTP/1.1\r\nHost: signer\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(text.as_bytes()).await.unwrap();
    let head = head_of_answer(stream).await;
    let len = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
    let mut body = vec![0; len];
    stream.read_exact(&mut body).await.unwrap();
    (head[9..12].parse().unwrap(), String::from_utf8(body).unwrap())
}

async fn head_of_answer(stream: &mut TlsStream<TcpStream>) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(PATIENCE, stream.read_u8()).await.expect("no answer").unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// Waits until the enclave has closed.
async fn closed(mut stream: impl tokio::io::AsyncRead + Unpin) {
    let mut rest = Vec::new();
    // A reset is an end, too.
    let _end = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("still open");
}

#[tokio::test]
async fn the_document_binds_the_hubs_nonce_this_connection_and_the_configuration() {
    let hub = Hub::start().await;
    let calling = calling(&hub).await;
    let mut exporters = Vec::new();
    for _ in 0..2 {
        // The same nonce: what differs is the connection.
        let (stream, document, exporter) = hub.ask([7; 32]).await;
        let (user_data, nonce) = document.split_at(Binding::LEN);
        assert_eq!(Binding::decode(user_data), Ok(Binding { exporter, config: [9; 32] }));
        assert_eq!(nonce, [7; 32]);
        exporters.push(exporter);
        drop(stream);
    }
    assert_ne!(exporters[0], exporters[1]);
    calling.says("receive the hub's verdict").await;
}

#[tokio::test]
async fn a_hub_may_ask_what_its_table_permits_even_where_clients_may_ask_anything() {
    let hub = Hub::start().await;
    let table = format!("{}secret_ids = [\"prod/wallet\"]\n", hub.table);
    let calling = call(&table, open(), Limits::default(), &patience()).await;
    let mut stream = hub.accept().await;
    calling.says("home: connected").await;
    assert_eq!(request(&mut stream, "GET /health", "").await.0, 200);
    let (status, signed) = request(&mut stream, "POST /", &sign_body(0, "prod/wallet")).await;
    assert!(status == 200 && signed.contains("transaction_signed"), "{signed}");
    let (status, refused) = request(&mut stream, "POST /", &sign_body(1, "prod/other")).await;
    assert!(status == 403 && refused.contains("home hub.test:"), "{refused}");
    assert_eq!(request(&mut stream, "POST /keys", "{}").await.0, 403);
    let (_, metrics) = request(&mut stream, "GET /metrics", "").await;
    assert!(metrics.contains(&format!("signer_home_connections{{client=\"home hub.test:{}\"}} 1\n", hub.port)));
    // In open mode a client has more.
    assert_eq!(calling.server.connect().await.sign(1, "prod/other").await.status, 200);
}

#[tokio::test]
async fn a_hub_without_a_permission_may_look_only() {
    let hub = Hub::start().await;
    let _calling = calling(&hub).await;
    let mut stream = hub.accept().await;
    let (status, refused) = request(&mut stream, "POST /", &sign_body(0, "prod/wallet")).await;
    assert!(status == 403 && refused.contains("may not sign with any key"), "{refused}");
    assert_eq!(request(&mut stream, "GET /health", "").await.0, 200);
}

#[tokio::test]
async fn servers_that_are_not_the_hub_are_refused_by_name_and_called_again() {
    let (own, foreign) = (Certificates::new(), Certificates::new());
    let expired = |params: &mut rcgen::CertificateParams| params.not_after = date_time_ymd(2020, 1, 1);
    let unsigned = self_signed(|_| ()).0;
    let mut no_alpn = own.tls("hub.test", &[&TLS13], |_| ()).0;
    no_alpn.alpn_protocols.clear();
    let mut web = own.tls("hub.test", &[&TLS13], |_| ()).0;
    web.alpn_protocols = vec![b"http/1.1".to_vec()];
    for (tls, expected) in [
        (own.tls("other.test", &[&TLS13], |_| ()).0, "not valid for name \"hub.test\""),
        (own.tls("hub.test", &[&TLS13], expired).0, "certificate expired"),
        // Its CA has the same name.
        (foreign.tls("hub.test", &[&TLS13], |_| ()).0, "invalid peer certificate: BadSignature"),
        (unsigned, "invalid peer certificate: UnknownIssuer"),
        (own.tls("hub.test", &[&TLS12], |_| ()).0, "expected TLS 1.3: received fatal alert: ProtocolVersion"),
        (no_alpn, "the server does not speak this protocol, expected `wallet hub`"),
        (web, "NoApplicationProtocol"),
    ] {
        let hub = Hub::with(Some(tls), &own.ca).await;
        let calling = calling(&hub).await;
        for _ in 0..2 {
            if let Ok(stream) = hub.shake_hands().await {
                closed(stream).await;
            }
        }
        calling.says(expected).await;
        assert!(!calling.has_said("home: connected"));
    }
}

#[tokio::test]
async fn a_hubs_own_certificate_is_not_taken_for_a_ca() {
    // As `openssl req -x509` makes it.
    let (tls, certificate) = self_signed(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    let hub = Hub::with(Some(tls), &certificate).await;
    let calling = calling(&hub).await;
    assert!(hub.shake_hands().await.is_err());
    calling.says("invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))").await;
}

#[tokio::test]
async fn a_pinned_key_is_enough_whatever_the_certificate_says_and_another_key_is_refused() {
    let certificates = Certificates::new();
    let expired = |params: &mut rcgen::CertificateParams| params.not_after = date_time_ymd(2020, 1, 1);
    let (tls, key) = certificates.tls("other.test", &[&TLS13], expired);
    let hub = Hub::with(Some(tls), &certificates.ca).await;
    let table = |key: [u8; 32]| {
        let digits: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("url = \"https://hub.test:{}\"\nconnections = 1\nkey_sha256 = \"{digits}\"\n", hub.port)
    };
    let right = call(&table(key), open(), Limits::default(), &patience()).await;
    let mut stream = hub.accept().await;
    assert_eq!(request(&mut stream, "GET /health", "").await.0, 200);
    drop((right, stream));
    let wrong = call(&table([1; 32]), open(), Limits::default(), &patience()).await;
    assert!(hub.shake_hands().await.is_err());
    wrong.says("the server has another key, expected that of key_sha256").await;
}

#[tokio::test]
async fn a_hub_speaks_json_rpc_with_its_own_permissions() {
    let hub = Hub::start().await;
    let table = format!("{}secret_ids = [\"prod/wallet\"]\n", hub.table);
    let calling = call(&table, open(), Limits::default(), &patience()).await;
    let mut stream = hub.accept().await;
    let accounts = r#"{"jsonrpc": "2.0", "id": 1, "method": "eth_accounts"}"#;
    let expected = format!(r#"{{"jsonrpc":"2.0","id":1,"result":["{ADDRESS}"]}}"#);
    assert_eq!(request(&mut stream, "POST /", accounts).await, (200, expected));
    let foreign = format!(
        r#"[{{"jsonrpc": "2.0", "id": 2, "method": "eth_signTransaction", "params": [{{"from": "{SECOND}", "to": "{SECOND}",
        "gas": "0x5208", "nonce": "0x0", "gasPrice": "0x1"}}]}}]"#
    );
    let (status, answer) = request(&mut stream, "POST /chain/4", &foreign).await;
    assert!(status == 200 && answer.contains("-32011"), "{answer}");
    let own = foreign.replacen(SECOND, ADDRESS, 1);
    let (status, answer) = request(&mut stream, "POST /chain/4/geth", &own).await;
    assert!(status == 200 && answer.contains(r#""raw":"0x"#), "{answer}");
    drop(calling);
}

#[tokio::test]
async fn hubs_that_break_the_proof_are_named_left_and_called_again() {
    enum Does {
        Nothing,
        Sends(Vec<u8>),
        Closes,
        Refuses,
        Stalls,
        Repeats,
    }
    let nonce = Message::Nonce([7; 32]).encode().unwrap();
    for (does, expected) in [
        (Does::Nothing, "receive the hub's nonce: nothing within 1s"),
        (Does::Sends(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()), "receive the hub's nonce: a message of kind 72"),
        (Does::Sends(vec![3, 0, 0, 0]), "a Accepted message, expected a nonce"),
        (Does::Sends(nonce[..20].to_vec()), "receive the hub's nonce: nothing within 1s"),
        (Does::Sends(vec![0; 8 << 20]), "a message of kind 0, expected 1 to 4"),
        (Does::Closes, "receive the hub's nonce: receive a message: "),
        (Does::Refuses, "the hub refuses this enclave: PCR2 is another"),
        (Does::Stalls, "receive the hub's verdict: nothing within 1s"),
        (Does::Repeats, "a Nonce message, expected Accepted or Refused"),
    ] {
        let hub = Hub::start().await;
        let calling = call(&hub.table, open(), Limits::default(), &impatience()).await;
        for _ in 0..2 {
            match &does {
                Does::Nothing => closed(hub.shake_hands().await.unwrap()).await,
                Does::Sends(bytes) => {
                    let mut stream = hub.shake_hands().await.unwrap();
                    // An enclave that has gone resets the connection.
                    drop(stream.write_all(bytes).await);
                    closed(stream).await;
                }
                Does::Closes => drop(hub.shake_hands().await.unwrap()),
                Does::Refuses => {
                    let (mut stream, ..) = hub.ask([7; 32]).await;
                    send(&mut stream, &Message::refusal("PCR2 is another")).await.unwrap();
                    closed(stream).await;
                }
                Does::Stalls => closed(hub.ask([7; 32]).await.0).await,
                Does::Repeats => {
                    let (mut stream, ..) = hub.ask([7; 32]).await;
                    send(&mut stream, &Message::Nonce([8; 32])).await.unwrap();
                    closed(stream).await;
                }
            }
        }
        calling.says(expected).await;
        assert!(!calling.has_said("home: connected"), "{expected}");
    }
}

#[tokio::test]
async fn names_and_hosts_that_do_not_answer_are_named() {
    let hub = Hub::with(None, &Certificates::new().ca).await;
    for (host, expected) in [
        ("nowhere.test", "resolve nowhere.test: no addresses, expected at least one"),
        ("silent.test", "resolve silent.test: nothing within 1s"),
    ] {
        let calling = call(&hub.table.replace("hub.test", host), open(), Limits::default(), &impatience()).await;
        calling.says(expected).await;
    }
    // It takes the call and says nothing.
    let calling = call(&hub.table, open(), Limits::default(), &impatience()).await;
    closed(hub.accept_tcp().await).await;
    closed(hub.accept_tcp().await).await;
    calling.says("expected TLS 1.3: nothing within 1s").await;
}

#[tokio::test]
async fn eight_addresses_of_a_hub_are_called_one_after_the_other_and_no_more() {
    let hub = Hub::with(None, &Certificates::new().ca).await;
    // Nobody listens at any address but the last.
    let calling = call(&hub.table.replace("hub.test", "eight.test"), open(), Limits::default(), &impatience()).await;
    drop(hub.accept_tcp().await);
    drop(calling);
    let calling = call(&hub.table.replace("hub.test", "nine.test"), open(), Limits::default(), &impatience()).await;
    let last = format!("connect to https://nine.test:{} at 127.0.0.9: Connection refused", hub.port);
    calling.says(&last).await;
}

#[tokio::test]
async fn a_hub_that_takes_no_calls_is_given_up() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = socket.listen(0).unwrap();
    let address = full.local_addr().unwrap();
    // Linux drops the calls for which a queue has no room.
    let mut calls = Vec::new();
    while let Ok(connected) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
        calls.push(connected.unwrap());
    }
    let key = "01".repeat(32);
    let table = format!("url = \"https://hub.test:{}\"\nconnections = 1\nkey_sha256 = \"{key}\"\n", address.port());
    let calling = call(&table, open(), Limits::default(), &impatience()).await;
    calling.says(&format!("connect to https://hub.test:{} at 127.0.0.1: nothing within 1s", address.port())).await;
}

#[tokio::test]
async fn a_session_is_never_resumed_although_the_hub_offers_it() {
    let certificates = Certificates::new();
    let (mut tls, _) = certificates.tls("hub.test", &[&TLS13], |_| ());
    tls.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
    let hub = Hub::with(Some(tls), &certificates.ca).await;
    let calling = calling(&hub).await;
    for _ in 0..3 {
        let mut stream = hub.accept().await;
        // So that it has read the tickets.
        assert_eq!(request(&mut stream, "GET /health", "").await.0, 200);
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
    }
    calling.says("home: connected").await;
}

#[tokio::test]
async fn a_hub_that_is_silent_for_too_long_is_left_and_called_again() {
    let hub = Hub::start().await;
    let short = Patience { silence: Duration::from_millis(200), ..patience() };
    let calling = call(&hub.table, open(), Limits::default(), &short).await;
    closed(hub.accept().await).await;
    closed(hub.accept().await).await;
    drop(calling);
}

#[tokio::test]
async fn a_connection_that_is_too_old_is_closed_and_made_again() {
    let hub = Hub::start().await;
    let short = Patience { age: Duration::from_millis(200), ..patience() };
    let calling = call(&hub.table, open(), Limits::default(), &short).await;
    for _ in 0..2 {
        let mut stream = hub.accept().await;
        assert_eq!(request(&mut stream, "GET /health", "").await.0, 200);
        closed(stream).await;
    }
    drop(calling);
}

#[tokio::test]
async fn a_hub_that_floods_and_does_not_read_is_cut_off_and_holds_up_nobody() {
    let hub = Hub::start().await;
    let limits = Limits { write: Duration::from_millis(200), ..Limits::default() };
    let calling = call(&hub.table, open(), limits, &patience()).await;
    let mut stream = hub.accept().await;
    let flood = b"GET /metrics HTTP/1.1\r\nHost: signer\r\n\r\n".repeat(1000);
    let cut_off = async { while stream.write_all(&flood).await.is_ok() {} };
    let asking = async {
        let start = Instant::now();
        let mut client = calling.server.connect().await;
        for nonce in 0..10 {
            assert_eq!(client.sign(nonce, "prod/wallet").await.status, 200);
        }
        assert!(start.elapsed() < PATIENCE / 2);
    };
    timeout(PATIENCE, async { tokio::join!(cut_off, asking) }).await.expect("not cut off");
    assert_eq!(request(&mut hub.accept().await, "GET /health", "").await.0, 200);
}

#[tokio::test]
async fn shutdown_ends_calls_in_every_state() {
    let (serving, silent) = (Hub::start().await, Hub::start().await);
    for hub in [&serving, &silent] {
        let patient = Patience { message: PATIENCE, ..patience() };
        let calling = call(&hub.table, open(), Limits::default(), &patient).await;
        let stream = if std::ptr::eq(hub, &serving) { hub.accept().await } else { hub.shake_hands().await.unwrap() };
        calling.shutdown.cancel();
        let start = Instant::now();
        closed(stream).await;
        calling.ended().await;
        assert!(start.elapsed() < PATIENCE / 2);
    }
}
