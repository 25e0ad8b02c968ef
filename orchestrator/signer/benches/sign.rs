//! What a signature costs over TLS, beside what it costs alone: requests per second over kept-alive connections on
//! loopback, and in the same run bare secp256k1 signatures and signatures with their check, on as many threads.
//!
//! `cargo bench -p signer --bench sign [-- --json] [--seconds N] [--repetitions N] [--connections N] [--threads N]`
//!
//! The clients run in this process too: of each request's CPU time, their TLS is a part that a real host does not pay.

#![allow(missing_docs, reason = "a program, not an interface")]
#![allow(clippy::print_stdout, reason = "a program that reports to the terminal")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark that panics has failed, as it should")]
#![allow(clippy::cast_precision_loss, reason = "numbers are rounded for reading anyway")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use k256::ecdsa::SigningKey;
use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use signer::config::SignerTable;
use signer::keys::{Attestor, AttestorError, Credential, FetchedKey, GeneratedKey, KeyError, KeyReference, Keys};
use signer::request::SignRequest;
use signer::service::Service;
use signer::tx::{SecretKey, Unsigned};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

const KEY: &str = "4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318";
const CONFIG: &str = r#"
port = 443
open = true
key_cache_time = "1h"
[policy]
chain_ids = [4]
recipients = "any"
max_value = "1 ether"
max_fee_per_gas = "200 gwei"
max_gas = 500000
contract_creation = false
data_selectors = "any"
nonce_reuse = false
"#;

/// Rates per second.
#[derive(Clone, Copy, Debug)]
struct Measured {
    requests: f64,
    bare: f64,
    checked: f64,
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let number = |name: &str, default: usize| {
        let at = args.iter().position(|arg| arg == name);
        at.map_or(default, |at| args[at + 1].parse().unwrap())
    };
    let is_json = args.iter().any(|arg| arg == "--json");
    let time = Duration::from_secs(number("--seconds", 2) as u64);
    let repetitions = number("--repetitions", 5);
    let connections = number("--connections", 16);
    let threads = number("--threads", thread::available_parallelism().unwrap().get());
    let mut measured = Vec::new();
    // In turns, so that all see the same machine.
    for _ in 0..repetitions {
        measured.push(Measured {
            requests: requests(time, connections, threads),
            bare: in_threads(time, threads, bare()),
            checked: in_threads(time, threads, checked()),
        });
    }
    let median = |value: fn(&Measured) -> f64| {
        let mut values: Vec<f64> = measured.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let (requests, bare, checked) = (median(|m| m.requests), median(|m| m.bare), median(|m| m.checked));
    let (of_bare, of_checked) = (requests / bare, requests / checked);
    if is_json {
        println!(
            "{{\"repetitions\":{repetitions},\"connections\":{connections},\"threads\":{threads},\
             \"requests_per_second\":{requests:.0},\"bare_signatures_per_second\":{bare:.0},\
             \"checked_signatures_per_second\":{checked:.0},\"ratio_to_bare\":{of_bare:.3},\"ratio_to_checked\":{of_checked:.3}}}"
        );
        return;
    }
    println!("medians of {repetitions}, {threads} threads, {connections} kept-alive connections");
    println!("requests over TLS, client included  {requests:>9.0} /s");
    println!("bare secp256k1 signatures           {bare:>9.0} /s  ratio {of_bare:.3}");
    println!("signatures, encoded and checked     {checked:>9.0} /s  ratio {of_checked:.3}");
}

fn body(nonce: u64) -> String {
    format!(
        r#"{{"transaction_payload": {{"value": 0.01, "to": "0xa5D3241A1591061F2a4bB69CA0215F66520E67cf", "nonce": {nonce},
        "type": 2, "chainId": 4, "gas": 100000, "maxFeePerGas": 100000000000, "maxPriorityFeePerGas": 3000000000}},
        "secret_id": "bench"}}"#
    )
}

/// Signatures alone, by the curve's library.
fn bare() -> impl Fn(u64) + Send + Sync {
    let bytes: Vec<u8> = (0..64).step_by(2).map(|at| u8::from_str_radix(&KEY[at..at + 2], 16).unwrap()).collect();
    let key = SigningKey::from_slice(&bytes).unwrap();
    move |count: u64| {
        let mut hash = [7; 32];
        hash[..8].copy_from_slice(&count.to_be_bytes());
        std::hint::black_box(key.sign_prehash_recoverable(&hash).unwrap());
    }
}

/// What the service does without HTTP and TLS, parsing aside.
fn checked() -> impl Fn(u64) + Send + Sync {
    let key = SecretKey::parse(KEY.as_bytes()).unwrap();
    let transaction = SignRequest::parse(body(0).as_bytes()).unwrap().transaction;
    move |count: u64| {
        let mut transaction = transaction.clone();
        transaction.nonce = count;
        std::hint::black_box(Unsigned::new(&transaction).sign(&key).unwrap());
    }
}

fn in_threads(time: Duration, threads: usize, work: impl Fn(u64) + Send + Sync) -> f64 {
    let start = Instant::now();
    let count: u64 = thread::scope(|scope| {
        let count = || {
            let mut count = 0;
            while start.elapsed() < time {
                work(count);
                count += 1;
            }
            count
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(count)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    count as f64 / start.elapsed().as_secs_f64()
}

fn requests(time: Duration, connections: usize, threads: usize) -> f64 {
    let runtime = Builder::new_multi_thread().worker_threads(threads).enable_all().build().unwrap();
    runtime.block_on(async {
        let config = toml::from_str::<SignerTable>(CONFIG).unwrap().check().unwrap();
        let service = Service::new(config, [0; 32], OneKey, NoDocuments).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let mut server = JoinSet::new();
        server.spawn(service.serve(listener, shutdown.clone()));
        let mut clients = JoinSet::new();
        let start = Instant::now();
        for _ in 0..connections {
            clients.spawn(client(address, start + time));
        }
        let count: u64 = clients.join_all().await.into_iter().sum();
        let rate = count as f64 / start.elapsed().as_secs_f64();
        shutdown.cancel();
        server.join_all().await.into_iter().collect::<Result<Vec<_>, _>>().unwrap();
        rate
    })
}

/// Signs one transaction after the other until `end`. The nonce stays: memory of nonces is not what is measured.
async fn client(address: SocketAddr, end: Instant) -> u64 {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Whoever(provider)))
        .with_no_client_auth();
    let tcp = TcpStream::connect(address).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    let name = ServerName::try_from("signer").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
    let body = body(0);
    let request = format!("POST / HTTP/1.1\r\nHost: signer\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let mut answer = [0; 4096];
    let mut count = 0;
    while Instant::now() < end {
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        let mut len = 0;
        while !answer[..len].ends_with(b"\"}") {
            let read = stream.read(&mut answer[len..]).await.unwrap();
            assert!(read > 0, "closed");
            len += read;
        }
        assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer[..len]));
        count += 1;
    }
    count
}

struct OneKey;

impl Keys for OneKey {
    async fn fetch(&self, _reference: &KeyReference, _credential: Option<&Credential>) -> Result<FetchedKey, KeyError> {
        let key = SecretKey::parse(KEY.as_bytes()).map_err(|error| KeyError::Answer(error.to_string()))?;
        Ok(FetchedKey { key, version: None })
    }

    async fn generate(&self, _credential: Option<&Credential>) -> Result<GeneratedKey, KeyError> {
        Err(KeyError::NotFound)
    }
}

struct NoDocuments;

impl Attestor for NoDocuments {
    async fn document(&self, _user_data: &[u8], _nonce: &[u8]) -> Result<Vec<u8>, AttestorError> {
        Err(AttestorError("none here".into()))
    }
}

#[derive(Debug)]
struct Whoever(Arc<rustls::crypto::CryptoProvider>);

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
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 only".into()))
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
