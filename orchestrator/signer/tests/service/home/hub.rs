//! A hub of the tests' own, step by step, and a signer that calls it.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use home::exchange::{receive, send};
use home::message::{Kind, Message};
use home::{ALPN, exporter};
use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair, PublicKeyData as _};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::version::TLS13;
use rustls::{ServerConfig, SupportedProtocolVersion};
use signer::config::Config;
use signer::home::HomeTable;
use signer::keys::Resolve;
use signer::service::{Limits, Patience, Service};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::subscriber::DefaultGuard;

use crate::harness::{FakeAttestor, FakeKeys};

/// What no test waits longer for.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A CA, a server's certificate, and its key.
pub(super) struct Certificates {
    authority: Issuer<'static, KeyPair>,
    pub(super) ca: String,
}

impl Certificates {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let ca = params.self_signed(&key).unwrap().pem();
        Self { authority: Issuer::new(params, key), ca }
    }

    /// TLS of a hub with this name, and the digest of its key.
    pub(super) fn tls(
        &self,
        name: &str,
        versions: &[&'static SupportedProtocolVersion],
        change: impl FnOnce(&mut CertificateParams),
    ) -> (ServerConfig, [u8; 32]) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let digest = binding::sha256(&key.subject_public_key_info());
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        (server(versions, &certificate, &key), digest)
    }
}

/// TLS of `hub.test` with a certificate that its own key has signed, and that certificate as PEM.
pub(super) fn self_signed(change: impl FnOnce(&mut CertificateParams)) -> (ServerConfig, String) {
    let mut params = CertificateParams::new(vec!["hub.test".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "hub");
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (server(&[&TLS13], &certificate, &key), certificate.pem())
}

fn server(versions: &[&'static SupportedProtocolVersion], certificate: &Certificate, key: &KeyPair) -> ServerConfig {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_protocol_versions(versions).unwrap().with_no_client_auth();
    let mut config = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
    config.alpn_protocols = vec![ALPN.to_vec()];
    config
}

/// A hub that waits for calls.
pub(super) struct Hub {
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    pub(super) port: u16,
    /// The lines of a `[[home]]` that leads here, without a permission.
    pub(super) table: String,
}

impl Hub {
    /// One in which everything is right, called `hub.test`.
    pub(super) async fn start() -> Self {
        let certificates = Certificates::new();
        let (tls, _) = certificates.tls("hub.test", &[&TLS13], |_| ());
        Self::with(Some(tls), &certificates.ca).await
    }

    /// Without TLS, it accepts TCP alone.
    pub(super) async fn with(tls: Option<ServerConfig>, ca: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let table = format!("url = \"https://hub.test:{port}\"\nconnections = 1\nca = \"\"\"\n{ca}\"\"\"\n");
        Self { listener, acceptor: tls.map(|tls| TlsAcceptor::from(Arc::new(tls))), port, table }
    }

    pub(super) async fn accept_tcp(&self) -> TcpStream {
        timeout(PATIENCE, self.listener.accept()).await.expect("no call").unwrap().0
    }

    /// The next call, after its handshake.
    pub(super) async fn shake_hands(&self) -> io::Result<TlsStream<TcpStream>> {
        let tcp = self.accept_tcp().await;
        timeout(PATIENCE, self.acceptor.as_ref().unwrap().accept(tcp)).await.expect("no handshake")
    }

    /// The next call, with the document that answered the nonce, and this side's exporter.
    pub(super) async fn ask(&self, nonce: [u8; 32]) -> (TlsStream<TcpStream>, Vec<u8>, [u8; 32]) {
        let mut stream = self.shake_hands().await.unwrap();
        send(&mut stream, &Message::Nonce(nonce)).await.unwrap();
        let received = timeout(PATIENCE, receive(&mut stream, &[Kind::Document], "a document")).await;
        let Ok(Ok(Message::Document(document))) = received else { panic!("{received:?}") };
        let exporter = exporter(stream.get_ref().1, &nonce).unwrap();
        (stream, document, exporter)
    }

    /// The next call, which is accepted whatever its document is.
    pub(super) async fn accept(&self) -> TlsStream<TcpStream> {
        let (mut stream, ..) = self.ask([7; 32]).await;
        send(&mut stream, &Message::Accepted).await.unwrap();
        stream
    }
}

/// Every name is this host's. Two have none, and two have others in front of it.
pub(super) struct FakeNames;

impl Resolve for FakeNames {
    async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        match name {
            "nowhere.test" => Ok(Vec::new()),
            "silent.test" => std::future::pending().await,
            "eight.test" => Ok(in_front_of_localhost(7)),
            "nine.test" => Ok(in_front_of_localhost(8)),
            _ => Ok(vec![Ipv4Addr::LOCALHOST.into()]),
        }
    }
}

/// So many addresses of the loopback at which no test listens, and the one at which hubs do.
fn in_front_of_localhost(count: u8) -> Vec<IpAddr> {
    let others = (2..2 + count).map(|last| Ipv4Addr::new(127, 0, 0, last));
    others.chain([Ipv4Addr::LOCALHOST]).map(IpAddr::from).collect()
}

/// A signer that calls, and serves on loopback, too.
pub(super) struct Calling {
    pub(super) shutdown: CancellationToken,
    pub(super) server: crate::harness::Server,
    calls: JoinSet<()>,
    log: Log,
    _log: DefaultGuard,
}

/// As in an enclave, but for the pauses.
pub(super) fn patience() -> Patience {
    Patience { first_pause: Duration::from_millis(1), ..Patience::default() }
}

/// Soon over, for hubs that are waited for in vain.
pub(super) fn impatience() -> Patience {
    let short = Duration::from_secs(1);
    Patience { resolve: short, connect: short, handshake: short, message: short, ..patience() }
}

/// Calls the hub of this table with an otherwise ordinary configuration.
pub(super) async fn call(table: &str, config: Config, limits: Limits, patience: &Patience) -> Calling {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let homes = signer::home::check(vec![toml::from_str::<HomeTable>(table).unwrap()]).unwrap();
    let keys = FakeKeys::default();
    let fetches = Arc::clone(&keys.fetches);
    let service = Service::with_limits(Config { homes, ..config }, [9; 32], keys, FakeAttestor, limits).unwrap();
    let homes = service.homes_with(FakeNames, patience).unwrap();
    let (shutdown, mut calls, mut task) = (CancellationToken::new(), JoinSet::new(), JoinSet::new());
    calls.spawn(homes.call(shutdown.clone()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, tls_key) = (listener.local_addr().unwrap(), service.tls_key_digest());
    task.spawn(service.serve(listener, shutdown.clone()));
    let server = crate::harness::Server { address, fetches, tls_key, shutdown: shutdown.clone(), task };
    Calling { shutdown, server, calls, log, _log: guard }
}

impl Calling {
    /// Waits for a line of the log that has this in it.
    pub(super) async fn says(&self, expected: &str) {
        let said = timeout(PATIENCE, async {
            while !self.log.text().contains(expected) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        assert!(said.await.is_ok(), "expected {expected:?} in:\n{}", self.log.text());
    }

    pub(super) fn has_said(&self, text: &str) -> bool {
        self.log.text().contains(text)
    }

    /// Waits until no call is left.
    pub(super) async fn ended(mut self) {
        timeout(PATIENCE, self.calls.join_next()).await.expect("no end").unwrap().unwrap();
    }
}

/// What this thread logs.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
