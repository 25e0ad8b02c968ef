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
use crate::enclave::{Authority, Enclave, Identity, SIGNED, measurements_json};
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
        ("SET_KEY", "true".to_owned()),
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
async fn an_enclave_that_is_busy_for_a_moment_costs_a_moment_and_no_event() {
    let (enclave, cloud) = (Enclave::busy(2, "1").await, Cloud::start().await);
    let event = r#"{"operation": "sign_transaction", "transaction_payload": {}}"#;
    let mut function = Function::start(&[event], &variables(&enclave, &cloud)).await;
    let report = function.report().await;
    assert_eq!(report.path, "invocation/event-0/response", "{report:?}");
    assert_eq!(enclave.asked().len(), 6);
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
    let expected = json!({
        "secret_id": format!("{SECRET_ARN}hot-wallet"), "version_id": cloud.current("hot-wallet"), "address": ADDRESS,
        "label": format!("address-{ADDRESS}"), "replaced": null,
    });
    assert_eq!(report.body, expected);
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
async fn a_key_that_is_there_is_replaced_by_an_event_that_names_it_and_no_other() {
    let (enclave, cloud) = (Enclave::start().await, Cloud::start().await);
    let event = |more: &str| format!(r#"{{"operation": "set_key", "eth_key": "{KEY}"{more}}}"#);
    let other = r#", "replace": "0xa5D3241A1591061F2a4bB69CA0215F66520E67cf""#;
    let named = format!(r#", "replace": "{ADDRESS}""#);
    let events = ["", "", other, &named].map(event);
    let mut function = Function::start(&events.each_ref().map(String::as_str), &variables(&enclave, &cloud)).await;
    assert_eq!(function.report().await.path, "invocation/event-0/response");
    for index in 1..3 {
        let report = function.report().await;
        assert_eq!(
            (report.path, report.error_type.as_str()),
            (format!("invocation/event-{index}/error"), "KeyConflict")
        );
        let text = report.body["errorMessage"].as_str().unwrap();
        assert!(text.contains(&format!("it holds the key {ADDRESS}")), "{text}");
        assert_eq!(cloud.versions("hot-wallet").len(), 1);
    }
    let report = function.report().await;
    assert_eq!(report.body["replaced"], ADDRESS, "{report:?}");
    assert_eq!(cloud.versions("hot-wallet").len(), 2);
}

#[tokio::test]
async fn a_function_that_is_not_told_to_stores_no_key() {
    let (enclave, cloud) = (Enclave::start().await, Cloud::start().await);
    let set = format!(r#"{{"operation": "set_key", "eth_key": "{KEY}"}}"#);
    let without: Vec<_> = variables(&enclave, &cloud).into_iter().filter(|(name, _)| *name != "SET_KEY").collect();
    let mut function = Function::start(&[&set], &without).await;
    let report = function.report().await;
    assert_eq!(report.error_type, "SetKeyOff", "{report:?}");
    assert!(report.body["errorMessage"].as_str().unwrap().contains("function.may_set_key = true"), "{report:?}");
    assert_eq!(cloud.bodies(), [Value::Null; 0]);
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
        (1, "AwsError", "AccessDeniedException (HTTP 400), \"this AWS says \"no\"\\u{1b}[31m\""),
        (2, "EnclaveNotTrusted", "failed attestation, and no request was sent"),
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

/// The variables of a function that is a client with a certificate.
fn client_variables(enclave: &Enclave, cloud: &Cloud) -> Vec<(&'static str, String)> {
    [variables(enclave, cloud), vec![("CLIENT_SECRET_ID", "wallet-client".to_owned())]].concat()
}

const SIGN: &str = r#"{"operation": "sign_transaction", "transaction_payload": {"nonce": 0}}"#;

#[tokio::test]
async fn an_enclave_that_asks_who_is_there_is_shown_the_certificate_of_the_secret_which_is_read_once() {
    let (authority, cloud) = (Authority::new(), Cloud::start().await);
    let between = authority.intermediate();
    let enclave = Enclave::for_clients_of(&authority).await;
    let (certificate, key) = between.client();
    cloud.store("hot-wallet", "b2xk");
    cloud.store("wallet-client", &[between.certificate.pem(), key, certificate].concat());
    let events = [r#"{"operation": "get_key"}"#, SIGN, SIGN];
    let mut function = Function::start(&events, &client_variables(&enclave, &cloud)).await;
    assert_eq!(function.report().await.body, json!("b2xk"));
    for index in 1..3 {
        let report = function.report().await;
        assert_eq!(report.path, format!("invocation/event-{index}/response"), "{report:?}");
    }
    assert_eq!(enclave.asked(), ["GET /attestation", "POST /"].repeat(2));
    let asked: Vec<_> = cloud.bodies().iter().map(|body| body["SecretId"].clone()).collect();
    assert_eq!(asked, ["hot-wallet", "wallet-client"], "not before it is needed, and once");
}

#[tokio::test]
async fn a_certificate_that_was_replaced_is_taken_up_once_the_old_one_is_refused() {
    let (authority, cloud) = (Authority::new(), Cloud::start().await);
    let enclave = Enclave::for_clients_of(&authority).await;
    let pem = |(certificate, key): (String, String)| certificate + &key;
    cloud.store("wallet-client", &pem(Authority::new().client()));
    cloud.rotate("wallet-client", &pem(authority.client()));
    let mut function = Function::start(&[SIGN, SIGN, SIGN], &client_variables(&enclave, &cloud)).await;
    let report = function.report().await;
    assert_eq!(report.error_type, "EnclaveUnavailable", "what was read for this very event is final: {report:?}");
    for index in 1..3 {
        let report = function.report().await;
        assert_eq!(report.path, format!("invocation/event-{index}/response"), "{report:?}");
    }
    assert_eq!(cloud.reads("wallet-client"), 2);
}

#[tokio::test]
async fn a_refusal_is_of_the_certificate_only_if_another_one_could_change_it() {
    let (authority, pem) = (Authority::new(), |(certificate, key): (String, String)| certificate + &key);
    let unknown = r#"{"operation": "sign_transaction", "transaction_payload": {"unknown": 1}}"#;
    let forbidden = r#"{"operation": "sign_transaction", "transaction_payload": {"forbidden": 1}}"#;
    for (event, reads, asked) in [(unknown, 2, 4), (forbidden, 1, 3)] {
        let (enclave, cloud) = (Enclave::for_clients_of(&authority).await, Cloud::start().await);
        cloud.store("wallet-client", &pem(authority.client()));
        let mut function = Function::start(&[SIGN, event], &client_variables(&enclave, &cloud)).await;
        assert_eq!(function.report().await.path, "invocation/event-0/response");
        let report = function.report().await;
        assert_eq!(report.error_type, "EnclaveRefused", "{report:?}");
        assert_eq!(cloud.reads("wallet-client"), reads, "{event}");
        let posts = enclave.asked().iter().filter(|what| *what == "POST /").count();
        assert_eq!(posts + 1, asked, "{event}");
    }
}

#[tokio::test]
async fn a_handshake_that_does_not_come_about_has_the_secret_read_again_once() {
    let (identity, cloud) = (Identity::new(), Cloud::start().await);
    let root = TestRoot::new(SystemTime::now());
    let sign = |root: &TestRoot, fields: Fields| root.sign(&fields);
    let enclave = Enclave::speaking(root, identity.tls12(), identity.digest(), sign).await;
    let (certificate, key) = Authority::new().client();
    cloud.store("wallet-client", &(certificate + &key));
    let mut function = Function::start(&[SIGN, SIGN], &client_variables(&enclave, &cloud)).await;
    for reads in 1..3 {
        let report = function.report().await;
        assert_eq!(report.error_type, "EnclaveUnavailable", "{report:?}");
        assert!(cloud.reads("wallet-client") >= reads);
    }
    assert_eq!(cloud.reads("wallet-client"), 2);
}

#[tokio::test]
async fn for_who_is_not_the_enclave_the_secret_is_not_read_again() {
    let (genuine, middle, cloud) = (Identity::new(), Identity::new(), Cloud::start().await);
    let root = TestRoot::new(SystemTime::now());
    let relay = |root: &TestRoot, fields: Fields| root.sign(&fields);
    let enclave = Enclave::speaking(root, middle.tls(), genuine.digest(), relay).await;
    let (certificate, key) = Authority::new().client();
    cloud.store("wallet-client", &(certificate + &key));
    let mut function = Function::start(&[SIGN, SIGN], &client_variables(&enclave, &cloud)).await;
    for _ in 0..2 {
        assert_eq!(function.report().await.error_type, "EnclaveNotTrusted");
    }
    assert_eq!(cloud.reads("wallet-client"), 1);
}

/// The error of an event that needs the client's secret, and gets this from AWS.
async fn client_secret_error(twist: Twist, secret: Option<&str>) -> String {
    let (enclave, cloud) = (Enclave::for_clients_of(&Authority::new()).await, Cloud::with(twist).await);
    if let Some(text) = secret {
        cloud.store("wallet-client", text);
    }
    let mut function = Function::start(&[SIGN], &client_variables(&enclave, &cloud)).await;
    let report = function.report().await;
    assert_eq!(report.error_type, "ClientSecretError", "{report:?}");
    assert_eq!(enclave.asked(), [""; 0]);
    let message = report.body["errorMessage"].as_str().unwrap();
    assert!(function.log().await.contains(message));
    let expected = "CLIENT_SECRET_ID, expected a secret whose text is the PEM of the client's certificate and of its \
                    private key: ";
    message.strip_prefix(expected).unwrap().to_owned()
}

#[tokio::test]
async fn a_secret_that_is_no_client_s_is_named_and_not_shown() {
    let authority = Authority::new();
    let ((certificate, key), (_, other_key)) = (authority.client(), authority.client());
    let no_pem = "not PEM: a BEGIN without its END, or no base64 between them";
    let no_key = "no private key in it, expected PEM without a passphrase, as `openssl genpkey` writes it";
    for (parts, expected) in [
        ([&key, "", ""], "no CERTIFICATE in it, expected PEM"),
        ([&certificate, "", ""], no_key),
        (["31337", "", ""], no_key),
        (
            [&certificate, &other_key, ""],
            "its private key belongs to none of its certificates: keys may not be consistent: KeyMismatch",
        ),
        ([&certificate, &key, &other_key], "more than one private key in it, expected one"),
        ([&certificate, &key.replace("-----END", "-----AND"), ""], no_pem),
        ([&certificate, &key.replacen("\nM", "\n!", 1), ""], no_pem),
        ([&certificate, &key.replace("KEY-----", "KEY 31337"), ""], no_pem),
    ] {
        let error = client_secret_error(Twist::Nothing, Some(&parts.concat())).await;
        // All that it says: there is nothing of the secret in it.
        let error = error.strip_prefix("secret \"wallet-client\": ").unwrap();
        assert_eq!(error, expected);
    }
}

#[tokio::test]
async fn a_client_s_secret_that_cannot_be_read_is_named() {
    let refused = "(HTTP 400), \"this AWS says \"no\"\\u{1b}[31m\"";
    let not_there = format!("ResourceNotFoundException {refused}; compare the secret's name and region");
    let denied = format!("AccessDeniedException {refused}; the role, the key's policy or the secret's policy");
    for (twist, secret, expected) in [
        (Twist::Nothing, None, not_there.as_str()),
        (Twist::ReadDenied, Some("31337"), &denied),
        (Twist::Binary, Some("31337"), "it is binary, expected text: a SecretString"),
    ] {
        let error = client_secret_error(twist, secret).await;
        assert!(error.starts_with(&format!("read secret \"wallet-client\": {expected}")), "{error}");
    }
}

#[tokio::test]
async fn a_client_s_secret_that_does_not_come_ends_with_the_invocation() {
    let (enclave, cloud) = (Enclave::start().await, Cloud::with(Twist::ReadSilent).await);
    let left = Duration::from_secs(2);
    let mut function = Function::with_deadline(&[SIGN], &client_variables(&enclave, &cloud), left).await;
    let report = function.report().await;
    assert_eq!(report.body["errorType"], "Timeout", "{report:?}");
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
    assert!(error.contains("AWS_LAMBDA_RUNTIME_API is not set: Lambda starts this program"), "{error}");
}
