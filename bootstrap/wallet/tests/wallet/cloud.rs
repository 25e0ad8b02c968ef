//! KMS and Secrets Manager, as far as the wallet asks them, behind a certificate authority of the tests' own.

use std::collections::{BTreeMap, BTreeSet};
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
    key_policy: Arc<Mutex<String>>,
    dir: tempfile::TempDir,
}

#[derive(Default)]
struct Secret {
    /// Oldest first.
    versions: Vec<Version>,
    /// What becomes the current version once that is read.
    next: Option<String>,
}

/// A version and its labels.
#[derive(Clone, Debug)]
struct Version {
    id: String,
    text: String,
    labels: BTreeSet<String>,
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
    /// Does what it is asked to do, and says the first time that it did not.
    Unsure,
    /// Has somebody else store a key in every secret once it was described.
    Raced,
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
        let key_policy = Arc::<Mutex<_>>::default();
        let (shared, policy) = (Arc::clone(&secrets), Arc::clone(&key_policy));
        let refused = Mutex::<BTreeSet<String>>::default();
        let server = Server::start(Some(tls), move |request| {
            let answer = match target(&request).as_str() {
                "TrentService.GetKeyPolicy" => self::answer(200, json!({ "Policy": *policy.lock().unwrap() })),
                _ => respond(&request, twist, &shared),
            };
            if twist == Twist::Unsure && refused.lock().unwrap().insert(target(&request)) {
                return self::answer(500, json!({ "__type": "InternalServiceError", "message": "not sure" }));
            }
            answer
        });
        let server = server.await;
        Self { server, secrets, key_policy, dir }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("https://localhost:{}", self.server.address.port())
    }

    pub(crate) fn ca_path(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    pub(crate) fn set_key_policy(&self, text: &str) {
        text.clone_into(&mut self.key_policy.lock().unwrap());
    }

    pub(crate) fn store(&self, name: &str, text: &str) {
        let mut secret = Secret::default();
        secret.put(version_id(1), text, [CURRENT]);
        self.secrets.lock().unwrap().insert(name.to_owned(), secret);
    }

    /// As the stack makes a secret.
    pub(crate) fn store_nothing(&self, name: &str) {
        self.secrets.lock().unwrap().insert(name.to_owned(), Secret::default());
    }

    /// Has a secret become `text` once it is read.
    pub(crate) fn rotate(&self, name: &str, text: &str) {
        self.secrets.lock().unwrap().get_mut(name).unwrap().next = Some(text.to_owned());
    }

    /// How often a secret was read.
    pub(crate) fn reads(&self, name: &str) -> usize {
        let body = json!({ "SecretId": name, "VersionStage": CURRENT });
        self.bodies().iter().filter(|other| **other == body).count()
    }

    /// All versions of a secret, oldest first.
    pub(crate) fn versions(&self, name: &str) -> Vec<String> {
        self.labelled(name).into_iter().map(|(text, _)| text).collect()
    }

    /// The same with their labels.
    pub(crate) fn labelled(&self, name: &str) -> Vec<(String, Vec<String>)> {
        let secrets = self.secrets.lock().unwrap();
        let versions = secrets.get(name).map(|secret| secret.versions.clone()).unwrap_or_default();
        versions.into_iter().map(|version| (version.text, version.labels.into_iter().collect())).collect()
    }

    /// Gives a label to the version that everybody reads.
    pub(crate) fn label(&self, name: &str, label: &str) {
        let current = self.current(name);
        self.secrets.lock().unwrap().get_mut(name).unwrap().move_label(label, &current);
    }

    /// The id of the version that everybody reads.
    pub(crate) fn current(&self, name: &str) -> String {
        self.secrets.lock().unwrap()[name].labelled(CURRENT).unwrap().id.clone()
    }

    pub(crate) fn bodies(&self) -> Vec<Value> {
        self.server.seen().iter().map(|seen| serde_json::from_str(&seen.body).unwrap()).collect()
    }
}

/// The ciphertext says all that it is made of, and hides nothing.
pub(crate) fn ciphertext(key: &str, context: &Value, plaintext: &str) -> String {
    STANDARD.encode(json!([key, context, plaintext]).to_string())
}

const CURRENT: &str = "AWSCURRENT";
const PREVIOUS: &str = "AWSPREVIOUS";

/// As long as a real one.
pub(crate) fn version_id(number: usize) -> String {
    format!("{number:032}")
}

impl Secret {
    fn labelled(&self, label: &str) -> Option<&Version> {
        self.versions.iter().find(|version| version.labels.contains(label))
    }

    /// A label is one version's.
    fn move_label(&mut self, label: &str, to: &str) {
        for version in &mut self.versions {
            let had = version.labels.remove(label);
            if had && label == CURRENT && version.id != to {
                version.labels.insert(PREVIOUS.to_owned());
            } else if label == CURRENT {
                version.labels.remove(PREVIOUS);
            }
            if version.id == to {
                version.labels.insert(label.to_owned());
            }
        }
    }

    /// As AWS, which makes the first version the current one. The same id is the same request.
    fn put<'a>(&mut self, id: String, text: &str, labels: impl IntoIterator<Item = &'a str>) {
        if self.versions.iter().any(|version| version.id == id) {
            return;
        }
        let is_first = self.versions.is_empty();
        self.versions.push(Version { id: id.clone(), text: text.to_owned(), labels: BTreeSet::new() });
        for label in labels.into_iter().chain(is_first.then_some(CURRENT)) {
            self.move_label(label, &id);
        }
    }

    /// The version that is asked for, as an answer.
    fn version(&self, name: &str, label: &str) -> Answer {
        match self.labelled(label) {
            Some(version) => answer(
                200,
                json!({
                    "ARN": format!("{SECRET_ARN}{name}"), "Name": name, "VersionId": version.id, "SecretString": version.text,
                    "VersionStages": version.labels,
                }),
            ),
            None => error("ResourceNotFoundException"),
        }
    }
}

fn target(request: &Request<Bytes>) -> String {
    request.headers().get("x-amz-target").map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

fn respond(request: &Request<Bytes>, twist: Twist, secrets: &Mutex<BTreeMap<String, Secret>>) -> Answer {
    let header = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap()).unwrap_or_default();
    if !header("authorization").contains(ACCESS_KEY_ID) {
        return error("UnrecognizedClientException");
    }
    let body: Value = serde_json::from_slice(request.body()).unwrap();
    let text = |name: &str| body[name].as_str().unwrap_or_default();
    match (target(request).as_str(), twist) {
        ("TrentService.Encrypt", Twist::Denied)
        | ("secretsmanager.PutSecretValue", Twist::StoreDenied)
        | ("secretsmanager.GetSecretValue", Twist::ReadDenied) => error("AccessDeniedException"),
        ("TrentService.Encrypt", _) => {
            let plaintext = String::from_utf8(STANDARD.decode(text("Plaintext")).unwrap()).unwrap();
            let key = if twist == Twist::OtherKey { OTHER_ARN } else { text("KeyId") };
            let blob = ciphertext(key, &body["EncryptionContext"], &plaintext);
            answer(200, json!({ "KeyId": key, "CiphertextBlob": blob }))
        }
        ("TrentService.ReEncrypt", _) => {
            let blob = STANDARD.decode(text("CiphertextBlob")).unwrap();
            let [key, context, plaintext]: [Value; 3] = serde_json::from_slice(&blob).unwrap();
            if key != body["SourceKeyId"] || context != body["SourceEncryptionContext"] {
                return error("InvalidCiphertextException");
            }
            let key = if twist == Twist::OtherKey { OTHER_ARN } else { text("DestinationKeyId") };
            let blob = ciphertext(key, &body["DestinationEncryptionContext"], plaintext.as_str().unwrap());
            answer(200, json!({ "KeyId": key, "SourceKeyId": body["SourceKeyId"], "CiphertextBlob": blob }))
        }
        ("secretsmanager.GetSecretValue", Twist::ReadSilent) => None,
        ("secretsmanager.GetSecretValue", Twist::Binary) => answer(
            200,
            json!({ "ARN": SECRET_ARN, "VersionId": version_id(1), "SecretBinary": STANDARD.encode("31337") }),
        ),
        (other, _) => {
            let name = text("SecretId").strip_prefix(SECRET_ARN).unwrap_or(text("SecretId"));
            let mut secrets = secrets.lock().unwrap();
            if other == "secretsmanager.CreateSecret" {
                secrets.insert(text("Name").to_owned(), Secret::default());
                return answer(200, json!({ "ARN": format!("{SECRET_ARN}{}", text("Name")), "Name": text("Name") }));
            }
            let Some(secret) = secrets.get_mut(name) else { return error("ResourceNotFoundException") };
            let answer = keep(other, name, secret, &body);
            if twist == Twist::Raced && other == "secretsmanager.DescribeSecret" {
                secret.put(version_id(90), "cmFjZWQ=", ["address-raced", CURRENT]);
            }
            answer
        }
    }
}

/// What Secrets Manager does with a secret.
fn keep(what: &str, name: &str, secret: &mut Secret, body: &Value) -> Answer {
    let text = |name: &str| body[name].as_str().unwrap_or_default();
    let arn = format!("{SECRET_ARN}{name}");
    match what {
        "secretsmanager.DescribeSecret" => {
            let labelled = secret.versions.iter().filter(|version| !version.labels.is_empty());
            let versions: BTreeMap<_, _> = labelled.map(|version| (&version.id, &version.labels)).collect();
            answer(200, json!({ "ARN": arn, "Name": name, "VersionIdsToStages": versions }))
        }
        "secretsmanager.PutSecretValue" => {
            let labels = body["VersionStages"].as_array().unwrap().iter().map(|label| label.as_str().unwrap());
            let id = text("ClientRequestToken").to_owned();
            secret.put(id.clone(), text("SecretString"), labels);
            let version = secret.versions.iter().find(|version| version.id == id).unwrap();
            answer(200, json!({ "ARN": arn, "Name": name, "VersionId": id, "VersionStages": version.labels }))
        }
        "secretsmanager.UpdateSecretVersionStage" => {
            let label = text("VersionStage");
            let present = secret.labelled(label).map(|version| version.id.clone());
            if present.as_deref() != body["RemoveFromVersionId"].as_str() {
                return error("InvalidParameterException");
            }
            secret.move_label(label, text("MoveToVersionId"));
            answer(200, json!({ "ARN": arn, "Name": name }))
        }
        "secretsmanager.GetSecretValue" => {
            let answer = secret.version(name, text("VersionStage"));
            if let Some(next) = secret.next.take() {
                let id = version_id(secret.versions.len() + 1);
                secret.put(id, &next, [CURRENT]);
            }
            answer
        }
        other => panic!("{other}"),
    }
}

fn error(code: &str) -> Answer {
    answer(400, json!({ "__type": code, "message": "this AWS says \"no\"\u{1b}[31m" }))
}
