//! A hub whose requests are for a service in the enclave.

use std::time::Duration;

use signer::service::Limits;
use signer_api::request::MAX_BODY;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::hub::{Calling, Hub, call, patience};
use super::{head_of_answer, request};
use crate::harness::{open, sign_body};

/// A service that says what it was asked, or what `answer` says.
async fn service(answer: Option<&'static str>) -> (u16, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            drop(serve(stream, answer).await);
        }
    });
    (port, tasks)
}

async fn serve(mut stream: TcpStream, answer: Option<&'static str>) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let len = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; len.map_or(0, |len| len.parse().unwrap())];
    stream.read_exact(&mut body).await?;
    let said = format!("{}|{}", head.trim_end().replace("\r\n", "|"), String::from_utf8(body).unwrap());
    let said = match answer {
        Some(answer) => answer.to_owned(),
        None => format!("HTTP/1.1 201 Created\r\nX-Service: 1\r\nContent-Length: {}\r\n\r\n{said}", said.len()),
    };
    stream.write_all(said.as_bytes()).await
}

async fn calling(hub: &Hub, port: u16, limits: Limits) -> Calling {
    let table = format!("{}service = \"hello\"\nport = {port}\n", hub.table);
    call(&table, open(), limits, &patience()).await
}

#[tokio::test]
async fn its_requests_go_to_the_port_and_nowhere_else() {
    let (hub, (port, _service)) = (Hub::start().await, service(None).await);
    let calling = calling(&hub, port, Limits::default()).await;
    let mut stream = hub.accept().await;
    let (status, said) = request(&mut stream, "POST /a/b?c=%2F", "body").await;
    assert_eq!(status, 201);
    assert!(said.starts_with("post /a/b?c=%2f http/1.1|") && said.ends_with("|body"), "{said}");
    assert!(said.contains("|host: localhost|"), "{said}");
    // What the signer would answer, the service does.
    for head in ["GET /health", "GET /metrics", "GET /attestation?nonce=00", "POST /keys"] {
        let (status, said) = request(&mut stream, head, "").await;
        assert!(status == 201 && said.starts_with(&head.to_ascii_lowercase()), "{status} {said}");
    }
    let (status, said) = request(&mut stream, "POST /", &sign_body(0, "prod/wallet")).await;
    assert!(status == 201 && !said.contains("transaction_signed"), "{status} {said}");
    // In open mode a client has it, and nobody counted the hub's as the signer's.
    let mut client = calling.server.connect().await;
    let page = String::from_utf8(client.get("/metrics").await.body).unwrap();
    assert!(page.contains("signer_requests_total{outcome=\"ok\",route=\"service\"} 6\n"), "{page}");
    assert!(page.contains("signer_signatures_total 0\n"), "{page}");
}

#[tokio::test]
async fn headers_about_the_connection_to_the_hub_stay_on_it() {
    let (hub, (port, _service)) = (Hub::start().await, service(None).await);
    let _calling = calling(&hub, port, Limits::default()).await;
    let mut stream = hub.accept().await;
    let headers = "Expect: 100-continue\r\nConnection: X-Mine\r\nX-Mine: 1\r\nTE: trailers\r\nX-Passes: 2";
    let (status, said) = request(&mut stream, &format!("GET / HTTP/1.1\r\n{headers}\r\nX-Last:"), "").await;
    assert!(status == 201 && said.contains("|x-passes: 2|"), "{status} {said}");
    for name in ["expect", "connection", "x-mine", "te"] {
        assert!(!said.contains(&format!("|{name}:")), "{name}: {said}");
    }
}

#[tokio::test]
async fn headers_about_the_connection_to_the_service_stay_on_it() {
    let answer = "HTTP/1.1 200 OK\r\nConnection: X-Mine\r\nX-Mine: 1\r\nX-Passes: 2\r\nContent-Length: 0\r\n\r\n";
    let (hub, (port, _service)) = (Hub::start().await, service(Some(answer)).await);
    let _calling = calling(&hub, port, Limits::default()).await;
    let mut stream = hub.accept().await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let head = head_of_answer(&mut stream).await;
    assert!(head.contains("\r\nx-passes: 2\r\n") && !head.contains("x-mine") && !head.contains("connection"), "{head}");
}

#[tokio::test]
async fn connect_and_trace_are_not_passed_on() {
    let (hub, (port, _service)) = (Hub::start().await, service(None).await);
    let _calling = calling(&hub, port, Limits::default()).await;
    let mut stream = hub.accept().await;
    for head in ["TRACE /", "CONNECT localhost:80"] {
        let (status, said) = request(&mut stream, head, "").await;
        assert!(status == 405 && said.contains("method_not_allowed"), "{head}: {status} {said}");
    }
}

#[tokio::test]
async fn the_answer_to_head_has_the_length_of_the_body_that_it_lacks() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n";
    let (hub, (port, _service)) = (Hub::start().await, service(Some(answer)).await);
    let _calling = calling(&hub, port, Limits::default()).await;
    let mut stream = hub.accept().await;
    for _ in 0..2 {
        stream.write_all(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let head = head_of_answer(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("content-length: 1234"), "{head}");
    }
}

#[tokio::test]
async fn a_service_that_is_not_there_is_named() {
    let hub = Hub::start().await;
    // Nobody listens on a port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let _calling = calling(&hub, port, Limits::default()).await;
    let mut stream = hub.accept().await;
    let (status, said) = request(&mut stream, "GET /", "").await;
    assert_eq!(status, 502);
    assert!(said.contains(&format!("the service hello at port {port}: connect: Connection refused")), "{said}");
    // The connection to the hub stays.
    assert_eq!(request(&mut stream, "GET /", "").await.0, 502);
}

#[tokio::test]
async fn a_service_has_the_limits_of_the_signer() {
    let (hub, (port, _service)) = (Hub::start().await, service(None).await);
    let _calling = calling(&hub, port, Limits::default()).await;
    let mut stream = hub.accept().await;
    let (status, said) = request(&mut stream, "POST /", &"x".repeat(MAX_BODY)).await;
    assert!(status == 201 && said.len() > MAX_BODY, "{status}");
    stream
        .write_all(format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", MAX_BODY + 1).as_bytes())
        .await
        .unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 413");
}

#[tokio::test]
async fn an_answer_that_is_none_is_told_to_the_hub() {
    for (answer, expected) in [
        ("not HTTP\r\n\r\n", "invalid HTTP version parsed"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx", "end of file before message length reached"),
        ("", "connection closed before message completed"),
    ] {
        let (hub, (port, _service)) = (Hub::start().await, service(Some(answer)).await);
        let _calling = calling(&hub, port, Limits::default()).await;
        let (status, said) = request(&mut hub.accept().await, "GET /", "").await;
        assert!(status == 502 && said.contains("service_unavailable") && said.contains(expected), "{status} {said}");
    }
}

#[tokio::test]
async fn a_service_that_does_not_answer_is_given_up() {
    let hub = Hub::start().await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let limits = Limits { service: Duration::from_millis(300), ..Limits::default() };
    let _calling = calling(&hub, silent.local_addr().unwrap().port(), limits).await;
    let (status, said) = request(&mut hub.accept().await, "GET /", "").await;
    assert!(status == 504 && said.contains("the service hello did not answer within 300ms"), "{status} {said}");
}

#[tokio::test]
async fn an_answer_without_an_end_is_given_up() {
    let hub = Hub::start().await;
    let endless = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = endless.local_addr().unwrap().port();
    let mut service = JoinSet::new();
    service.spawn(async move {
        let (mut stream, _) = endless.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
    });
    let _calling = calling(&hub, port, Limits::default()).await;
    let (status, said) = request(&mut hub.accept().await, "GET /", "").await;
    assert!(status == 502 && said.contains("an answer of more than 1048576 bytes"), "{status} {said}");
}
