//! Who is let in, and to what.

use rcgen::{ExtendedKeyUsagePurpose, date_time_ymd};
use rustls::version::{TLS12, TLS13};
use signer::config::Config;
use signer::service::Limits;

use super::harness::{
    ADDRESS, Authority, Client, ClientIdentity, POLICY, Server, config, open, sign_body, start, start_with,
};

fn with_clients(authority: &Authority) -> Config {
    config(&format!(
        r#"client_ca = """
{}"""
[[clients]]
name = "pay.example"
secret_ids = ["prod/wallet"]
[[clients]]
name = "bring.example"
addresses = ["{ADDRESS}"]
generate_key = true
[[clients]]
name = "metrics.example"
{POLICY}"#,
        authority.pem
    ))
}

/// With TLS 1.3 a client learns only after its handshake that it is refused.
async fn is_refused(server: &Server, identity: Option<ClientIdentity>) -> bool {
    let Ok(mut client) = server.connect_as(identity).await else { return true };
    let sent = client.send(b"GET /health HTTP/1.1\r\nHost: signer\r\n\r\n").await;
    sent.is_err() || client.answer().await.is_err()
}

#[tokio::test]
async fn a_client_that_speaks_tls_1_2_only_is_refused() {
    let server = start(open()).await;
    assert!(server.connect_with(None, &[&TLS12]).await.is_err());
    assert!(server.connect_with(None, &[&TLS12, &TLS13]).await.is_ok());
}

#[tokio::test]
async fn a_client_without_tls_is_refused() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let server = start(open()).await;
    let mut tcp = tokio::net::TcpStream::connect(server.address).await.unwrap();
    tcp.write_all(b"GET /health HTTP/1.1\r\nHost: signer\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _end = tcp.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"));
}

#[tokio::test]
async fn a_client_with_a_certificate_of_the_ca_is_let_in() {
    let authority = Authority::new();
    let server = start(with_clients(&authority)).await;
    assert!(!is_refused(&server, Some(authority.issue("pay.example", |_| ()))).await);
}

#[tokio::test]
async fn a_client_without_a_certificate_may_ask_for_its_health_and_for_nothing_else() {
    let server = start(with_clients(&Authority::new())).await;
    for path in ["/health", "/health/", "/healthz", "/healthz/?verbose=1"] {
        assert_eq!(server.connect().await.get(path).await.status, 200, "{path}");
    }
    let mut client = server.connect().await;
    for path in ["/metrics", "/attestation?nonce=00", "/", "/keys", "/x", "/health/x", "//health"] {
        let answer = client.get(path).await;
        assert_eq!(answer.error(), (403, "forbidden".into(), None), "{path}");
        let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.starts_with("no client certificate, expected one"), "{message}");
    }
    assert_eq!(client.post("/health", "").await.status, 405);
    // The body never comes, and is not waited for.
    let start = std::time::Instant::now();
    for path in ["/", "/keys"] {
        let mut client = server.connect().await;
        let head = format!("POST {path} HTTP/1.1\r\nHost: signer\r\nContent-Length: 100\r\n\r\n");
        client.send(head.as_bytes()).await.unwrap();
        assert_eq!(client.answer().await.unwrap().error(), (403, "forbidden".into(), None), "{path}");
    }
    assert!(start.elapsed() < Limits::default().body / 2);
    assert_eq!(server.fetches.load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[tokio::test]
async fn clients_without_certificates_take_no_seats_of_those_who_have_one() {
    let authority = Authority::new();
    let limits = Limits { connections: 8, unproven: 4, ..Limits::default() };
    let server = start_with(with_clients(&authority), limits).await;
    let mut known = Vec::new();
    for _ in 0..4 {
        let mut client = client(&server, &authority, "pay.example").await;
        assert_eq!(client.sign(0, "prod/wallet").await.status, 200);
        known.push(client);
    }
    let mut nobodies = Vec::new();
    for _ in 0..20 {
        let mut client = server.connect().await;
        assert_eq!(client.get("/health").await.status, 200);
        nobodies.push(client);
    }
    for client in &mut known {
        assert_eq!(client.sign(0, "prod/wallet").await.status, 200);
    }
    nobodies.remove(0).closed().await;
}

#[tokio::test]
async fn a_client_with_a_certificate_of_another_ca_is_refused() {
    let server = start(with_clients(&Authority::new())).await;
    assert!(is_refused(&server, Some(Authority::new().issue("pay.example", |_| ()))).await);
}

#[tokio::test]
async fn a_client_with_an_expired_or_future_certificate_is_refused() {
    let authority = Authority::new();
    let server = start(with_clients(&authority)).await;
    let expired = authority.issue("pay.example", |params| params.not_after = date_time_ymd(2020, 1, 1));
    assert!(is_refused(&server, Some(expired)).await);
    let future = authority.issue("pay.example", |params| params.not_before = date_time_ymd(2090, 1, 1));
    assert!(is_refused(&server, Some(future)).await);
}

#[tokio::test]
async fn a_servers_certificate_makes_no_client() {
    let authority = Authority::new();
    let server = start(with_clients(&authority)).await;
    let purposes = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let servers = authority.issue("pay.example", |params| params.extended_key_usages = purposes);
    assert!(is_refused(&server, Some(servers)).await);
}

#[tokio::test]
async fn a_session_is_not_resumed() {
    let server = start(open()).await;
    let mut client = server.connect().await;
    client.get("/health").await;
    assert_eq!(client.stream.get_ref().1.tls13_tickets_received(), 0);
}

async fn client(server: &Server, authority: &Authority, name: &str) -> Client {
    server.connect_as(Some(authority.issue(name, |_| ()))).await.unwrap()
}

#[tokio::test]
async fn a_client_signs_with_its_own_secrets_only() {
    let authority = Authority::new();
    let server = start(with_clients(&authority)).await;
    let mut client = client(&server, &authority, "pay.example").await;
    assert_eq!(client.sign(0, "prod/wallet").await.status, 200);
    assert_eq!(client.sign(0, "prod/other").await.error(), (403, "forbidden".into(), None));
    assert_eq!(server.fetches.load(std::sync::atomic::Ordering::Relaxed), 1, "another's key was fetched");
    assert_eq!(client.post("/keys", "").await.error(), (403, "forbidden".into(), None));
}

#[tokio::test]
async fn a_client_with_addresses_signs_with_these_keys_only() {
    use base64::Engine;
    let authority = Authority::new();
    let server = start(with_clients(&authority)).await;
    let mut client = client(&server, &authority, "bring.example").await;
    assert_eq!(client.sign(0, "prod/other").await.status, 200);
    let other = base64::engine::general_purpose::STANDARD.encode("1".repeat(64));
    let body = sign_body(0, "x").replace("\"secret_id\": \"x\"", &format!("\"encrypted_key\": \"{other}\""));
    // Twice: in memory it is no more allowed than when it was fetched.
    for _ in 0..2 {
        assert_eq!(client.post("/", &body).await.error(), (403, "forbidden".into(), None));
    }
    assert_eq!(client.post("/keys", "").await.status, 200);
}

#[tokio::test]
async fn a_certificate_without_a_configured_name_may_look_only() {
    let authority = Authority::new();
    let server = start(with_clients(&authority)).await;
    let mut client = client(&server, &authority, "stranger.example").await;
    assert_eq!(client.get("/health").await.status, 200);
    assert_eq!(client.get("/attestation?nonce=00").await.status, 200);
    assert_eq!(client.sign(0, "prod/wallet").await.error(), (403, "forbidden".into(), None));
    assert_eq!(client.post("/keys", "").await.error(), (403, "forbidden".into(), None));
    assert_eq!(client.get("/metrics").await.error(), (403, "forbidden".into(), None));
}

#[tokio::test]
async fn a_body_is_read_only_of_who_may_have_it_read() {
    let authority = Authority::new();
    let server = start(with_clients(&authority)).await;
    for (name, path) in [("stranger.example", "/"), ("metrics.example", "/"), ("pay.example", "/keys")] {
        let mut client = client(&server, &authority, name).await;
        // The body never comes: who waits for it does not answer.
        let head = format!("POST {path} HTTP/1.1\r\nHost: signer\r\nContent-Length: 100\r\n\r\n");
        let start = std::time::Instant::now();
        client.send(head.as_bytes()).await.unwrap();
        assert_eq!(client.answer().await.unwrap().error(), (403, "forbidden".into(), None), "{name}");
        assert!(start.elapsed() < Limits::default().body / 2, "{name}");
    }
}

#[tokio::test]
async fn a_client_without_keys_reads_metrics() {
    let authority = Authority::new();
    let server = start(with_clients(&authority)).await;
    let mut client = client(&server, &authority, "metrics.example").await;
    assert_eq!(client.get("/metrics").await.status, 200);
    assert_eq!(client.sign(0, "prod/wallet").await.status, 403);
}
