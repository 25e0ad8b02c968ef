//! A signer on loopback with made-up keys and documents, and a client that sees every byte.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ethereum::key::SecretKey;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme, SupportedProtocolVersion};
use serde_json::Value;
use signer::config::{Config, SignerTable};
use signer::keys::{Attestor, AttestorError, FetchedKey, GeneratedKey, KeyError, Keys, Resolve};
use signer::service::{Limits, Service};
use signer_api::key::{Credential, KeyReference};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

pub(super) const KEY: &str = "4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318";
pub(super) const ADDRESS: &str = "0x2c7536E3605D9C16a7a3D7b1898e529396a65c23";
/// Of the key in the secret `second`.
pub(super) const SECOND: &str = "0x5050A4F4b3f9338C3472dcC01A87C76A144b3c9c";
pub(super) const POLICY: &str = r#"
[policy]
chain_ids = [1, 4]
recipients = "any"
max_value = "1 ether"
max_fee_per_gas = "200 gwei"
max_gas = 500000
contract_creation = false
data_selectors = "any"
nonce_reuse = false
"#;

/// What no test waits longer for.
const PATIENCE: Duration = Duration::from_secs(20);

/// The payload that the tests sign, with a nonce.
pub(super) fn payload(nonce: u64) -> String {
    format!(
        r#"{{"value": 0.01, "to": "0xa5D3241A1591061F2a4bB69CA0215F66520E67cf", "nonce": {nonce}, "type": 2, "chainId": 4,
        "gas": 100000, "maxFeePerGas": 100000000000, "maxPriorityFeePerGas": 3000000000}}"#
    )
}

pub(super) fn sign_body(nonce: u64, secret_id: &str) -> String {
    format!(r#"{{"transaction_payload": {}, "secret_id": "{secret_id}"}}"#, payload(nonce))
}

pub(super) fn open() -> Config {
    config(&format!("open = true\n{POLICY}"))
}

pub(super) fn config(rest: &str) -> Config {
    let text = format!("port = 443\nkey_cache_time = \"10m\"\n{rest}");
    toml::from_str::<SignerTable>(&text).unwrap().check().unwrap()
}

/// Keys by the name of their secret; a ciphertext is its own plaintext.
#[derive(Default)]
pub(super) struct FakeKeys {
    pub(super) fetches: Arc<AtomicUsize>,
}

impl Keys for FakeKeys {
    async fn fetch(&self, reference: &KeyReference, _credential: Option<&Credential>) -> Result<FetchedKey, KeyError> {
        let before = self.fetches.fetch_add(1, Ordering::Relaxed);
        let second = || "02".repeat(32).into_bytes();
        let plaintext = match reference {
            KeyReference::EncryptedKey(ciphertext) => ciphertext.clone(),
            KeyReference::SecretId(id) => match id.as_str() {
                "elsewhere" => return Err(KeyError::SecretId("the secret is in us-east-1".into())),
                "missing" => return Err(KeyError::NotFound),
                "expired" => return Err(KeyError::Credential("ExpiredTokenException".into())),
                "denied" => return Err(KeyError::Refused("AccessDeniedException".into())),
                "wrong" => return Err(KeyError::Answer("another key id".into())),
                "throttled" => return Err(KeyError::Unavailable("ThrottlingException".into())),
                "late" if before < 3 => return Err(KeyError::Unavailable("not yet".into())),
                "second" => second(),
                "replaced" if before > 0 => second(),
                "never" => std::future::pending().await,
                _ => KEY.as_bytes().to_vec(),
            },
        };
        let key = SecretKey::parse(&plaintext).map_err(|error| KeyError::Answer(error.to_string()))?;
        Ok(FetchedKey { key, version: None })
    }

    async fn generate(&self, _credential: Option<&Credential>) -> Result<GeneratedKey, KeyError> {
        let key = SecretKey::generate().unwrap();
        Ok(GeneratedKey { address: key.address(), ciphertext: key.expose_plaintext().as_bytes().to_vec() })
    }
}

/// Its documents are the user data and the nonce.
pub(super) struct FakeAttestor;

impl Attestor for FakeAttestor {
    async fn document(&self, user_data: &[u8], nonce: &[u8]) -> Result<Vec<u8>, AttestorError> {
        match nonce {
            [0xff] => Err(AttestorError("no NSM".into())),
            [0xfe] => std::future::pending().await,
            _ => Ok([user_data, nonce].concat()),
        }
    }
}

/// Every name is this host's.
struct Loopback;

impl Resolve for Loopback {
    async fn addresses(&self, _name: &str) -> std::io::Result<Vec<IpAddr>> {
        Ok(vec![Ipv4Addr::LOCALHOST.into()])
    }
}

pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) fetches: Arc<AtomicUsize>,
    pub(super) tls_key: [u8; 32],
    pub(super) shutdown: CancellationToken,
    pub(super) task: JoinSet<anyhow::Result<()>>,
}

pub(super) async fn start(config: Config) -> Server {
    start_with(config, Limits::default()).await
}

pub(super) async fn start_with(config: Config, limits: Limits) -> Server {
    let keys = FakeKeys::default();
    let fetches = Arc::clone(&keys.fetches);
    let service = Service::with_limits(config, [9; 32], keys, FakeAttestor, limits).unwrap();
    serve(service, fetches).await
}

/// Serves on loopback.
pub(super) async fn serve(service: Service<FakeKeys, FakeAttestor>, fetches: Arc<AtomicUsize>) -> Server {
    service.resolve_with(Loopback);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (shutdown, tls_key) = (CancellationToken::new(), service.tls_key_digest());
    let mut task = JoinSet::new();
    task.spawn(service.serve(listener, shutdown.clone()));
    Server { address, fetches, tls_key, shutdown, task }
}

impl Server {
    pub(super) async fn connect(&self) -> Client {
        self.connect_as(None).await.unwrap()
    }

    pub(super) async fn connect_as(&self, identity: Option<ClientIdentity>) -> std::io::Result<Client> {
        self.connect_with(identity, &[&rustls::version::TLS13]).await
    }

    pub(super) async fn connect_with(
        &self,
        identity: Option<ClientIdentity>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> std::io::Result<Client> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Whoever(provider)));
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some((certificates, key)) => builder.with_client_auth_cert(certificates, key).unwrap(),
        };
        let tcp = TcpStream::connect(self.address).await?;
        shake(tcp, config).await
    }

    /// From that address of loopback.
    pub(super) async fn connect_from(&self, from: [u8; 4]) -> Client {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        Self::shake_hands(socket.connect(self.address).await.unwrap()).await.unwrap()
    }

    /// Anybody's handshake on a connection that is there already.
    pub(super) async fn shake_hands(tcp: TcpStream) -> std::io::Result<Client> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Whoever(provider)));
        shake(tcp, builder.with_no_client_auth()).await
    }

    /// Waits for the end, which must be a good one.
    pub(super) async fn ended(mut self) {
        timeout(PATIENCE, self.task.join_next()).await.expect("no end").unwrap().unwrap().unwrap();
    }
}

async fn shake(tcp: TcpStream, config: ClientConfig) -> std::io::Result<Client> {
    let name = ServerName::try_from("signer").unwrap();
    Ok(Client { stream: TlsConnector::from(Arc::new(config)).connect(name, tcp).await? })
}

pub(super) struct Client {
    pub(super) stream: TlsStream<TcpStream>,
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Status, code and field of an error.
    pub(super) fn error(&self) -> (u16, String, Option<String>) {
        let json = self.json();
        let error = json["error"].as_object().unwrap();
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()));
        (
            self.status,
            error["code"].as_str().unwrap().to_owned(),
            error.get("field").map(|field| field.as_str().unwrap().to_owned()),
        )
    }
}

impl Client {
    /// Waits until the signer has its keys and its ledger.
    pub(super) async fn wait_ready(&mut self) {
        let ready = async {
            while self.get("/ready").await.status != 200 {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, ready).await.expect("not ready");
    }

    pub(super) async fn get(&mut self, path: &str) -> Answer {
        self.request("GET", path, "", b"").await
    }

    pub(super) async fn post(&mut self, path: &str, body: &str) -> Answer {
        self.request("POST", path, "", body.as_bytes()).await
    }

    /// A call of JSON-RPC; `params` is JSON.
    pub(super) async fn call(&mut self, path: &str, method: &str, params: &str) -> Value {
        let body = format!(r#"{{"jsonrpc": "2.0", "id": 7, "method": "{method}", "params": {params}}}"#);
        let answer = self.post(path, &body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let json = answer.json();
        assert_eq!((&json["jsonrpc"], &json["id"]), (&"2.0".into(), &7.into()));
        json
    }

    pub(super) async fn sign(&mut self, nonce: u64, secret_id: &str) -> Answer {
        self.post("/", &sign_body(nonce, secret_id)).await
    }

    pub(super) async fn request(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: signer\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
        self.send(&[head.as_bytes(), body].concat()).await.unwrap();
        let has_body = method != "HEAD";
        timeout(PATIENCE, read(&mut self.stream, has_body)).await.expect("no answer").unwrap()
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// The next answer, or the error that the connection ended with.
    pub(super) async fn answer(&mut self) -> std::io::Result<Answer> {
        self.answer_within(PATIENCE).await
    }

    /// The same of a server that has much to do before.
    pub(super) async fn answer_within(&mut self, limit: Duration) -> std::io::Result<Answer> {
        timeout(limit, read(&mut self.stream, true)).await.expect("no answer")
    }

    /// Waits until the other side closes; what it sent until then.
    pub(super) async fn closed(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        // A reset is an end too.
        let _end = timeout(PATIENCE, self.stream.read_to_end(&mut rest)).await.expect("still open");
        rest
    }
}

async fn read(stream: &mut TlsStream<TcpStream>, has_body: bool) -> std::io::Result<Answer> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap();
    let len = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0").parse().unwrap();
    let mut body = vec![0; if has_body { len } else { 0 }];
    stream.read_exact(&mut body).await?;
    Ok(Answer { status: head[9..12].parse().unwrap(), head, body })
}

pub(super) type ClientIdentity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// A CA for clients.
pub(super) struct Authority {
    pub(super) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    pub(super) fn issue(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> ClientIdentity {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())))
    }
}

/// Trusts any server: attestation is what a client goes by.
#[derive(Debug)]
struct Whoever(Arc<CryptoProvider>);

impl ServerCertVerifier for Whoever {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
