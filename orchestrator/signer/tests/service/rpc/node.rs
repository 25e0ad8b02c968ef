//! A node over real TLS and HTTP, which says what a test wants.

use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rcgen::PublicKeyData as _;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// What a node says to one question.
pub(super) enum Says {
    Result(Value),
    Error(Value),
    /// A status and a body.
    Raw(u16, Vec<u8>),
    /// It takes the question, and closes the connection.
    Closes,
    Nothing,
}

pub(super) struct Node {
    pub(super) port: u16,
    /// PEM.
    pub(super) ca: String,
    /// SHA-256 of its key, hex.
    pub(super) key: String,
    asked: Arc<Mutex<Vec<Value>>>,
    _serving: JoinSet<()>,
}

impl Node {
    pub(super) async fn start(says: impl Fn(&str, &Value) -> Says + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["node.test".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
        let digest = binding::sha256(&signing_key.subject_public_key_info());
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let (asked, says) = (Arc::new(Mutex::new(Vec::new())), Arc::new(says));
        let mut serving = JoinSet::new();
        let seen = Arc::clone(&asked);
        serving.spawn(async move {
            let acceptor = TlsAcceptor::from(Arc::new(config));
            let mut connections = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, says, seen) = (acceptor.clone(), Arc::clone(&says), Arc::clone(&seen));
                connections.spawn(async move {
                    let Ok(stream) = acceptor.accept(tcp).await else { return };
                    let service = service_fn(|request: Request<Incoming>| answer(request, &*says, &seen));
                    drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
                });
            }
        });
        let digits = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { port, ca: cert.pem(), key: digits, asked, _serving: serving }
    }

    /// The table for chain 4, with the node's CA and these lines.
    pub(super) fn table(&self, more: &str) -> String {
        let Self { port, ca, .. } = self;
        format!("[upstream.4]\nurl = \"https://node.test:{port}/v1/hush?a=b\"\nca = \"\"\"\n{ca}\"\"\"\n{more}\n")
    }

    /// The methods that it was asked, in order.
    pub(super) fn methods(&self) -> Vec<String> {
        self.asked().iter().map(|asked| asked["method"].as_str().unwrap().to_owned()).collect()
    }

    pub(super) fn asked(&self) -> Vec<Value> {
        self.asked.lock().unwrap().clone()
    }
}

async fn answer(
    request: Request<Incoming>,
    says: &(impl Fn(&str, &Value) -> Says + Sync),
    seen: &Mutex<Vec<Value>>,
) -> Result<Response<Full<Bytes>>, Box<dyn std::error::Error + Send + Sync>> {
    assert_eq!((request.method().as_str(), request.uri().to_string().as_str()), ("POST", "/v1/hush?a=b"));
    assert!(request.headers()["host"].to_str().unwrap().starts_with("node.test:"));
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let asked: Value = serde_json::from_slice(&body).unwrap();
    seen.lock().unwrap().push(asked.clone());
    let (status, body) = match says(asked["method"].as_str().unwrap(), &asked["params"]) {
        Says::Result(result) => {
            (200, json!({"jsonrpc": "2.0", "id": asked["id"], "result": result}).to_string().into())
        }
        Says::Error(error) => (200, json!({"jsonrpc": "2.0", "id": asked["id"], "error": error}).to_string().into()),
        Says::Raw(status, body) => (status, body),
        Says::Closes => return Err("closed".into()),
        Says::Nothing => std::future::pending().await,
    };
    Ok(Response::builder().status(status).body(Full::from(body)).unwrap())
}
