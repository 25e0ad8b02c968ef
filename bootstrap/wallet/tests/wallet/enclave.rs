//! An enclave of the tests' own: a signer that speaks the API, with documents that a test root vouches for.

use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use attestation::test_root::{Fields, TestRoot};
use attestation::{Measurements, Pcr, TrustRoot};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use binding::sha256;
use binding::signer::Binding;
use hyper::body::Bytes;
use hyper::{Request, Response};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    PKCS_ECDSA_P256_SHA256, PublicKeyData as _,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};
use serde_json::json;
use wallet::enclave::EnclaveUrl;
use wallet::trust::Trust;

use crate::server::{Answer, Seen, Server, answer};

/// What the signer answers to every request.
pub(crate) const SIGNED: &str = r#"{"transaction_hash":"0xe7eb","transaction_signed":"0x02f8"}"#;
/// The ciphertext of every key that it makes.
pub(crate) const CIPHERTEXT: &[u8] = b"an encrypted key";

/// A TLS key and its certificate, which signs itself.
pub(crate) struct Identity {
    pub(crate) certificate: CertificateDer<'static>,
    key: KeyPair,
}

impl Identity {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate = CertificateParams::new(vec!["signer".to_owned()]).unwrap().self_signed(&key).unwrap();
        Self { certificate: certificate.der().clone(), key }
    }

    /// As a document binds it.
    pub(crate) fn digest(&self) -> [u8; 32] {
        sha256(&self.key.subject_public_key_info())
    }

    pub(crate) fn tls(&self) -> ServerConfig {
        self.tls_with(&self.certificate, false, None)
    }

    pub(crate) fn tls12(&self) -> ServerConfig {
        self.tls_with(&self.certificate, true, None)
    }

    /// Shows somebody else's certificate.
    pub(crate) fn tls_as(&self, other: &Self) -> ServerConfig {
        self.tls_with(&other.certificate, false, None)
    }

    /// Lets in who has a certificate from `authority`.
    pub(crate) fn tls_for_clients_of(&self, authority: &CertificateDer<'static>) -> ServerConfig {
        self.tls_with(&self.certificate, false, Some(authority))
    }

    fn tls_with(
        &self,
        certificate: &CertificateDer<'static>,
        is_old: bool,
        authority: Option<&CertificateDer<'static>>,
    ) -> ServerConfig {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let key = aws_lc_rs::sign::any_supported_type(&key).unwrap();
        let resolver = SingleCertAndKey::from(CertifiedKey::new(vec![certificate.clone()], key));
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_protocol_versions(&[if is_old { &TLS12 } else { &TLS13 }]).unwrap();
        let builder = match authority {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
                builder.with_client_cert_verifier(verifier)
            }
        };
        builder.with_cert_resolver(Arc::new(resolver))
    }
}

/// An authority of clients.
pub(crate) struct Authority {
    pub(crate) certificate: Certificate,
    params: CertificateParams,
    key: KeyPair,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let (params, key) = (Self::params("TEST ONLY"), KeyPair::generate().unwrap());
        Self { certificate: params.self_signed(&key).unwrap(), params, key }
    }

    /// One that this one vouches for.
    pub(crate) fn intermediate(&self) -> Self {
        let (params, key) = (Self::params("TEST ONLY, between"), KeyPair::generate().unwrap());
        Self { certificate: params.signed_by(&key, &self.issuer()).unwrap(), params, key }
    }

    /// A client's certificate and private key.
    pub(crate) fn client(&self) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["pay.example".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        (params.signed_by(&key, &self.issuer()).unwrap().pem(), key.serialize_pem())
    }

    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    }
}

/// A running enclave.
pub(crate) struct Enclave {
    pub(crate) root: Arc<TestRoot>,
    server: Server,
}

impl Enclave {
    /// One in which everything is right.
    pub(crate) async fn start() -> Self {
        Self::with(TestRoot::new(SystemTime::now()), |root, fields| root.sign(&fields)).await
    }

    /// One that lets in the authority's clients alone.
    pub(crate) async fn for_clients_of(authority: &Authority) -> Self {
        let identity = Identity::new();
        let (tls, digest) = (identity.tls_for_clients_of(authority.certificate.der()), identity.digest());
        let root = TestRoot::new(SystemTime::now());
        Self::speaking(root, tls, digest, |root, fields| root.sign(&fields)).await
    }

    /// One that makes its documents of its root and what the right one would say.
    pub(crate) async fn with<F>(root: TestRoot, document: F) -> Self
    where
        F: Fn(&TestRoot, Fields) -> Vec<u8> + Send + Sync + 'static,
    {
        let identity = Identity::new();
        let (tls, tls_key) = (identity.tls(), identity.digest());
        Self::speaking(root, tls, tls_key, document).await
    }

    /// One that has no time for the first so many of its requests to each path, and says for how many seconds.
    pub(crate) async fn busy(times: usize, seconds: &'static str) -> Self {
        let (identity, seen) = (Identity::new(), Mutex::new(Vec::new()));
        let first = move |request: &Request<Bytes>| {
            let (path, mut seen) = (request.uri().path().to_owned(), seen.lock().unwrap());
            let is_busy = seen.iter().filter(|seen| **seen == path).count() < times;
            seen.push(path);
            let body = json!({ "error": { "code": "busy", "message": "expected in a moment" } }).to_string();
            is_busy.then(|| Response::builder().status(429).header("retry-after", seconds).body(body).unwrap())
        };
        let (root, tls_key) = (TestRoot::new(SystemTime::now()), identity.digest());
        Self::saying(root, identity.tls(), tls_key, |root, fields| root.sign(&fields), first).await
    }

    /// As [`Enclave::with`], with TLS of the test's choice, and binding a key that need not be TLS's.
    pub(crate) async fn speaking<F>(root: TestRoot, tls: ServerConfig, bound: [u8; 32], document: F) -> Self
    where
        F: Fn(&TestRoot, Fields) -> Vec<u8> + Send + Sync + 'static,
    {
        Self::saying(root, tls, bound, document, |_| None).await
    }

    /// As [`Enclave::speaking`]; what `first` answers, it does not.
    pub(crate) async fn saying<F, G>(root: TestRoot, tls: ServerConfig, bound: [u8; 32], document: F, first: G) -> Self
    where
        F: Fn(&TestRoot, Fields) -> Vec<u8> + Send + Sync + 'static,
        G: Fn(&Request<Bytes>) -> Answer + Send + Sync + 'static,
    {
        let root = Arc::new(root);
        let signer = Arc::clone(&root);
        let server = Server::start(Some(tls), move |request: Request<Bytes>| {
            if let Some(answer) = first(&request) {
                return Some(answer);
            }
            let path = request.uri().path().to_owned();
            match (request.method().as_str(), path.as_str()) {
                ("GET", "/attestation") => {
                    let nonce = request.uri().query().unwrap().strip_prefix("nonce=").unwrap();
                    let user_data = Binding { tls_key: bound, config: [9; 32] }.encode().to_vec();
                    let nonce =
                        (0..nonce.len()).step_by(2).map(|at| u8::from_str_radix(&nonce[at..at + 2], 16).unwrap());
                    let fields = Fields {
                        user_data: Some(user_data),
                        nonce: Some(nonce.collect()),
                        ..Fields::new(SystemTime::now())
                    };
                    answer(200, json!({ "document": STANDARD.encode(document(&signer, fields)) }))
                }
                _ => sign(&request),
            }
        });
        Self { root, server: server.await }
    }

    pub(crate) fn url(&self) -> EnclaveUrl {
        self.url_text().parse().unwrap()
    }

    pub(crate) fn url_text(&self) -> String {
        format!("https://{}", self.server.address)
    }

    /// Believes in this enclave's image and root.
    pub(crate) fn trust(&self) -> Trust {
        trust(self.root.trust_root())
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.server.seen()
    }

    /// What it was asked, in a word each.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.what).collect()
    }
}

pub(crate) fn trust(root: TrustRoot) -> Trust {
    Trust::new(root, [("right.json".to_owned(), measurements())], []).unwrap()
}

/// Those of [`Fields::new`].
pub(crate) fn measurements() -> Measurements {
    let [pcr0, pcr1, pcr2] = [0x10, 0x11, 0x12].map(|byte| Pcr([byte; Pcr::LEN]));
    Measurements::new(pcr0, pcr1, pcr2)
}

pub(crate) fn measurements_json() -> String {
    let Measurements { pcr0, pcr1, pcr2, .. } = measurements();
    json!({ "PCR0": pcr0.to_string(), "PCR1": pcr1.to_string(), "PCR2": pcr2.to_string() }).to_string()
}

fn sign(request: &Request<Bytes>) -> Answer {
    match (request.method().as_str(), request.uri().path()) {
        ("POST", "/") if request.body().windows(9).any(|part| part == b"forbidden") => answer(
            422,
            json!({ "error": { "code": "policy_refused", "message": "KMS's \"much\"\u{1b}[31m", "field": "value" } }),
        ),
        ("POST", "/") if request.body().windows(7).any(|part| part == b"unknown") => {
            answer(403, json!({ "error": { "code": "forbidden", "message": "no client of that name" } }))
        }
        ("POST", "/") => answer(200, SIGNED),
        ("POST", "/keys") => {
            answer(200, json!({ "address": crate::ADDRESS, "encrypted_key": STANDARD.encode(CIPHERTEXT) }))
        }
        _ => answer(404, ""),
    }
}
