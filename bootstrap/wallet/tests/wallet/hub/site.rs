//! A hub with files of its own, enclaves that call it, and programs that ask it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use attestation::test_root::{Fields, TestRoot};
use binding::home::Binding;
use home::exchange::{receive, send};
use home::message::{Kind, Message, Nonce};
use home::{ALPN, exporter};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use signer::home::HomeTable;
use signer::keys::Resolve;
use signer::service::{Patience, Service};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use wallet::hub::{Limits, run};
use wallet::pool::{self, Front, Rules};
use wallet::tls::HubIdentity;
use wallet::trust::Trust;

use crate::enclave::trust;
use crate::program::{PATIENCE, ask, sign_body};
use crate::real_signer::{Documents, OneKey, SECRET, config, image};

/// A CA for hubs.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(super) pem: String,
}

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Writes a certificate for this host and its key; returns their names.
    pub(super) fn issue(&self, dir: &Path, name: &str) -> [std::path::PathBuf; 2] {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        let [certificate_path, key_path] = ["pem", "key"].map(|kind| dir.join(format!("{name}.{kind}")));
        std::fs::write(&certificate_path, certificate).unwrap();
        std::fs::write(&key_path, key.serialize_pem()).unwrap();
        std::fs::set_permissions(&key_path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        [certificate_path, key_path]
    }

    pub(super) fn identity(&self, dir: &Path, name: &str) -> HubIdentity {
        let [certificate, key] = self.issue(dir, name);
        HubIdentity::load(&certificate, &key).unwrap()
    }

    /// A client that trusts these hubs.
    pub(super) fn client(&self, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_protocol_versions(versions).unwrap().with_root_certificates(roots);
        let mut config = builder.with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        config
    }
}

/// A running hub.
pub(super) struct Site {
    pub(super) authority: Authority,
    pub(super) root: Arc<TestRoot>,
    pub(super) calls: SocketAddr,
    pub(super) front: SocketAddr,
    pub(super) identity: watch::Sender<HubIdentity>,
    pub(super) trust: watch::Sender<Arc<Trust>>,
    pub(super) dir: tempfile::TempDir,
    pub(super) stop: CancellationToken,
    pub(super) hub: JoinSet<anyhow::Result<()>>,
}

/// Limits that a test can wait for.
pub(super) fn impatience() -> Limits {
    let short = Duration::from_secs(1);
    let limits = Limits::default();
    let pool = pool::Limits { health: short, answer: short, ..limits.pool };
    Limits { handshake: short, document: short, pool, ..limits }
}

/// As usual but for these.
pub(super) fn with(change: impl FnOnce(&mut pool::Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits.pool);
    limits
}

impl Site {
    pub(super) async fn start() -> Self {
        Self::with(Limits::default()).await
    }

    pub(super) async fn with(limits: Limits) -> Self {
        let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
        let root = Arc::new(TestRoot::new(SystemTime::now()));
        let (trust, trusted) = watch::channel(Arc::new(trust(root.trust_root())));
        let (identity, identified) = watch::channel(authority.identity(dir.path(), "hub"));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let calls = listener.local_addr().unwrap();
        let front = Front::listen("127.0.0.1:0", Rules::default()).await.unwrap();
        let address = front.to_string().strip_prefix("http://").unwrap().parse().unwrap();
        let (stop, mut hub) = (CancellationToken::new(), JoinSet::new());
        hub.spawn(run(listener, front, identified, trusted, limits, stop.clone()));
        Self { authority, root, calls, front: address, identity, trust, dir, stop, hub }
    }

    /// An enclave in which everything is right.
    pub(super) fn enclave(&self) -> Enclave {
        self.enclave_at(self.calls, 1, |_| ())
    }

    /// One that calls that address over so many connections, with other fields in its documents.
    pub(super) fn enclave_at(
        &self,
        address: SocketAddr,
        connections: usize,
        change: impl Fn(&mut Fields) + Send + Sync + 'static,
    ) -> Enclave {
        let table = format!(
            "url = \"https://{address}\"\nconnections = {connections}\nca = \"\"\"\n{}\"\"\"\n\
             secret_ids = [\"{SECRET}\"]\n",
            self.authority.pem
        );
        let mut config = config("open = true");
        config.homes = signer::home::check(vec![toml::from_str::<HomeTable>(&table).unwrap()]).unwrap();
        let attestor = Documents { root: Arc::clone(&self.root), change: Box::new(change) };
        let service = Service::new(config, [9; 32], OneKey, attestor).unwrap();
        let patience = Patience { first_pause: Duration::from_millis(20), ..Patience::default() };
        let homes = service.homes_with(NoNames, &patience).unwrap();
        let (stop, mut calls) = (CancellationToken::new(), JoinSet::new());
        calls.spawn(homes.call(stop.clone()));
        Enclave { _calls: calls }
    }

    /// A call that has got its nonce.
    pub(super) async fn call(&self) -> Call {
        let mut stream = self.shake_hands(self.authority.client(&[&TLS13])).await.unwrap();
        let received = timeout(PATIENCE, receive(&mut stream, &[Kind::Nonce], "a nonce")).await;
        let Ok(Ok(Message::Nonce(nonce))) = received else { panic!("{received:?}") };
        let exporter = exporter(stream.get_ref().1, &nonce).unwrap();
        Call { stream, nonce, exporter }
    }

    pub(super) async fn shake_hands(&self, config: ClientConfig) -> io::Result<TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(self.calls).await?;
        let name = ServerName::IpAddress(self.calls.ip().into());
        TlsConnector::from(Arc::new(config)).connect(name, tcp).await
    }

    /// The answer to a program's request: its status, and its body.
    pub(super) async fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        self.ask_with(method, path, "", body).await
    }

    pub(super) async fn ask_with(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
        ask(TcpStream::connect(self.front).await.unwrap(), method, path, headers, body).await
    }

    pub(super) async fn sign(&self, nonce: u64, secret_id: &str) -> (u16, String) {
        self.ask("POST", "/", &sign_body(nonce, secret_id)).await
    }

    pub(super) async fn metrics(&self) -> String {
        self.ask("GET", "/hub/metrics", "").await.1
    }

    /// Waits until the metrics have this line.
    pub(super) async fn counts(&self, line: &str) {
        let counting = timeout(PATIENCE, async {
            while !self.metrics().await.contains(&format!("{line}\n")) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        assert!(counting.await.is_ok(), "expected {line} in:\n{}", self.metrics().await);
    }

    /// Waits for a number of connections of proven enclaves.
    pub(super) async fn has(&self, connections: usize) {
        self.counts(&format!("hub_connections {connections}")).await;
    }

    /// From now on only enclaves with this PCR2 are allowed.
    pub(super) fn allow_only(&self, pcr2: u8) {
        let trust = Trust::new(self.root.trust_root(), [("other.json".to_owned(), image(pcr2))], []).unwrap();
        self.trust.send_replace(Arc::new(trust));
    }
}

/// The enclave's side of a call, step by step.
pub(super) struct Call {
    pub(super) stream: TlsStream<TcpStream>,
    pub(super) nonce: Nonce,
    pub(super) exporter: [u8; 32],
}

impl Call {
    /// What the right document says.
    pub(super) fn fields(&self) -> Fields {
        let user_data = Binding { exporter: self.exporter, config: [9; 32] }.encode().to_vec();
        Fields { user_data: Some(user_data), nonce: Some(self.nonce.to_vec()), ..Fields::new(SystemTime::now()) }
    }

    /// Sends a document; the hub's verdict on it.
    pub(super) async fn send(&mut self, document: Vec<u8>) -> Message {
        send(&mut self.stream, &Message::Document(document)).await.unwrap();
        let kinds = [Kind::Accepted, Kind::Refused];
        timeout(PATIENCE, receive(&mut self.stream, &kinds, "a verdict")).await.expect("no verdict").unwrap()
    }

    /// The reason why a document is refused. The hub then closes.
    pub(super) async fn refused(mut self, document: Vec<u8>) -> String {
        let Message::Refused(reason) = self.send(document).await else { panic!("accepted") };
        closed(self.stream).await;
        reason
    }
}

/// Waits until the other end has closed.
pub(super) async fn closed(mut stream: impl AsyncRead + Unpin) {
    let mut rest = Vec::new();
    // A reset is an end, too.
    let _end = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("still open");
}

/// A signer that calls.
pub(super) struct Enclave {
    _calls: JoinSet<()>,
}

struct NoNames;

impl Resolve for NoNames {
    async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        Err(io::Error::other(format!("{name} was asked for")))
    }
}
