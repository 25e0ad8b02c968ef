//! The Lambda function against a runtime API of the tests' own.

use std::collections::VecDeque;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use hyper::body::Bytes;
use hyper::{Request, Response};
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::cloud::{ACCESS_KEY_ID, Cloud, KEY_ARN, SECRET_ACCESS_KEY, SECRET_ARN, Twist, ciphertext};
use crate::enclave::{Enclave, Identity, SIGNED, measurements_json};
use crate::server::{Server, answer};
use crate::{ADDRESS, KEY};
use attestation::test_root::{Fields, TestRoot};

/// What no test waits longer for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A runtime API with a function behind it.
struct Function {
    reports: mpsc::Receiver<Report>,
    child: Child,
    _api: Server,
}

/// What the function told the runtime API.
#[derive(Debug)]
struct Report {
    path: String,
    error_type: String,
    body: Value,
}

impl Function {
    async fn start(events: &[&str], variables: &[(&str, String)]) -> Self {
        Self::with_deadline(events, variables, Duration::from_secs(60)).await
    }

    async fn with_deadline(events: &[&str], variables: &[(&str, String)], left: Duration) -> Self {
        let events: VecDeque<_> = events.iter().map(|event| (*event).to_owned()).enumerate().collect();
        let (events, (sender, reports)) = (Mutex::new(events), mpsc::channel(16));
        let api = Server::start(None, move |request: Request<Bytes>| {
            let path = request.uri().path();
            if path == "/2018-06-01/runtime/invocation/next" {
                let (index, event) = events.lock().unwrap().pop_front()?;
                let deadline = (SystemTime::now() + left).duration_since(SystemTime::UNIX_EPOCH).unwrap();
                let response = Response::builder()
                    .header("Lambda-Runtime-Aws-Request-Id", format!("event-{index}"))
                    .header("Lambda-Runtime-Deadline-Ms", deadline.as_millis().to_string());
                return Some(response.body(event).unwrap());
            }
            let error_type = request.headers().get("lambda-runtime-function-error-type");
            let report = Report {
                path: path.strip_prefix("/2018-06-01/runtime/").unwrap().to_owned(),
                error_type: error_type.map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default(),
                body: serde_json::from_slice(request.body()).unwrap(),
            };
            sender.try_send(report).unwrap();
            answer(202, "")
        });
        let api = api.await;
        let mut command = Command::new(env!("CARGO_BIN_EXE_bootstrap"));
        command.env_clear().envs(variables.iter().map(|(name, value)| (name, value)));
        command.env("AWS_LAMBDA_RUNTIME_API", api.address.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        Self { reports, child: command.spawn().unwrap(), _api: api }
    }

    async fn report(&mut self) -> Report {
        timeout(PATIENCE, self.reports.recv()).await.unwrap().unwrap()
    }

    /// All that it logged, once it is stopped.
    async fn log(mut self) -> String {
        self.child.start_kill().unwrap();
        String::from_utf8(self.child.wait_with_output().await.unwrap().stderr).unwrap()
    }
}

fn variables(enclave: &Enclave, cloud: &Cloud) -> Vec<(&'static str, String)> {
    vec![
        ("SECRET_ID", "hot-wallet".to_owned()),
        ("KEY_ARN", KEY_ARN.to_owned()),
        ("ENCRYPTION_CONTEXT", r#"{"purpose": "ethereum-signer"}"#.to_owned()),
        ("ENCLAVE_URL", enclave.url_text()),
        ("MEASUREMENTS", measurements_json()),
        ("ATTESTATION_ROOT", enclave.root.root_pem()),
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY.to_owned()),
        ("AWS_SESSION_TOKEN", "a-session".to_owned()),
        ("AWS_ENDPOINT_URL_KMS", cloud.endpoint()),
        ("AWS_ENDPOINT_URL_SECRETS_MANAGER", cloud.endpoint()),
        ("AWS_CA_BUNDLE", cloud.ca_path().display().to_string()),
    ]
}

#[tokio::test]
async fn the_three_events_are_answered_one_after_another() {
    let (enclave, cloud) = (Enclave::start().await, Cloud::start().await);
    let set = format!(r#"{{"operation": "set_key", "eth_key": "{KEY}"}}"#);
    let events = [
        set.as_str(),
        r#"{"operation": "get_key"}"#,
        r#"{"operation": "sign_transaction", "transaction_payload": {"value": 0.10, "nonce": 0}}"#,
    ];
    let mut function = Function::start(&events, &variables(&enclave, &cloud)).await;

    let report = function.report().await;
    assert_eq!(report.path, "invocation/event-0/response", "{report:?}");
    let secret = format!("{SECRET_ARN}hot-wallet");
    assert_eq!(report.body, json!({ "secret_id": secret, "version_id": "version-1", "address": ADDRESS }));
    let report = function.report().await;
    assert_eq!(report.path, "invocation/event-1/response");
    let stored = ciphertext(KEY_ARN, &json!({ "purpose": "ethereum-signer" }), &format!("0x{KEY}"));
    assert_eq!(report.body, json!(stored));
    let report = function.report().await;
    assert_eq!(report.path, "invocation/event-2/response");
    assert_eq!(report.body, serde_json::from_str::<Value>(SIGNED).unwrap());
    let sent = &enclave.seen()[1].body;
    assert_eq!(sent, r#"{"transaction_payload": {"value": 0.10, "nonce": 0}, "secret_id": "hot-wallet"}"#);

    let log = function.log().await;
    assert!(log.contains("answered") && !log.contains(&KEY[..16]), "{log}");
}

#[tokio::test]
async fn what_goes_wrong_is_told_and_the_next_event_is_answered() {
    let (genuine, middle) = (Identity::new(), Identity::new());
    let root = TestRoot::new(SystemTime::now());
    let relay = |root: &TestRoot, fields: Fields| root.sign(&fields);
    let enclave = Enclave::speaking(root, middle.tls(), genuine.digest(), relay).await;
    let cloud = Cloud::with(Twist::Denied).await;
    let set = format!(r#"{{"operation": "set_key", "eth_key": "{KEY}"}}"#);
    let wrong = format!(r#"{{"operation": "set_key", "eth_key": "{KEY}00"}}"#);
    let sign = r#"{"operation": "sign_transaction", "transaction_payload": {"nonce": 0}}"#;
    let events = [wrong.as_str(), &set, sign, r#"{"operation": "get_key"}"#];
    let mut function = Function::start(&events, &variables(&enclave, &cloud)).await;
    for (index, error_type, message) in [
        (0, "InvalidEvent", "event: eth_key: not a secret key, expected 64 hex digits"),
        (1, "AwsError", "AccessDeniedException (HTTP 400), \"this AWS says no\""),
        (2, "EnclaveNotTrusted", "is not the enclave, and nothing was asked of it"),
        (3, "AwsError", "read secret \"hot-wallet\": ResourceNotFoundException"),
    ] {
        let report = function.report().await;
        assert_eq!(report.path, format!("invocation/event-{index}/error"), "{report:?}");
        assert_eq!((report.error_type.as_str(), &report.body["errorType"]), (error_type, &json!(error_type)));
        let text = report.body["errorMessage"].as_str().unwrap();
        assert!(text.contains(message) && !text.contains(&KEY[..16]), "{text}");
    }
    assert_eq!(enclave.asked(), ["GET /attestation"], "nothing of the request reached who is not the enclave");
    let log = function.log().await;
    assert!(!log.contains(&KEY[..16]), "{log}");
}

#[tokio::test]
async fn a_refusal_of_the_signer_has_a_name_of_its_own() {
    let (enclave, cloud) = (Enclave::start().await, Cloud::start().await);
    let event = r#"{"operation": "sign_transaction", "transaction_payload": {"forbidden": 1}}"#;
    let mut function = Function::start(&[event], &variables(&enclave, &cloud)).await;
    let report = function.report().await;
    assert_eq!(report.error_type, "EnclaveRefused", "{report:?}");
}

#[tokio::test]
async fn an_invocation_that_has_no_time_left_is_told_so() {
    let (enclave, cloud) = (Enclave::start().await, Cloud::start().await);
    let event = r#"{"operation": "get_key"}"#;
    let mut function =
        Function::with_deadline(&[event], &variables(&enclave, &cloud), Duration::from_millis(100)).await;
    let report = function.report().await;
    assert_eq!(report.body["errorType"], "Timeout", "{report:?}");
}

#[tokio::test]
async fn a_function_that_cannot_start_says_why() {
    let (enclave, cloud) = (Enclave::start().await, Cloud::start().await);
    let without =
        |name: &str| variables(&enclave, &cloud).into_iter().filter(|(other, _)| *other != name).collect::<Vec<_>>();
    let mut function = Function::start(&[], &without("MEASUREMENTS")).await;
    let report = function.report().await;
    assert_eq!(report.path, "init/error");
    let expected = "environment: MEASUREMENTS is not set, expected the text of measurements.json";
    assert_eq!(report.body["errorMessage"], expected);
    let status = timeout(PATIENCE, function.child.wait()).await.unwrap().unwrap();
    assert!(!status.success());
}

#[tokio::test]
async fn the_function_outside_of_lambda_says_what_it_is() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bootstrap"));
    let output = command.env_clear().output().await.unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("AWS_LAMBDA_RUNTIME_API is not set: this program is started by Lambda"), "{error}");
}
