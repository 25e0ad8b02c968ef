//! A hub with files of its own, enclaves that call it, and programs that ask it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use attestation::Pcr;
use attestation::test_root::{Fields, TestRoot};
use binding::home::Binding;
use ethereum::key::SecretKey;
use home::exchange::{receive, send};
use home::message::{Kind, Message, Nonce};
use home::{ALPN, exporter};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use signer::config::SignerTable;
use signer::home::HomeTable;
use signer::keys::{Attestor, AttestorError, FetchedKey, GeneratedKey, KeyError, Keys, Resolve};
use signer::service::{Patience, Service};
use signer_api::key::{Credential, KeyReference};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use wallet::hub::{Credentials, Front, Limits, run};
use wallet::tls::HubIdentity;
use wallet::trust::Trust;

use crate::enclave::{measurements, trust};

/// What no test waits longer for.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// What an enclave signs with this permission and any other secret it refuses.
pub(super) const SECRET: &str = "prod/hot-wallet";

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
    pub(super) credentials: watch::Sender<Credentials>,
    pub(super) dir: tempfile::TempDir,
    pub(super) stop: CancellationToken,
    pub(super) hub: JoinSet<anyhow::Result<()>>,
}

/// Limits that a test can wait for.
pub(super) fn impatience() -> Limits {
    let short = Duration::from_secs(1);
    Limits { handshake: short, document: short, health: short, answer: short, ..Limits::default() }
}

impl Site {
    pub(super) async fn start() -> Self {
        Self::with(Limits::default()).await
    }

    pub(super) async fn with(limits: Limits) -> Self {
        let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
        let root = Arc::new(TestRoot::new(SystemTime::now()));
        let trust = Arc::new(trust(root.trust_root()));
        let credentials = Credentials { identity: authority.identity(dir.path(), "hub"), trust };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let calls = listener.local_addr().unwrap();
        let front = Front::listen("127.0.0.1:0").await.unwrap();
        let address = front.to_string().strip_prefix("http://").unwrap().parse().unwrap();
        let (credentials, receiver) = watch::channel(credentials);
        let (stop, mut hub) = (CancellationToken::new(), JoinSet::new());
        hub.spawn(run(listener, front, receiver, limits, stop.clone()));
        Self { authority, root, calls, front: address, credentials, dir, stop, hub }
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
        let mut config = toml::from_str::<SignerTable>(SIGNER).unwrap().check().unwrap();
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
        self.ask("GET", "/metrics", "").await.1
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
        let image = attestation::Measurements { pcr2: Pcr([pcr2; Pcr::LEN]), ..measurements() };
        let trust = Trust::new(self.root.trust_root(), [("other.json".to_owned(), image)], []).unwrap();
        self.credentials.send_modify(|credentials| credentials.trust = Arc::new(trust));
    }
}

pub(super) fn sign_body(nonce: u64, secret_id: &str) -> String {
    format!(
        r#"{{"transaction_payload": {{"value": 0.01, "to": "0xa5D3241A1591061F2a4bB69CA0215F66520E67cf", "nonce": {nonce},
        "type": 2, "chainId": 1, "gas": 100000, "maxFeePerGas": 1000, "maxPriorityFeePerGas": 10}},
        "secret_id": "{secret_id}"}}"#
    )
}

/// One exchange on a new connection.
pub(super) async fn ask(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> (u16, String) {
    let len = body.len();
    let text = format!(
        "{method} {path} HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n{headers}Content-Length: {len}\r\n\r\n{body}"
    );
    // A hub that refuses a long body has closed.
    drop(stream.write_all(text.as_bytes()).await);
    let mut answer = Vec::new();
    let _end = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("no answer");
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
    (head[9..12].parse().unwrap(), body.to_owned())
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

const SIGNER: &str = r#"
port = 443
key_cache_time = "10m"
open = true
[policy]
chain_ids = [1]
recipients = "any"
max_value = "1 ether"
max_fee_per_gas = "200 gwei"
max_gas = 500000
contract_creation = false
data_selectors = "any"
nonce_reuse = false
"#;

struct OneKey;

impl Keys for OneKey {
    async fn fetch(&self, reference: &KeyReference, _credential: Option<&Credential>) -> Result<FetchedKey, KeyError> {
        if matches!(reference, KeyReference::SecretId(id) if id != SECRET) {
            return Err(KeyError::NotFound);
        }
        Ok(FetchedKey { key: SecretKey::parse(crate::KEY.as_bytes()).unwrap(), version: None })
    }

    async fn generate(&self, _credential: Option<&Credential>) -> Result<GeneratedKey, KeyError> {
        Err(KeyError::Busy)
    }
}

struct Documents {
    root: Arc<TestRoot>,
    change: Box<dyn Fn(&mut Fields) + Send + Sync>,
}

impl Attestor for Documents {
    async fn document(&self, user_data: &[u8], nonce: &[u8]) -> Result<Vec<u8>, AttestorError> {
        let (user_data, nonce) = (Some(user_data.to_vec()), Some(nonce.to_vec()));
        let mut fields = Fields { user_data, nonce, ..Fields::new(SystemTime::now()) };
        (self.change)(&mut fields);
        Ok(self.root.sign(&fields))
    }
}

struct NoNames;

impl Resolve for NoNames {
    async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        Err(io::Error::other(format!("{name} was asked for")))
    }
}
