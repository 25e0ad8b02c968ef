//! Bodies of every form, and what is signed.

use std::time::Duration;

use serde_json::{Value, json};
use signer::service::Limits;

use super::kinds::{TYPES_3_4, with_kinds};
use super::{changed, error, transaction, with, with_key};
use crate::harness::{ADDRESS, POLICY, payload, sign_body, start, start_with};

const REQUESTS: &str = include_str!("../../vectors/rpc-requests.json");
const VECTORS: &str = include_str!("../../vectors/ethereum-transactions.json");

#[tokio::test]
async fn each_client_s_request_is_signed_as_eth_account_signs_it() {
    for request in serde_json::from_str::<Vec<Value>>(REQUESTS).unwrap() {
        let server = start(with_kinds()).await;
        let mut client = server.connect().await;
        let body = &request["body"];
        let expected = vector(request["transaction"].as_str());
        let chain = format!("/chain/{}", expected["request"]["chainId"].as_u64().unwrap_or(4));
        for (path, is_geth) in [("", false), ("/geth", true), (&*chain, false), (&*format!("{chain}/geth"), true)] {
            let answer = client.post(if path.is_empty() { "/" } else { path }, &body.to_string()).await.json();
            assert_eq!(answer["id"], body["id"]);
            let is_geth = is_geth || body["method"] == "account_signTransaction";
            let raw = if is_geth { &answer["result"]["raw"] } else { &answer["result"] };
            assert_eq!(*raw, expected["transaction_signed"], "{}: {answer}", request["client"]);
            if is_geth {
                assert_eq!(answer["result"]["tx"]["hash"], expected["transaction_hash"]);
            }
        }
    }
}

/// What a recorded request signs: that transaction of types 3 and 4, or the one of the documentation.
fn vector(name: Option<&str>) -> Value {
    let of = |text: &str| serde_json::from_str::<Value>(text).unwrap()["transactions"].as_array().unwrap().clone();
    let Some(name) = name else { return of(VECTORS)[0].clone() };
    of(TYPES_3_4).into_iter().find(|vector| vector["name"] == name).expect(name)
}

#[tokio::test]
async fn a_signed_transaction_has_its_signature_in_geths_form_and_one_nonce_in_both_forms() {
    let server = start(with_key()).await;
    let mut client = server.connect().await;
    let expected = vector(None);
    let answer = client.call("/geth", "eth_signTransaction", &changed(json!({}))).await;
    let tx = &answer["result"]["tx"];
    assert_eq!((&tx["r"], &tx["s"], &tx["v"]), (&expected["r"], &expected["s"], &json!("0x1")));
    // Both forms lead to the same nonce memory.
    let other = client.post("/", &sign_body(0, "prod/wallet").replace("0.01", "0.02")).await;
    assert_eq!(other.error().0, 422);
}

#[tokio::test]
async fn the_signers_own_form_stays_what_it_is() {
    let server = start(with_key()).await;
    let mut client = server.connect().await;
    assert_eq!(client.sign(0, "prod/wallet").await.status, 200);
    for body in ["", "{}", "[1]", "[[]]", "5", r#"{"transaction_payload": {"jsonrpc": "2.0"}}"#] {
        assert_eq!(client.post("/", body).await.error().0, 400, "{body}");
    }
    let named = payload(1).replace("\"nonce\"", "\"jsonrpc\": \"2.0\", \"nonce\"");
    let body = format!(r#"{{"transaction_payload": {named}, "secret_id": "prod/wallet"}}"#);
    assert_eq!(client.post("/", &body).await.error().2.unwrap(), "transaction_payload.jsonrpc");
}

#[tokio::test]
async fn a_batch_is_answered_in_order() {
    let server = start(with_key()).await;
    let mut client = server.connect().await;
    let call =
        |id: u64, method: &str, params: Value| json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
    let batch = json!([
        call(3, "eth_accounts", json!([])),
        call(1, "eth_signTransaction", json!([transaction(0)])),
        5,
        {"jsonrpc": "2.0", "method": "eth_accounts"},
        call(2, "nonsense", json!([])),
        call(4, "eth_signTransaction", json!([transaction(1)])),
    ]);
    let answer = client.post("/", &batch.to_string()).await;
    let answers = answer.json().as_array().unwrap().clone();
    let ids: Vec<_> = answers.iter().map(|answer| answer["id"].clone()).collect();
    assert_eq!(ids, [json!(3), json!(1), Value::Null, json!(2), json!(4)]);
    assert_eq!(answers[0]["result"], json!([ADDRESS]));
    assert_eq!((error(&answers[2]).0, error(&answers[3]).0), (-32600, -32601));
    assert!(answers[1]["result"].is_string() && answers[4]["result"].is_string());
}

#[tokio::test]
async fn a_batch_that_is_empty_or_too_long_is_one_error() {
    let server = start(with_key()).await;
    let mut client = server.connect().await;
    for (body, expected) in [
        ("[]".to_owned(), "body: an empty batch, expected at least one call"),
        (format!("[{}]", vec!["{}"; 10_000].join(",")), "body: a longer batch, expected at most 100 calls"),
    ] {
        let answer = client.post("/", &body).await;
        assert_eq!((answer.status, &answer.json()["id"]), (200, &Value::Null));
        let (code, message, _) = error(&answer.json());
        assert_eq!((code, message.as_str()), (-32600, expected));
    }
}

#[tokio::test]
async fn notifications_are_not_answered_and_sign_nothing() {
    let server = start(with_key()).await;
    let mut client = server.connect().await;
    let notification = json!({"jsonrpc": "2.0", "method": "eth_signTransaction", "params": [transaction(0)]});
    for body in [notification.clone(), json!([notification, notification])] {
        let answer = client.post("/", &body.to_string()).await;
        assert_eq!((answer.status, answer.body.len()), (204, 0));
    }
    let page = String::from_utf8(client.get("/metrics").await.body).unwrap();
    assert!(page.contains("signer_signatures_total 0\n"), "{page}");
}

#[tokio::test]
async fn an_id_of_every_type_is_repeated_or_refused() {
    let server = start(with_key()).await;
    let mut client = server.connect().await;
    for id in [json!("a\"é"), json!(0), json!(-1), json!(1.5), Value::Null] {
        let body = json!({"jsonrpc": "2.0", "id": id, "method": "rpc_modules"});
        let answer = client.post("/", &body.to_string()).await.json();
        assert_eq!((&answer["id"], &answer["result"]["eth"]), (&id, &json!("1.0")));
    }
    // A client that matches answers by their ids learns what is wrong.
    let body = json!({"jsonrpc": "2.0", "id": 9, "method": "rpc_modules", "extra": 1});
    let answer = client.post("/", &body.to_string()).await.json();
    assert_eq!((&answer["id"], error(&answer).0), (&json!(9), -32600));
    for id in [json!(true), json!([1]), json!({})] {
        let body = json!({"jsonrpc": "2.0", "id": id, "method": "rpc_modules"});
        let answer = client.post("/", &body.to_string()).await.json();
        assert_eq!((&answer["id"], error(&answer).0), (&Value::Null, -32600));
    }
}

#[tokio::test]
async fn bodies_that_are_no_calls_are_answered_in_json_rpcs_form() {
    let server = start(with_key()).await;
    let mut client = server.connect().await;
    for (path, body, code) in [
        ("/", r#"{"jsonrpc": "2.0", "id": 1, "method": "#, -32700),
        ("/", r#"{"jsonrpc": "2.0"} x"#, -32700),
        ("/", "[{]", -32700),
        ("/", r#"{"jsonrpc": "2.0", "id": 1}"#, -32600),
        ("/", r#"{"jsonrpc": "1.0", "id": 1, "method": "eth_accounts"}"#, -32600),
        ("/", r#"{"jsonrpc": 2, "id": 1, "method": "eth_accounts"}"#, -32600),
        ("/", r#"{"jsonrpc": "2.0", "jsonrpc": "2.0", "id": 1, "method": "eth_accounts"}"#, -32600),
        ("/", r#"{"jsonrpc": "2.0", "id": 1, "method": "eth_accounts", "secret_id": "a"}"#, -32600),
        ("/", r#"{"jsonrpc": "2.0", "id": 1, "method": "eth_accounts", "params": 1}"#, -32600),
        // A path for JSON-RPC alone.
        ("/geth", "", -32700),
        ("/geth", "[1", -32700),
        ("/geth", "{}", -32600),
        ("/chain/4", "5", -32600),
    ] {
        let answer = client.post(path, body).await;
        assert_eq!((answer.status, error(&answer.json()).0), (200, code), "{body}");
        assert!(answer.head.contains("content-type: application/json"));
    }
    let answer = client.post("/chain/4", "[1]").await.json();
    assert_eq!(error(&answer[0]).0, -32600);
}

#[tokio::test]
async fn ten_thousand_levels_are_refused_quickly() {
    let server = start(with_key()).await;
    let mut client = server.connect().await;
    let start = std::time::Instant::now();
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let deep = format!("{}1{}", open.repeat(10_000), close.repeat(10_000));
        assert_eq!(error(&client.call("/", "eth_signTransaction", &format!("[{deep}]")).await).0, -32602);
        assert_eq!(error(&client.call("/", "eth_accounts", &format!("[{deep}]")).await).0, -32602);
        assert_eq!(error(&client.call("/", "nonsense", &format!("[{deep}]")).await).0, -32601);
        let value = transaction(0).to_string().replace("\"0x2386f26fc10000\"", &deep);
        assert_eq!(error(&client.call("/", "eth_signTransaction", &format!("[{value}]")).await).0, -32602);
        let answer = client.post("/geth", &deep).await.json();
        assert_eq!(error(if answer.is_array() { &answer[0] } else { &answer }).0, -32600);
    }
    assert!(start.elapsed() < Duration::from_secs(4));
}

#[tokio::test]
async fn parameters_of_the_wrong_form_are_named() {
    let server = start(with_key()).await;
    let mut client = server.connect().await;
    for (method, params, field) in [
        ("eth_signTransaction", "[]".to_owned(), "params[0]"),
        ("eth_signTransaction", "[5]".to_owned(), "params[0]"),
        ("eth_signTransaction", "[{}, {}]".to_owned(), "params[1]"),
        ("account_signTransaction", "[{}, \"transfer(address,uint256)\"]".to_owned(), "params[1]"),
        ("eth_signTransaction", "[{}, null, null]".to_owned(), "params[2]"),
        ("personal_sign", format!("[\"{ADDRESS}\", \"hello\"]"), "params[1]"),
        ("eth_signTransaction", changed(json!({"gas": "0x0186a0"})), "params[0].gas"),
        ("eth_signTransaction", "{\"tx\": {}}".to_owned(), "params.tx"),
        ("eth_signTransaction", changed(json!({"gas": 100_000})), "params[0].gas"),
        ("eth_signTransaction", changed(json!({"gas": "100000"})), "params[0].gas"),
        ("eth_signTransaction", changed(json!({"to": 5})), "params[0].to"),
        ("eth_signTransaction", changed(json!({"nonce": null})), "params[0].nonce"),
        ("eth_signTransaction", changed(json!({"gasPrice": "0x1"})), "params[0].gasPrice"),
        ("eth_signTransaction", changed(json!({"password": "hush"})), "params[0].password"),
        ("eth_accounts", "[1]".to_owned(), "params[0]"),
        ("eth_accounts", "{\"a\": 1}".to_owned(), "params.a"),
    ] {
        let answer = client.call("/", method, &params).await;
        let (code, message, kind) = error(&answer);
        assert_eq!((code, kind.as_str()), (-32602, "bad_request"), "{message}");
        assert_eq!(answer["error"]["data"]["field"], field, "{message}");
        assert!(message.starts_with(field) && message.contains("expected") && !message.contains("hush"), "{message}");
    }
    // Clef's second parameter.
    let clef = json!([transaction(0), null]).to_string();
    assert!(client.call("/", "account_signTransaction", &clef).await["result"]["raw"].is_string());
    let named = json!({"transaction": transaction(0)}).to_string();
    assert!(client.call("/", "eth_signTransaction", &named).await["result"].is_string());
}

#[tokio::test]
async fn a_refusal_names_its_rule_in_the_message_and_in_the_data() {
    let server = start(with_key()).await;
    let mut client = server.connect().await;
    for (changes, rule, field) in [
        (json!({"chainId": "0x5"}), "chain_ids", "chainId"),
        (json!({"value": "0xde0b6b3a7640001"}), "max_value", "value"),
        (json!({"maxFeePerGas": "0x2e90edd001"}), "max_fee_per_gas", "maxFeePerGas"),
        (json!({"gas": "0x7a121"}), "max_gas", "gas"),
        (json!({"to": null, "data": "0x00"}), "contract_creation", "to"),
    ] {
        let answer = client.call("/", "eth_signTransaction", &changed(changes)).await;
        let (code, message, kind) = error(&answer);
        assert_eq!((code, kind.as_str()), (-32010, "policy_refused"), "{message}");
        assert!(message.starts_with(&format!("policy rule {rule}: ")), "{message}");
        let data = &answer["error"]["data"];
        assert_eq!((&data["rule"], &data["field"]), (&json!(rule), &json!(format!("params[0].{field}"))));
    }
    assert!(client.call("/", "eth_signTransaction", &changed(json!({}))).await["result"].is_string());
    let spent = client.call("/", "eth_signTransaction", &changed(json!({"value": "0x1"}))).await;
    assert_eq!(spent["error"]["data"]["rule"], "nonce_reuse");
    // What no node would accept has no rule.
    let answer = client.call("/", "eth_signTransaction", &changed(json!({"gas": "0x5207", "nonce": "0x1"}))).await;
    let (code, message, kind) = error(&answer);
    assert_eq!((code, kind.as_str()), (-32010, "bad_request"));
    assert!(message.starts_with("params[0].gas: 20999, expected at least 21000"), "{message}");
    let page = String::from_utf8(client.get("/metrics").await.body).unwrap();
    for line in [
        "signer_refusals_total{rule=\"max_gas\"} 1",
        "signer_rpc_calls_total{method=\"eth_signTransaction\",outcome=\"policy_refused\"} 6",
        "signer_rpc_calls_total{method=\"eth_signTransaction\",outcome=\"ok\"} 1",
        "signer_requests_total{outcome=\"ok\",route=\"/\"} 8",
    ] {
        assert!(page.lines().any(|has| has == line), "{line} is not in {page}");
    }
}

#[tokio::test]
async fn methods_that_are_not_served_say_why_and_are_few_in_the_metrics() {
    let server = start(with_key()).await;
    let mut client = server.connect().await;
    let refused = client.call("/", "eth_sign", "[]").await;
    assert_eq!(error(&refused).0, -32004);
    assert!(error(&refused).1.contains("personal_sign"));
    for method in ["eth_sendTransaction", "eth_getTransactionCount", "eth_call"] {
        let params = if method == "eth_sendTransaction" { changed(json!({})) } else { "[]".to_owned() };
        let (code, message, _) = error(&client.call("/chain/4", method, &params).await);
        assert_eq!(
            (code, message),
            (-32004, format!("{method}: no upstream for chain 4; expected [signer.upstream.4]"))
        );
    }
    for at in 0..50 {
        let (code, message, _) = error(&client.call("/", &format!("eth_x{at}"), "[]").await);
        assert_eq!(code, -32601);
        assert!(message.starts_with(&format!("eth_x{at}: no such method")), "{message}");
    }
    let page = String::from_utf8(client.get("/metrics").await.body).unwrap();
    assert!(page.contains("signer_rpc_calls_total{method=\"other\",outcome=\"not_found\"} 50\n"), "{page}");
    assert!(!page.contains("eth_x1"), "{page}");
}

#[tokio::test]
async fn the_names_of_programs_are_answered() {
    let server = start(with_key()).await;
    let mut client = server.connect().await;
    let version = client.call("/", "web3_clientVersion", "[]").await["result"].as_str().unwrap().to_owned();
    assert!(version.starts_with("enclave-wireguard-signer/"), "{version}");
    assert_eq!(client.call("/", "account_version", "[]").await["result"], "6.1.0");
    assert_eq!(client.call("/", "rpc_modules", "{}").await["result"]["account"], "1.0");
    assert_eq!(client.call("/", "account_list", "[]").await["result"], json!([ADDRESS]));
}

#[tokio::test]
async fn a_batch_that_takes_too_long_is_cut_and_answers_find_room_or_are_refused() {
    let limits = Limits { fetch: Duration::from_millis(100), ..Limits::default() };
    let server = start_with(with("[[keys]]\nsecret_id = \"never\"\n", POLICY), limits).await;
    let mut client = server.connect().await;
    let call = |id: u64| json!({"jsonrpc": "2.0", "id": id, "method": "eth_accounts"});
    let answers = client.post("/", &json!([call(1), call(2), call(3)]).to_string()).await.json();
    assert_eq!(error(&answers[0]).0, -32002);
    assert_eq!(error(&answers[2]).0, -32005, "{answers}");
    assert_eq!(answers[2]["error"]["data"]["retry_after"], 1);

    let server = start_with(with_key(), Limits { bodies: 8 << 10, ..Limits::default() }).await;
    let mut client = server.connect().await;
    assert!(client.call("/", "eth_signTransaction", &changed(json!({}))).await["result"].is_string());
    // 9 KiB of data are 18 KiB of hex, and the answer as much again.
    let long = changed(json!({"data": format!("0x{}", "00".repeat(4 << 10)), "nonce": "0x1"}));
    let answer = client.call("/geth", "eth_signTransaction", &long).await;
    assert_eq!(error(&answer).0, -32005, "{answer}");
}
