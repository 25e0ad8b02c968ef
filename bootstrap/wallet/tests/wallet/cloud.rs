//! KMS and Secrets Manager, as far as the wallet asks them, behind a certificate authority of the tests' own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Request;
use hyper::body::Bytes;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};

use crate::server::{Answer, Server, answer};

pub(crate) const KEY_ARN: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
pub(crate) const OTHER_ARN: &str = "arn:aws:kms:eu-central-1:111122223333:key/ffffffff-12ab-34cd-56ef-1234567890ab";
pub(crate) const SECRET_ARN: &str = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:";
pub(crate) const ACCESS_KEY_ID: &str = "ASIAEXAMPLE0KNOWN000";
pub(crate) const SECRET_ACCESS_KEY: &str = "an/example/and/not+a+secret/access+key00";

/// A running AWS.
pub(crate) struct Cloud {
    server: Server,
    secrets: Arc<Mutex<BTreeMap<String, Secret>>>,
    dir: tempfile::TempDir,
}

#[derive(Default)]
struct Secret {
    versions: Vec<String>,
    next: Option<String>,
}

/// What it does differently from AWS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Twist {
    Nothing,
    /// Encrypts with a key that was not asked for.
    OtherKey,
    /// Does not encrypt for anybody.
    Denied,
    /// Keeps nothing.
    StoreDenied,
    /// Shows nothing.
    ReadDenied,
    /// Does not answer who reads.
    ReadSilent,
    /// Has secrets that are no text.
    Binary,
}

impl Cloud {
    pub(crate) async fn start() -> Self {
        Self::with(Twist::Nothing).await
    }

    pub(crate) async fn with(twist: Twist) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca_key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&ca_key).unwrap();
        std::fs::write(dir.path().join("ca.pem"), ca.pem()).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = certificate.signed_by(&key, &Issuer::from_params(&params, &ca_key)).unwrap();
        let tls = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            )
            .unwrap();
        let secrets = Arc::<Mutex<BTreeMap<_, _>>>::default();
        let shared = Arc::clone(&secrets);
        let server = Server::start(Some(tls), move |request| respond(&request, twist, &shared)).await;
        Self { server, secrets, dir }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("https://localhost:{}", self.server.address.port())
    }

    pub(crate) fn ca_path(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    pub(crate) fn store(&self, name: &str, text: &str) {
        let secret = Secret { versions: vec![text.to_owned()], next: None };
        self.secrets.lock().unwrap().insert(name.to_owned(), secret);
    }

    /// Has a secret become `text` once it is read.
    pub(crate) fn rotate(&self, name: &str, text: &str) {
        self.secrets.lock().unwrap().get_mut(name).unwrap().next = Some(text.to_owned());
    }

    /// How often a secret was read.
    pub(crate) fn reads(&self, name: &str) -> usize {
        let body = json!({ "SecretId": name });
        self.bodies().iter().filter(|other| **other == body).count()
    }

    /// All versions of a secret.
    pub(crate) fn versions(&self, name: &str) -> Vec<String> {
        self.secrets.lock().unwrap().get(name).map(|secret| secret.versions.clone()).unwrap_or_default()
    }

    pub(crate) fn bodies(&self) -> Vec<Value> {
        self.server.seen().iter().map(|seen| serde_json::from_str(&seen.body).unwrap()).collect()
    }
}

/// The ciphertext says all that it is made of, and hides nothing.
pub(crate) fn ciphertext(key: &str, context: &Value, plaintext: &str) -> String {
    STANDARD.encode(json!([key, context, plaintext]).to_string())
}

fn respond(request: &Request<Bytes>, twist: Twist, secrets: &Mutex<BTreeMap<String, Secret>>) -> Answer {
    let header = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap()).unwrap_or_default();
    if !header("authorization").contains(ACCESS_KEY_ID) {
        return error("UnrecognizedClientException");
    }
    let body: Value = serde_json::from_slice(request.body()).unwrap();
    let mut secrets = secrets.lock().unwrap();
    let text = |name: &str| body[name].as_str().unwrap_or_default();
    let name = |id: &str| id.strip_prefix(SECRET_ARN).unwrap_or(id).to_owned();
    match (header("x-amz-target"), twist) {
        ("TrentService.Encrypt", Twist::Denied) => error("AccessDeniedException"),
        ("TrentService.Encrypt", _) => {
            let plaintext = String::from_utf8(STANDARD.decode(text("Plaintext")).unwrap()).unwrap();
            let key = if twist == Twist::OtherKey { OTHER_ARN } else { text("KeyId") };
            let blob = ciphertext(key, &body["EncryptionContext"], &plaintext);
            answer(200, json!({ "KeyId": key, "CiphertextBlob": blob }))
        }
        ("secretsmanager.PutSecretValue", Twist::StoreDenied) => error("AccessDeniedException"),
        ("secretsmanager.PutSecretValue", _) => match secrets.get_mut(&name(text("SecretId"))) {
            Some(Secret { versions, .. }) => {
                versions.push(text("SecretString").to_owned());
                described(&name(text("SecretId")), versions)
            }
            None => error("ResourceNotFoundException"),
        },
        ("secretsmanager.CreateSecret", _) => {
            let Secret { versions, .. } = secrets.entry(text("Name").to_owned()).or_default();
            versions.push(text("SecretString").to_owned());
            described(text("Name"), versions)
        }
        ("secretsmanager.GetSecretValue", Twist::ReadDenied) => error("AccessDeniedException"),
        ("secretsmanager.GetSecretValue", Twist::ReadSilent) => None,
        ("secretsmanager.GetSecretValue", Twist::Binary) => answer(
            200,
            json!({ "ARN": SECRET_ARN, "VersionId": "version-1", "SecretBinary": STANDARD.encode("31337") }),
        ),
        ("secretsmanager.GetSecretValue", _) => match secrets.get_mut(&name(text("SecretId"))) {
            Some(Secret { versions, next }) => {
                let answer = described(&name(text("SecretId")), versions);
                versions.extend(next.take());
                answer
            }
            None => error("ResourceNotFoundException"),
        },
        (other, _) => panic!("{other}"),
    }
}

fn described(name: &str, versions: &[String]) -> Answer {
    let arn = format!("{SECRET_ARN}{name}");
    let version = format!("version-{}", versions.len());
    answer(200, json!({ "ARN": arn, "Name": name, "VersionId": version, "SecretString": versions.last() }))
}

fn error(code: &str) -> Answer {
    answer(400, json!({ "__type": code, "message": "this AWS says \"no\"\u{1b}[31m" }))
}
