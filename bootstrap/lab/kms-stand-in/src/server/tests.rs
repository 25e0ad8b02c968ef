//! Slow and greedy clients. Time is paused and advances when all tasks are idle.

use std::path::Path;

use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::config::Config;

const CONFIG: &str = r#"
region = "eu-central-1"
[[access_keys]]
id = "AKIATESTONLY"
secret = "TEST ONLY secret"
principal = "arn:aws:iam::111122223333:root"
[[keys]]
arn = "arn:aws:kms:eu-central-1:111122223333:key/01234567-89ab-cdef-0123-456789abcdef"
policy = '''{"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*"}]}'''
"#;

/// A server, and a client that trusts its certificate.
struct Site {
    address: SocketAddr,
    certificate: CertificateDer<'static>,
    _servers: JoinSet<io::Result<Infallible>>,
}

impl Site {
    async fn new() -> Self {
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let tls = crate::tls::server_config(&certified.cert.pem(), &certified.signing_key.serialize_pem()).unwrap();
        let stand_in = StandIn::new(Config::parse(CONFIG, Path::new("")).unwrap()).unwrap();
        let server = Server::bind("127.0.0.1:0".parse().unwrap(), tls, stand_in.into()).await.unwrap();
        let address = server.address();
        let mut servers = JoinSet::new();
        servers.spawn(server.run());
        Self { address, certificate: certified.cert.der().clone(), _servers: servers }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn shake_hands(&self) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect(ServerName::try_from("localhost").unwrap(), self.connect().await).await.unwrap()
    }
}

/// The rest of the server's answer, and the time until it closes the connection.
async fn rest(mut stream: impl AsyncRead + Unpin) -> (String, Duration) {
    let start = Instant::now();
    let mut said = Vec::new();
    // A connection may end without close_notify.
    timeout(6 * DEADLINE, stream.read_to_end(&mut said)).await.unwrap().ok();
    (String::from_utf8(said).unwrap(), start.elapsed())
}

#[track_caller]
fn assert_given_up(elapsed: Duration) {
    assert!((DEADLINE..2 * DEADLINE).contains(&elapsed), "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_client_without_a_handshake_is_disconnected() {
    let site = Site::new().await;
    let (said, elapsed) = rest(site.connect().await).await;
    assert_eq!(said, "");
    assert_given_up(elapsed);
}

#[tokio::test(start_paused = true)]
async fn a_client_without_headers_is_disconnected() {
    let site = Site::new().await;
    let mut stream = site.shake_hands().await;
    stream.write_all(b"POST / HTTP/1.1\r\n").await.unwrap();
    stream.flush().await.unwrap();
    assert_given_up(rest(stream).await.1);
}

#[tokio::test(start_paused = true)]
async fn a_client_with_half_a_body_is_disconnected() {
    let site = Site::new().await;
    let mut stream = site.shake_hands().await;
    stream.write_all(b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n{").await.unwrap();
    stream.flush().await.unwrap();
    let (said, elapsed) = rest(stream).await;
    assert_eq!(said, "");
    assert_given_up(elapsed);
}

#[tokio::test(start_paused = true)]
async fn a_body_without_a_signature_is_refused_and_the_connection_goes_on() {
    let site = Site::new().await;
    let mut stream = site.shake_hands().await;
    stream.write_all(b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    stream.flush().await.unwrap();
    let (said, _) = rest(stream).await;
    assert_eq!(said.matches("MissingAuthenticationTokenException").count(), 2, "{said}");
}

#[tokio::test(start_paused = true)]
async fn connections_over_the_limit_wait() {
    let site = Site::new().await;
    let mut crowd = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        crowd.push(site.connect().await);
    }
    timeout(DEADLINE / 2, site.shake_hands()).await.err().unwrap();
    drop(crowd);
    timeout(DEADLINE / 2, site.shake_hands()).await.unwrap();
}
