//! What clients see of a ledger, and what they see where it is away.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use serde_json::{Value, json};
use signer::config::Config;
use signer::ledger::{Creation, Store, StoreError, Version, Versions};
use signer::service::{Limits, Service};

use super::harness::{ADDRESS, Client, FakeAttestor, FakeKeys, POLICY, Server, config, serve, sign_body};

const LEDGER: &str = "[ledger]\nbucket = \"example-ledger\"\nowner = \"111122223333\"\nretention_years = 10\n";

/// A bucket that several signers share.
#[derive(Clone, Default)]
struct Bucket(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    objects: HashMap<String, Vec<u8>>,
    problem: Option<StoreError>,
}

impl Bucket {
    fn set_problem(&self, problem: Option<StoreError>) {
        self.0.lock().unwrap().problem = problem;
    }

    fn names(&self, kind: &str) -> usize {
        self.0.lock().unwrap().objects.keys().filter(|name| name.starts_with(kind)).count()
    }

    fn asked<T>(&self, answer: impl FnOnce(&mut State) -> T) -> Result<T, StoreError> {
        let mut state = self.0.lock().unwrap();
        match state.problem.clone() {
            Some(problem) => Err(problem),
            None => Ok(answer(&mut state)),
        }
    }
}

#[async_trait]
impl Store for Bucket {
    async fn check(&self) -> Result<(), StoreError> {
        self.asked(|_state| ())
    }

    async fn create(&self, name: &str, content: &[u8], keep: Duration) -> Result<Creation, StoreError> {
        assert!(keep >= Duration::from_hours(24), "{name} is kept for {keep:?}");
        self.asked(|state| match state.objects.contains_key(name) {
            true => Creation::Taken,
            false => {
                state.objects.insert(name.to_owned(), content.to_vec());
                Creation::Made { version: "1".to_owned() }
            }
        })
    }

    async fn versions(&self, prefix: &str, _after: Option<&str>) -> Result<Versions, StoreError> {
        let now = SystemTime::now();
        let version = |name: &String| Version { name: name.clone(), id: "1".to_owned(), modified: now };
        self.asked(|state| {
            let names = state.objects.keys().filter(|name| name.starts_with(prefix));
            Versions { versions: names.map(version).collect(), markers: 0, is_whole: true, now }
        })
    }

    async fn read(&self, version: &Version, _longest: usize) -> Result<Vec<u8>, StoreError> {
        self.asked(|state| state.objects[&version.name].clone())
    }
}

fn with_ledger(rest: &str) -> Config {
    let key = "[[keys]]\nsecret_id = \"prod/wallet\"\n";
    config(&format!("open = true\n{key}{POLICY}{rest}{LEDGER}"))
}

/// A signer that keeps its ledger in this bucket.
async fn start(bucket: &Bucket, config: Config) -> Server {
    let service = Service::with_limits(config, [9; 32], FakeKeys::default(), FakeAttestor, Limits::default()).unwrap();
    service.keep_ledger_in(bucket.clone());
    serve(service, Arc::default()).await
}

async fn ready(bucket: &Bucket, config: Config) -> (Server, Client) {
    let server = start(bucket, config).await;
    let mut client = server.connect().await;
    client.wait_ready().await;
    (server, client)
}

fn message(answer: &super::harness::Answer) -> String {
    answer.json()["error"]["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn signers_with_one_ledger_sign_one_payload_for_a_nonce() {
    let bucket = Bucket::default();
    let (_one, mut first) = ready(&bucket, with_ledger("")).await;
    let (_other, mut second) = ready(&bucket, with_ledger("")).await;
    let signed = first.sign(7, "prod/wallet").await;
    assert_eq!(signed.status, 200);
    assert_eq!(second.sign(7, "prod/wallet").await.json(), signed.json(), "the same signature");
    for client in [&mut first, &mut second] {
        let refused = client.post("/", &sign_body(7, "prod/wallet").replacen("0.01", "0.02", 1)).await;
        assert_eq!(refused.error(), (422, "policy_refused".into(), Some("transaction_payload.nonce".into())));
        let said = message(&refused);
        assert!(said.starts_with("policy rule nonce_reuse: nonce 7 on chain 4 is spent in the ledger"), "{said}");
    }
    assert_eq!(bucket.names("nonce/"), 1);
    let page = String::from_utf8(second.get("/metrics").await.body).unwrap();
    for line in [
        "signer_ledger_ready 1",
        "signer_ledger_requests_total{outcome=\"ok\"} 1",
        "signer_ledger_requests_total{outcome=\"spent\"} 1",
        "signer_ledger_requests_total{outcome=\"away\"} 0",
    ] {
        assert!(page.lines().any(|has| has == line), "{line} is not in\n{page}");
    }
}

#[tokio::test]
async fn a_transaction_spends_the_nonces_of_its_own_authorisations() {
    let bucket = Bucket::default();
    let delegates = "delegates = [\"0x63c0c19a282a1B52b07dD5a65b58948A07DAE32B\"]\nany_chain_authorizations = true\n";
    let (_server, mut client) = ready(&bucket, with_ledger(delegates)).await;
    let contract = "0x63c0c19a282a1B52b07dD5a65b58948A07DAE32B";
    let authorization = |nonce: u64, chain: u64| {
        format!(r#"[{{"from": "{ADDRESS}", "contract": "{contract}", "chain_id": {chain}, "nonce": {nonce}}}]"#)
    };
    let said = |answer: Value| answer["error"]["message"].as_str().map(str::to_owned);
    let method = "eth_sign7702Authorization";
    assert_eq!(said(client.call("/chain/4", method, &authorization(3, 0)).await), None);
    // It is good on every chain.
    let refused = client.sign(3, "prod/wallet").await;
    assert!(message(&refused).contains("for every chain"), "{refused:?}");
    assert_eq!(client.sign(4, "prod/wallet").await.status, 200);
    let refused = said(client.call("/chain/4", method, &authorization(4, 0)).await);
    assert!(refused.as_ref().is_some_and(|said| said.contains("for chain 4")), "{refused:?}");
    assert_eq!(said(client.call("/chain/1", method, &authorization(5, 1)).await), None);
    assert_eq!(client.sign(5, "prod/wallet").await.status, 200, "of another chain");
}

#[tokio::test]
async fn nothing_is_signed_before_the_bucket_was_found_right_or_while_it_is_away() {
    let bucket = Bucket::default();
    bucket.set_problem(Some(StoreError::Refused("the bucket example-ledger has no versioning".to_owned())));
    let server = start(&bucket, with_ledger("personal_sign = true\n")).await;
    let mut client = server.connect().await;
    let refused = client.sign(1, "prod/wallet").await;
    assert!([502, 503].contains(&refused.status), "{refused:?}");
    let not_ready = client.get("/ready").await;
    assert_eq!(not_ready.error(), (503, "not_ready".into(), None));
    assert!(!message(&not_ready).contains("example"), "anybody may ask: {not_ready:?}");
    bucket.set_problem(None);
    client.wait_ready().await;
    assert_eq!(client.sign(1, "prod/wallet").await.status, 200);

    bucket.set_problem(Some(StoreError::Unavailable("S3 is away".to_owned())));
    let refused = client.sign(2, "prod/wallet").await;
    assert_eq!(refused.error(), (503, "ledger_unavailable".into(), None));
    assert!(refused.head.contains("retry-after: 1"), "{}", refused.head);
    let message = client.call("/", "personal_sign", &format!(r#"["0x00", "{ADDRESS}"]"#)).await;
    assert!(message.get("result").is_some(), "it has no nonce: {message}");
    bucket.set_problem(Some(StoreError::Refused("AccessDenied".to_owned())));
    assert_eq!(client.sign(2, "prod/wallet").await.error(), (502, "ledger_refused".into(), None));
    bucket.set_problem(None);
    assert_eq!(client.sign(2, "prod/wallet").await.status, 200, "the same request");
}

#[tokio::test]
async fn a_call_of_json_rpc_is_told_what_the_ledger_says() {
    let bucket = Bucket::default();
    let (_one, mut first) = ready(&bucket, with_ledger("")).await;
    let (_other, mut second) = ready(&bucket, with_ledger("")).await;
    let transaction = |value: &str| {
        format!(
            r#"[{{"from": "{ADDRESS}", "to": "0xa5D3241A1591061F2a4bB69CA0215F66520E67cf", "value": "{value}", "nonce": "0x7", "gas": "0x186a0",
            "maxFeePerGas": "0x174876e800", "maxPriorityFeePerGas": "0xb2d05e00"}}]"#
        )
    };
    let method = "eth_signTransaction";
    let signed = first.call("/chain/4", method, &transaction("0x1")).await;
    assert_eq!(second.call("/chain/4", method, &transaction("0x1")).await["result"], signed["result"]);
    let problems = [
        (None, -32010, json!({"code": "policy_refused", "rule": "nonce_reuse", "field": "params[0].nonce"})),
        (
            Some(StoreError::Unavailable("S3 is away".to_owned())),
            -32002,
            json!({"code": "ledger_unavailable", "retry_after": 1}),
        ),
        (Some(StoreError::Refused("AccessDenied".to_owned())), -32603, json!({"code": "ledger_refused"})),
    ];
    for (problem, code, data) in problems {
        bucket.set_problem(problem);
        let refused = second.call("/chain/4", method, &transaction("0x2")).await;
        let error = &refused["error"];
        assert_eq!((&error["code"], &error["data"]), (&code.into(), &data), "{refused}");
        assert!(error["message"].as_str().is_some_and(|said| said.contains("ledger")), "{refused}");
    }
}

#[tokio::test]
async fn a_window_counts_what_all_signers_have_signed() {
    let bucket = Bucket::default();
    let windows = "[[policy.windows]]\nperiod = \"24h\"\nmax_value = \"1 ether\"\n";
    let (_one, mut first) = ready(&bucket, with_ledger(windows)).await;
    let (_other, mut second) = ready(&bucket, with_ledger(windows)).await;
    let valued = |nonce: u64, value: &str| sign_body(nonce, "prod/wallet").replacen("0.01", value, 1);
    assert_eq!(first.post("/", &valued(0, "0.6")).await.status, 200);
    assert_eq!(first.post("/", &valued(0, "0.6")).await.status, 200, "the same request counts once");
    let refused = second.post("/", &valued(1, "0.5")).await;
    assert_eq!(
        message(&refused),
        "policy rule windows: 0.5 ether more on chain 4 would be 1.1 ether in 1day, at most 1 ether; counted is what all enclaves of \
         the ledger have signed or may still sign; expected at most 0.4 ether now"
    );
    // Its nonce is free, and a nonce that is spent gives the window's part back.
    let refused = second.post("/", &valued(0, "0.3")).await;
    assert!(message(&refused).contains("nonce_reuse"), "{refused:?}");
    assert_eq!(second.post("/", &valued(1, "0.4")).await.status, 200);
    let refused = second.post("/", &valued(2, "0.01")).await;
    assert!(message(&refused).contains("policy rule windows"), "{refused:?}");
}

#[tokio::test]
async fn a_key_that_may_sign_a_nonce_again_makes_no_records() {
    let bucket = Bucket::default();
    let policy = POLICY.replace("nonce_reuse = false", "nonce_reuse = true");
    let (_server, mut client) = ready(&bucket, config(&format!("open = true\n{policy}{LEDGER}"))).await;
    for value in ["0.01", "0.02"] {
        let answer = client.post("/", &sign_body(7, "prod/wallet").replacen("0.01", value, 1)).await;
        assert_eq!(answer.status, 200);
    }
    assert_eq!(bucket.names(""), 0);
}
