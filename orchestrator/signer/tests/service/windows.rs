//! Limits of what is signed in a time, as clients see them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::task::JoinSet;

use super::harness::{Authority, POLICY, config, open, sign_body, start};

const TOKEN: &str = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48";

fn windows(windows: &str) -> String {
    format!("open = true\n{POLICY}{windows}")
}

fn valued(nonce: u64, value: &str) -> String {
    sign_body(nonce, "prod/wallet").replacen("0.01", value, 1)
}

/// A transfer of so many units of the token.
fn transfer(nonce: u64, amount: u64) -> String {
    let data = format!("a9059cbb{:064x}{amount:064x}", 7);
    let body = valued(nonce, "0").replacen("0xa5D3241A1591061F2a4bB69CA0215F66520E67cf", TOKEN, 1);
    body.replacen("\"gas\"", &format!("\"data\": \"0x{data}\", \"gas\""), 1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_is_exact_however_many_ask_at_once() {
    for (limit, value) in [("max_count = 1000", "0.01"), ("max_value = \"1000 wei\"", "0.000000000000000001")] {
        let server = start(config(&windows(&format!("[[policy.windows]]\nperiod = \"24h\"\n{limit}\n")))).await;
        let (next, signed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut tasks = JoinSet::new();
        for _ in 0..64 {
            let (mut client, next, signed) = (server.connect().await, Arc::clone(&next), Arc::clone(&signed));
            let value = value.to_owned();
            tasks.spawn(async move {
                loop {
                    let nonce = next.fetch_add(1, Ordering::Relaxed);
                    if nonce >= 10_000 {
                        break;
                    }
                    let answer = client.post("/", &valued(nonce, &value)).await;
                    if answer.status == 200 {
                        signed.fetch_add(1, Ordering::Relaxed);
                    } else {
                        assert_eq!(answer.error(), (422, "policy_refused".into(), Some("transaction_payload".into())));
                    }
                }
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
        assert_eq!(signed.load(Ordering::Relaxed), 1000, "{limit}");
    }
}

#[tokio::test]
async fn a_request_that_is_refused_spends_neither_its_nonce_nor_a_window() {
    let server = start(config(&windows("[[policy.windows]]\nperiod = \"24h\"\nmax_value = \"1 ether\"\n"))).await;
    let mut client = server.connect().await;
    assert_eq!(client.post("/", &valued(0, "0.6")).await.status, 200);
    // By the window: its nonce is free.
    let refused = client.post("/", &valued(1, "0.5")).await;
    let message = refused.json()["error"]["message"].as_str().unwrap().to_owned();
    assert_eq!(
        message,
        "policy rule windows: 0.5 ether more on chain 4 would be 1.1 ether in 1day, at most 1 ether; counted since the signer started; \
         expected at most 0.4 ether now"
    );
    // By its nonce: the window is not spent.
    let other = client.post("/", &valued(0, "0.3")).await;
    assert!(other.json()["error"]["message"].as_str().unwrap().starts_with("policy rule nonce_reuse"));
    assert_eq!(client.post("/", &valued(1, "0.4")).await.status, 200);
    // Another chain is another window.
    assert_eq!(client.post("/", &valued(0, "0.9").replace("\"chainId\": 4", "\"chainId\": 1")).await.status, 200);
}

#[tokio::test]
async fn the_same_request_and_its_fee_bumps_count_once() {
    let limit = "[[policy.windows]]\nperiod = \"24h\"\nmax_count = 2\n";
    let server = start(config(&format!("open = true\n{POLICY}fee_bump = true\n{limit}"))).await;
    let mut client = server.connect().await;
    let bumped =
        sign_body(0, "prod/wallet").replace("100000000000", "110000000000").replace("3000000000", "3300000000");
    for body in [sign_body(0, "prod/wallet"), sign_body(0, "prod/wallet"), bumped.clone(), bumped] {
        assert_eq!(client.post("/", &body).await.status, 200);
    }
    assert_eq!(client.sign(1, "prod/wallet").await.status, 200);
    assert_eq!(client.sign(2, "prod/wallet").await.status, 422);
    assert_eq!(client.sign(1, "prod/wallet").await.status, 200);
}

#[tokio::test]
async fn a_key_that_may_reuse_nonces_has_windows_too() {
    let limit = "[[policy.windows]]\nperiod = \"24h\"\nmax_value = \"1 ether\"\n";
    let policy = POLICY.replace("nonce_reuse = false", "nonce_reuse = true");
    let server = start(config(&format!("open = true\n{policy}{limit}"))).await;
    let mut client = server.connect().await;
    for body in [valued(0, "0.5"), valued(0, "0.5"), valued(0, "0.4")] {
        assert_eq!(client.post("/", &body).await.status, 200);
    }
    assert_eq!(client.post("/", &valued(0, "0.2")).await.status, 422);
}

#[tokio::test]
async fn payments_in_a_token_count_as_the_rules_for_arguments_say() {
    let policy = POLICY.replace("data_selectors = \"any\"", "data_selectors = []");
    let calls = format!(
        "[[policy.windows]]\nperiod = \"24h\"\ntoken = \"{TOKEN}\"\nmax = \"10\"\ndecimals = 6\n[policy.calls.{TOKEN}]\n\
         \"transfer(address to, uint256 amount)\" = {{ to = \"any\", amount = {{ max = \"6\", decimals = 6, is_payment = true }} }}\n"
    );
    let server = start(config(&format!("open = true\n{policy}{calls}"))).await;
    let mut client = server.connect().await;
    assert_eq!(client.post("/", &transfer(0, 6_000_000)).await.status, 200);
    let over = client.post("/", &transfer(1, 6_000_001)).await;
    assert_eq!(over.error().2.as_deref(), Some("transaction_payload.data"));
    let spent = client.post("/", &transfer(1, 4_000_001)).await;
    let message = spent.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with("policy rule windows: 4.000001 of token 0xA0b8"), "{message}");
    assert_eq!(client.post("/", &transfer(1, 4_000_000)).await.status, 200);
    let page = String::from_utf8(client.get("/metrics").await.body).unwrap();
    for line in [
        "signer_window_used_percent{limit=\"max\",of=\"each key\",period=\"1day\"} 100",
        "signer_refusals_total{rule=\"windows\"} 1",
        "signer_refusals_total{rule=\"calls\"} 1",
        "signer_window_buckets 1",
    ] {
        assert!(page.lines().any(|has| has == line), "{line} is not in\n{page}");
    }
}

/// What the documents say, so that nobody relies on more.
#[tokio::test]
async fn a_signer_that_is_started_again_counts_from_nothing() {
    for _ in 0..2 {
        let server = start(config(&windows("[[policy.windows]]\nperiod = \"24h\"\nmax_count = 1\n"))).await;
        let mut client = server.connect().await;
        assert_eq!(client.sign(0, "prod/wallet").await.status, 200);
        assert_eq!(client.sign(1, "prod/wallet").await.status, 422);
        server.shutdown.cancel();
        server.ended().await;
    }
}

#[tokio::test]
async fn a_clients_rules_and_windows_are_beside_those_of_the_key() {
    let authority = Authority::new();
    let clients = "[[clients]]\nname = \"pay.example\"\nany_key = true\n[clients.policy]\nmax_value = \"0.1 ether\"\n\
        [[clients.policy.windows]]\nperiod = \"24h\"\nmax_count = 2\n[[clients]]\nname = \"other.example\"\nany_key = true\n\
        [clients.policy]\nmax_value = \"5 ether\"\nchain_ids = [4]\nnonce_reuse = true\n";
    let server = start(config(&format!("client_ca = \"\"\"\n{}\"\"\"\n{clients}{POLICY}", authority.pem))).await;
    let mut pay = server.connect_as(Some(authority.issue("pay.example", |_| ()))).await.unwrap();
    let mut other = server.connect_as(Some(authority.issue("other.example", |_| ()))).await.unwrap();
    let refused = async |client: &mut super::harness::Client, body: &str| {
        let answer = client.post("/", body).await;
        assert_eq!(answer.status, 422, "{answer:?}");
        answer.json()["error"]["message"].as_str().unwrap().to_owned()
    };
    let message = refused(&mut pay, &valued(0, "0.2")).await;
    assert_eq!(
        message,
        "policy rule max_value of client pay.example: 200000000000000000 wei, at most 100000000000000000 wei"
    );
    // The key's rule is the stricter one here.
    let message = refused(&mut other, &valued(0, "2")).await;
    assert_eq!(message, "policy rule max_value: 2000000000000000000 wei, at most 1000000000000000000 wei");
    let message = refused(&mut other, &valued(0, "0.2").replace("\"chainId\": 4", "\"chainId\": 1")).await;
    assert_eq!(message, "policy rule chain_ids of client other.example: chain 1 is not among them");
    for (nonce, secret_id) in [(0, "a"), (1, "b")] {
        assert_eq!(pay.sign(nonce, secret_id).await.status, 200);
    }
    let message = refused(&mut pay, &sign_body(2, "a")).await;
    assert!(
        message.starts_with("policy rule windows of client pay.example: 1 signature more on chain 4 would be 3 sig"),
        "{message}"
    );
    assert_eq!(other.sign(2, "a").await.status, 200);
    // A client cannot be allowed what the key is not.
    let message = refused(&mut other, &valued(2, "0.5")).await;
    assert!(message.starts_with("policy rule nonce_reuse: something else has been signed"), "{message}");
}

#[tokio::test]
async fn without_windows_nothing_is_counted() {
    let server = start(open()).await;
    let mut client = server.connect().await;
    assert_eq!(client.sign(0, "prod/wallet").await.status, 200);
    let page = String::from_utf8(client.get("/metrics").await.body).unwrap();
    assert!(page.contains("signer_window_buckets 0\n") && !page.contains("signer_window_used_percent"), "{page}");
}
