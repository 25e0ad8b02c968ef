//! What `wallet proxy` costs beside a direct request: CPU time of the client, the proxy and the signer for each signature,
//! over kept-alive connections on loopback. Each runs in a thread of its own, whose CPU time the kernel counts.
//!
//! `cargo bench -p wallet --bench proxy [-- --json] [--requests N] [--repetitions N] [--connections N]`

#![allow(missing_docs, reason = "a program, not an interface")]
#![allow(clippy::print_stdout, reason = "a program that reports to the terminal")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic fails the benchmark")]
#![allow(clippy::cast_precision_loss, reason = "numbers are rounded for reading anyway")]

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::SystemTime;

use attestation::test_root::{Fields, TestRoot};
use attestation::{Measurements, Pcr};
use ethereum::key::SecretKey;
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::TLS13;
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use signer::config::SignerTable;
use signer::keys::{Attestor, AttestorError, FetchedKey, GeneratedKey, KeyError, Keys};
use signer::service::Service;
use signer_api::key::{Credential, KeyReference};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use wallet::pool::{Front, Rules};
use wallet::proxy::{Limits, run};
use wallet::trust::Trust;

const KEY: &str = "4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318";
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
const BODY: &str = r#"{"transaction_payload": {"value": 0.01, "to": "0xa5D3241A1591061F2a4bB69CA0215F66520E67cf", "nonce": 0, "type": 2,
"chainId": 1, "gas": 100000, "maxFeePerGas": 1000, "maxPriorityFeePerGas": 10}, "secret_id": "bench"}"#;

/// Microseconds of CPU time for a request.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    client: f64,
    proxy: f64,
    signer: f64,
}

impl Cost {
    fn all(self) -> f64 {
        self.client + self.proxy + self.signer
    }
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let number = |name: &str, default: usize| {
        let at = args.iter().position(|arg| arg == name);
        at.map_or(default, |at| args[at + 1].parse().unwrap())
    };
    let (requests, repetitions) = (number("--requests", 20_000), number("--repetitions", 5));
    let connections = number("--connections", 8);
    let root = Arc::new(TestRoot::new(SystemTime::now()));
    let (signer, signer_address) = start(|| signer(Arc::clone(&root)));
    let (proxy, proxy_address) = start(|| proxy(&root, signer_address, connections));
    let mut measured = Vec::new();
    // In turns, so that both see the same machine.
    for _ in 0..repetitions {
        let measure = |through_proxy: bool| {
            let before = [&proxy, &signer].map(Task::cpu);
            let address = if through_proxy { proxy_address } else { signer_address };
            let client = client(address, !through_proxy, connections, requests / connections);
            let spent = |task: &Task, before: f64| (task.cpu() - before) / requests as f64;
            Cost {
                client: client / requests as f64,
                proxy: if through_proxy { spent(&proxy, before[0]) } else { 0.0 },
                signer: spent(&signer, before[1]),
            }
        };
        measured.push((measure(false), measure(true)));
    }
    measured.sort_by(|one, other| ratio(one).total_cmp(&ratio(other)));
    let median = measured[measured.len() / 2];
    let (direct, proxied) = median;
    let added = ratio(&median) - 1.0;
    if args.iter().any(|arg| arg == "--json") {
        println!(
            "{{\"repetitions\":{repetitions},\"requests\":{requests},\"connections\":{connections},\
             \"direct_us\":{:.1},\"proxied_us\":{:.1},\"proxy_us\":{:.1},\"added\":{added:.3}}}",
            direct.all(),
            proxied.all(),
            proxied.proxy
        );
        return;
    }
    println!(
        "CPU time in microseconds for a signature, median of {repetitions} times {requests}, {connections} connections"
    );
    println!("           client   proxy  signer     all");
    for (name, cost) in [("direct", direct), ("proxied", proxied)] {
        println!("{name:<8} {:>8.1} {:>7.1} {:>7.1} {:>7.1}", cost.client, cost.proxy, cost.signer, cost.all());
    }
    println!("added by the proxy: {added:.3} of a direct request; bound 0.3");
}

fn ratio((direct, proxied): &(Cost, Cost)) -> f64 {
    proxied.all() / direct.all()
}

/// A thread of this process.
struct Task {
    id: String,
}

impl Task {
    /// What it has used, in microseconds.
    fn cpu(&self) -> f64 {
        let text = fs::read_to_string(format!("/proc/self/task/{}/schedstat", self.id)).unwrap();
        text.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1000.0
    }

    fn current() -> Self {
        let path = fs::read_link("/proc/thread-self").unwrap();
        Self { id: path.file_name().unwrap().to_str().unwrap().to_owned() }
    }
}

/// Runs a server in a thread, to the end of the process; where it listens.
fn start<F>(make: impl FnOnce() -> F) -> (Task, SocketAddr)
where
    F: FnOnce(std::sync::mpsc::Sender<(Task, SocketAddr)>) + Send + 'static,
{
    let (told, listening): (_, Receiver<(Task, SocketAddr)>) = channel();
    let serve = make();
    drop(thread::spawn(move || serve(told)));
    listening.recv().unwrap()
}

fn on_this_thread<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn signer(root: Arc<TestRoot>) -> impl FnOnce(std::sync::mpsc::Sender<(Task, SocketAddr)>) + Send {
    move |told| {
        on_this_thread(async {
            let config = toml::from_str::<SignerTable>(SIGNER).unwrap().check().unwrap();
            let service = Service::new(config, [9; 32], OneKey, Documents(root)).unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            told.send((Task::current(), listener.local_addr().unwrap())).unwrap();
            service.serve(listener, CancellationToken::new()).await.unwrap();
        });
    }
}

fn proxy(
    root: &TestRoot,
    signer: SocketAddr,
    connections: usize,
) -> impl FnOnce(std::sync::mpsc::Sender<(Task, SocketAddr)>) + Send + use<> {
    let [pcr0, pcr1, pcr2] = [0x10, 0x11, 0x12].map(|byte| Pcr([byte; Pcr::LEN]));
    let image = ("bench".to_owned(), Measurements::new(pcr0, pcr1, pcr2));
    let trust = Arc::new(Trust::new(root.trust_root(), [image], []).unwrap());
    move |told| {
        on_this_thread(async {
            let front = Front::listen("127.0.0.1:0", Rules::default()).await.unwrap();
            let address = front.to_string().strip_prefix("http://").unwrap().parse().unwrap();
            let ((_set_identity, identity), (_set_trust, trust)) = (watch::channel(None), watch::channel(trust));
            let urls = vec![format!("https://{signer}").parse().unwrap()];
            told.send((Task::current(), address)).unwrap();
            let limits = Limits { connections, ..Limits::default() };
            run(urls, front, identity, trust, limits, CancellationToken::new()).await.unwrap();
        });
    }
}

/// The CPU time of so many requests over each of so many connections, in microseconds. The connections come first.
fn client(address: SocketAddr, is_tls: bool, connections: usize, each: usize) -> f64 {
    let client = move || {
        on_this_thread(async {
            let mut streams: Vec<Box<dyn Stream>> = Vec::new();
            for _ in 0..connections {
                let stream = TcpStream::connect(address).await.unwrap();
                stream.set_nodelay(true).unwrap();
                let mut stream: Box<dyn Stream> = if is_tls { tls(stream).await } else { Box::new(stream) };
                ask(&mut stream, 1).await;
                streams.push(stream);
            }
            let (task, mut asking) = (Task::current(), JoinSet::new());
            let start = task.cpu();
            for mut stream in streams {
                asking.spawn(async move { ask(&mut stream, each).await });
            }
            asking.join_all().await;
            task.cpu() - start
        })
    };
    thread::spawn(client).join().unwrap()
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// One request after the other. The nonce stays: memory of nonces is not what is measured.
async fn ask(stream: &mut Box<dyn Stream>, count: usize) {
    let request = format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{BODY}", BODY.len());
    let mut answer = [0; 4096];
    for _ in 0..count {
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        let mut len = 0;
        while !answer[..len].ends_with(b"\"}") {
            let read = stream.read(&mut answer[len..]).await.unwrap();
            assert!(read > 0, "closed");
            len += read;
        }
        assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer[..len]));
    }
}

async fn tls(stream: TcpStream) -> Box<dyn Stream> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_protocol_versions(&[&TLS13]).unwrap().dangerous();
    let config = builder.with_custom_certificate_verifier(Arc::new(Anyone(provider))).with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    Box::new(TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap())
}

/// A handshake costs nothing that is measured.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

struct OneKey;

impl Keys for OneKey {
    async fn fetch(&self, _reference: &KeyReference, _credential: Option<&Credential>) -> Result<FetchedKey, KeyError> {
        Ok(FetchedKey { key: SecretKey::parse(KEY.as_bytes()).unwrap(), version: None })
    }

    async fn generate(&self, _credential: Option<&Credential>) -> Result<GeneratedKey, KeyError> {
        Err(KeyError::Busy)
    }
}

struct Documents(Arc<TestRoot>);

impl Attestor for Documents {
    async fn document(&self, user_data: &[u8], nonce: &[u8]) -> Result<Vec<u8>, AttestorError> {
        let (user_data, nonce) = (Some(user_data.to_vec()), Some(nonce.to_vec()));
        Ok(self.0.sign(&Fields { user_data, nonce, ..Fields::new(SystemTime::now()) }))
    }
}
