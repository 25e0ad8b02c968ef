//! What the signer asks of a node, and what it believes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use signer::service::Limits;

use super::node::{Node, Says};
use super::{changed, error, with};
use crate::harness::{ADDRESS, POLICY, Server, sign_body, start, start_with};

const KEY: &str = "[[keys]]\nsecret_id = \"prod/wallet\"\n";

fn limits() -> Limits {
    Limits { upstream: Duration::from_secs(1), ..Limits::default() }
}

async fn server(node: &Node, more: &str) -> Server {
    start_with(with(KEY, &format!("{POLICY}{}", node.table(more))), limits()).await
}

/// A chain whose base fee is 10 gwei, where the account has sent 5 transactions.
fn chain(method: &str, _params: &Value) -> Says {
    Says::Result(match method {
        "eth_getTransactionCount" => json!("0x5"),
        "eth_estimateGas" => json!("0x5208"),
        "eth_maxPriorityFeePerGas" => json!("0x3b9aca00"),
        "eth_gasPrice" => json!("0x2540be400"),
        "eth_getBlockByNumber" => json!({"number": "0x10", "baseFeePerGas": "0x2540be400", "transactions": []}),
        "eth_sendRawTransaction" => json!("0x01"),
        "eth_getTransactionReceipt" => Value::Null,
        other => return Says::Error(json!({"code": -32601, "message": format!("the method {other} does not exist")})),
    })
}

const LACKING: &str =
    r#"{"nonce": null, "gas": null, "maxFeePerGas": null, "maxPriorityFeePerGas": null, "chainId": null}"#;

fn lacking() -> Value {
    serde_json::from_str(LACKING).unwrap()
}

async fn page(server: &Server) -> String {
    String::from_utf8(server.connect().await.get("/metrics").await.body).unwrap()
}

#[tokio::test]
async fn a_transaction_is_filled_signed_and_sent_and_its_hash_is_the_signers_own() {
    let node = Node::start(chain).await;
    let server = server(&node, "").await;
    let mut client = server.connect().await;
    let sent = client.call("/chain/4", "eth_sendTransaction", &changed(lacking())).await;
    assert_eq!(
        node.methods(),
        [
            "eth_getTransactionCount",
            "eth_getBlockByNumber",
            "eth_maxPriorityFeePerGas",
            "eth_estimateGas",
            "eth_sendRawTransaction"
        ]
    );
    let asked = node.asked();
    assert_eq!(asked[0]["params"], json!([ADDRESS, "pending"]));
    assert_eq!(asked[3]["params"][0]["from"], ADDRESS);
    // What was sent is what is signed for these very values.
    let filled =
        json!({"nonce": "0x5", "gas": "0x5208", "maxFeePerGas": "0x4e3b29200", "maxPriorityFeePerGas": "0x3b9aca00"});
    let signed = client.call("/geth", "eth_signTransaction", &changed(filled)).await;
    assert_eq!(asked[4]["params"], json!([signed["result"]["raw"]]));
    assert_eq!(sent["result"], signed["result"]["tx"]["hash"]);
}

#[tokio::test]
async fn what_the_client_has_written_is_not_asked_for_and_stays() {
    let node = Node::start(chain).await;
    let server = server(&node, "").await;
    let mut client = server.connect().await;
    for (at, (changes, methods)) in [
        (json!({}), vec![]),
        (json!({"nonce": null}), vec!["eth_getTransactionCount"]),
        (json!({"maxPriorityFeePerGas": null}), vec!["eth_maxPriorityFeePerGas"]),
        (json!({"maxFeePerGas": null}), vec!["eth_getBlockByNumber"]),
        (json!({"maxFeePerGas": null, "maxPriorityFeePerGas": null, "type": "0x0"}), vec!["eth_gasPrice"]),
        (json!({"maxFeePerGas": null, "maxPriorityFeePerGas": null, "gasPrice": "0x1"}), vec![]),
        (json!({"gas": null}), vec!["eth_estimateGas"]),
        (
            json!({"type": "0x2", "gasPrice": "0x174876e800", "maxFeePerGas": null, "maxPriorityFeePerGas": null}),
            vec!["eth_maxPriorityFeePerGas"],
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let mut all = json!({"nonce": format!("{:#x}", at + 20)});
        all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let before = node.methods().len();
        let sent = client.call("/", "eth_sendTransaction", &changed(all)).await;
        assert!(sent["result"].is_string(), "{changes}: {sent}");
        let mut methods = methods;
        methods.push("eth_sendRawTransaction");
        assert_eq!(node.methods()[before..], methods, "{changes}");
    }
}

#[tokio::test]
async fn fees_and_gas_of_the_node_are_bounded_by_the_policy() {
    let node = Node::start(|method, params| match method {
        "eth_getBlockByNumber" => Says::Result(json!({"baseFeePerGas": "0x174876e800"})),
        "eth_maxPriorityFeePerGas" => Says::Result(json!("0x1")),
        _ => chain(method, params),
    });
    let node = node.await;
    let server = server(&node, "").await;
    let mut client = server.connect().await;
    // A base fee of 100 gwei: twice that and the tip are above the policy's 200 gwei, which is enough for the next block.
    let fees = json!({"maxFeePerGas": null, "maxPriorityFeePerGas": null});
    let sent = client.call("/", "eth_sendTransaction", &changed(fees.clone())).await;
    assert!(sent["result"].is_string(), "{sent}");
    let capped = json!({"maxFeePerGas": "0x2e90edd000", "maxPriorityFeePerGas": "0x1"});
    let signed = client.call("/geth", "eth_signTransaction", &changed(capped)).await;
    assert_eq!(sent["result"], signed["result"]["tx"]["hash"]);

    let node = Node::start(|method, params| match method {
        "eth_getBlockByNumber" => Says::Result(json!({"baseFeePerGas": "0x4a817c8000"})),
        "eth_estimateGas" => Says::Result(json!("0x7a121")),
        _ => chain(method, params),
    })
    .await;
    let server = self::server(&node, "").await;
    let mut client = server.connect().await;
    for (changes, rule) in [(fees, "max_fee_per_gas"), (json!({"gas": null}), "max_gas")] {
        let refused = client.call("/", "eth_sendTransaction", &changed(changes)).await;
        assert_eq!((error(&refused).0, &refused["error"]["data"]["rule"]), (-32010, &json!(rule)), "{refused}");
    }
    assert!(!node.methods().contains(&"eth_sendRawTransaction".to_owned()));
}

#[tokio::test]
async fn a_node_that_repeats_a_nonce_does_not_get_a_second_transaction_for_it() {
    let node = Node::start(chain).await;
    let server = server(&node, "").await;
    let mut client = server.connect().await;
    let sent = client.call("/", "eth_sendTransaction", &changed(json!({"nonce": null}))).await;
    assert!(sent["result"].is_string(), "{sent}");
    let other = client.call("/", "eth_sendTransaction", &changed(json!({"nonce": null, "value": "0x1"}))).await;
    assert_eq!((error(&other).0, &other["error"]["data"]["rule"]), (-32010, &json!("nonce_reuse")));
    // The same one is the same one.
    let again = client.call("/", "eth_sendTransaction", &changed(json!({"nonce": null}))).await;
    assert_eq!(again["result"], sent["result"]);
}

#[tokio::test]
async fn a_chain_without_a_base_fee_has_transactions_of_type_0() {
    let node = Node::start(|method, params| match method {
        "eth_getBlockByNumber" => Says::Result(json!({"number": "0x10"})),
        _ => chain(method, params),
    })
    .await;
    let server = server(&node, "").await;
    let mut client = server.connect().await;
    let without = json!({"maxFeePerGas": null, "maxPriorityFeePerGas": null});
    let sent = client.call("/", "eth_sendTransaction", &changed(without)).await;
    let old = json!({"maxFeePerGas": null, "maxPriorityFeePerGas": null, "gasPrice": "0x2540be400"});
    let signed = client.call("/geth", "eth_signTransaction", &changed(old)).await;
    assert_eq!(sent["result"], signed["result"]["tx"]["hash"], "{sent}");
}

#[tokio::test]
async fn a_transaction_that_the_node_has_is_sent_and_its_refusals_are_passed_on() {
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    let node = Node::start(move |method, params| match (method, counted.load(Ordering::Relaxed)) {
        ("eth_sendRawTransaction", 0) => {
            Says::Error(json!({"code": -32000, "message": "transaction already imported"}))
        }
        ("eth_sendRawTransaction", 1) => Says::Error(
            json!({"code": -32000, "message": "insufficient funds for gas * price + value", "data": {"a": [1]}}),
        ),
        ("eth_sendRawTransaction", _) => Says::Nothing,
        _ => chain(method, params),
    })
    .await;
    let server = server(&node, "").await;
    let mut client = server.connect().await;
    let sent = client.call("/", "eth_sendTransaction", &changed(json!({}))).await;
    assert!(sent["result"].is_string(), "{sent}");
    tries.store(1, Ordering::Relaxed);
    let refused = client.call("/", "eth_sendTransaction", &changed(json!({}))).await;
    let hash = sent["result"].as_str().unwrap();
    let message = format!(
        "upstream: insufficient funds for gas * price + value; nonce 0 of {ADDRESS} is spent on this transaction, {hash}, \
         and the same call sends it again"
    );
    assert_eq!(refused["error"], json!({"code": -32000, "message": message, "data": {"a": [1]}}));
    // Whether it has it is not known: the hash says what to look for.
    tries.store(2, Ordering::Relaxed);
    let unknown = client.call("/", "eth_sendTransaction", &changed(json!({}))).await;
    assert_eq!((error(&unknown).0, &unknown["error"]["data"]["transaction_hash"]), (-32002, &sent["result"]));
    assert!(page(&server).await.contains("signer_upstream_failures_total{chain=\"4\"} 1\n"));
}

/// A chain that answers `eth_sendRawTransaction` as told, and `eth_getTransactionByHash` with what it has.
async fn moody(says: &'static [&'static str], has: Value) -> (Node, Arc<AtomicUsize>) {
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let node = Node::start(move |method, params| match method {
        "eth_sendRawTransaction" => match says.get(counted.fetch_add(1, Ordering::Relaxed)) {
            Some(message) => Says::Error(json!({"code": -32003, "message": message})),
            None => chain(method, params),
        },
        "eth_getTransactionByHash" => Says::Result(has.clone()),
        // As if each had been taken.
        "eth_getTransactionCount" => Says::Result(json!(format!("{:#x}", 5 + counted.load(Ordering::Relaxed) / 2))),
        // Another fee at each time.
        "eth_maxPriorityFeePerGas" => Says::Result(json!(format!("{:#x}", 1 + counted.load(Ordering::Relaxed)))),
        _ => chain(method, params),
    })
    .await;
    (node, sent)
}

#[tokio::test]
async fn a_transaction_that_no_node_has_taken_is_sent_again_by_the_same_call() {
    let (node, _sent) = moody(&["max fee per gas less than block base fee"], Value::Null).await;
    let server = server(&node, "").await;
    let mut client = server.connect().await;
    let refused = client.call("/chain/4", "eth_sendTransaction", &changed(lacking())).await;
    assert!(error(&refused).1.contains(&format!("nonce 5 of {ADDRESS} is spent")), "{refused}");
    let hash = refused["error"]["data"]["transaction_hash"].clone();
    // Another one needs the same nonce.
    let mut other = lacking();
    other["value"] = json!("0x1");
    let told = client.call("/chain/4", "eth_sendTransaction", &changed(other)).await;
    assert_eq!(told["error"]["data"]["rule"], "nonce_reuse");
    let expected = format!("it is {}, which the upstream has not taken", hash.as_str().unwrap());
    assert!(error(&told).1.contains(&expected), "{told}");
    // The fees of now are others, and the nonce and the fees of then are used.
    let sent = client.call("/chain/4", "eth_sendTransaction", &changed(lacking())).await;
    assert_eq!(sent["result"], hash, "{sent}");
    // From now on, the same call is another payment.
    let next = client.call("/chain/4", "eth_sendTransaction", &changed(lacking())).await;
    assert!(next["result"].is_string() && next["result"] != hash, "{next}");
}

#[tokio::test]
async fn a_transaction_whose_nonce_is_too_low_is_in_the_chain_or_makes_way_for_the_next() {
    let says: &[&str] = &["insufficient funds", "nonce too low"];
    for has in [json!({"hash": "0x01"}), Value::Null] {
        let (node, _sent) = moody(says, has.clone()).await;
        let server = server(&node, "").await;
        let mut client = server.connect().await;
        let refused = client.call("/chain/4", "eth_sendTransaction", &changed(lacking())).await;
        let again = client.call("/chain/4", "eth_sendTransaction", &changed(lacking())).await;
        let is_same = again["result"] == refused["error"]["data"]["transaction_hash"];
        assert!(again["result"].is_string() && is_same != has.is_null(), "{has}: {again}");
    }
}

#[tokio::test]
async fn gas_is_estimated_with_the_fees_and_the_authorisations() {
    let node = Node::start(chain).await;
    let policy = format!("{POLICY}delegates = [\"{ADDRESS}\"]\n{}", node.table(""));
    let server = start_with(with(KEY, &policy), limits()).await;
    let mut client = server.connect().await;
    let authorization = json!({"contract": ADDRESS, "chain_id": 4, "nonce": 9, "from": ADDRESS}).to_string();
    let entry = client.call("/chain/4", "eth_sign7702Authorization", &authorization).await["result"].clone();
    let call = changed(json!({"gas": null, "authorizationList": [entry]}));
    // 21,000 are too few for that: the node of this test does not look at it.
    client.call("/chain/4", "eth_sendTransaction", &call).await;
    let asked = node.asked();
    let estimated = &asked[0]["params"][0];
    assert_eq!((&asked[0]["method"], &estimated["authorizationList"]), (&json!("eth_estimateGas"), &json!([entry])));
    assert_eq!(
        (&estimated["maxFeePerGas"], &estimated["maxPriorityFeePerGas"]),
        (&json!("0x174876e800"), &json!("0xb2d05e00"))
    );
    assert_eq!(estimated.get("gasPrice"), None);
}

#[tokio::test]
async fn a_method_that_is_not_passed_on_says_what_would_be_right() {
    let node = Node::start(chain).await;
    let server = server(&node, "").await;
    let mut client = server.connect().await;
    let (code, message, _) = error(&client.call("/chain/4", "eth_getLogs", "[{}]").await);
    assert_eq!(
        (code, message.as_str()),
        (-32601, "eth_getLogs: not passed on, expected a method that signer.upstream lists in methods")
    );
    assert!(node.methods().is_empty());
}

#[tokio::test]
async fn reading_methods_are_passed_on_as_they_are() {
    let node = Node::start(|method, params| match method {
        "eth_call" => Says::Error(json!({"code": 3, "message": "execution reverted", "data": "0x08c379a0"})),
        "eth_getBalance" => Says::Result(params.clone()),
        _ => chain(method, params),
    })
    .await;
    let server = server(&node, "").await;
    let mut client = server.connect().await;
    let params = json!([ADDRESS, "latest", {"a": [1, null, "é"]}]);
    assert_eq!(client.call("/chain/4", "eth_getBalance", &params.to_string()).await["result"], params);
    assert_eq!(client.call("/chain/4", "eth_getTransactionReceipt", "[]").await["result"], Value::Null);
    let reverted = client.call("/chain/4", "eth_call", "[{}]").await;
    assert_eq!(reverted["error"], json!({"code": 3, "message": "upstream: execution reverted", "data": "0x08c379a0"}));
    // On a path without a chain it is not known which node to ask, and another chain has none.
    assert_eq!(error(&client.call("/", "eth_getBalance", "[]").await).0, -32004);
    let (code, message, _) = error(&client.call("/chain/1", "eth_getBalance", "[]").await);
    assert_eq!(
        (code, message.as_str()),
        (-32004, "eth_getBalance: no upstream for chain 1; expected [signer.upstream.1]")
    );
}

#[tokio::test]
async fn only_the_methods_of_the_configuration_are_passed_on() {
    let node = Node::start(|_, _| Says::Result(json!("yes"))).await;
    let server = server(&node, "methods = [\"eth_call\", \"debug_traceTransaction\"]").await;
    let mut client = server.connect().await;
    for method in ["eth_call", "debug_traceTransaction"] {
        assert_eq!(client.call("/chain/4", method, "[]").await["result"], "yes");
    }
    for (method, code) in [("eth_getBalance", -32004), ("eth_sendRawTransaction", -32601), ("admin_peers", -32601)] {
        assert_eq!(error(&client.call("/chain/4", method, "[]").await).0, code, "{method}");
    }
    assert_eq!(node.methods().len(), 2);
    let page = page(&server).await;
    assert!(page.contains("signer_rpc_calls_total{method=\"debug_traceTransaction\",outcome=\"ok\"} 1\n"), "{page}");
}

#[tokio::test]
async fn answers_that_are_none_or_too_long_or_too_late_are_errors_and_nothing_more() {
    let node = Node::start(|method, _| match method {
        "eth_call" => Says::Raw(200, vec![b'x'; 600 << 10]),
        "eth_getCode" => Says::Raw(200, b"<html>".to_vec()),
        "eth_getBalance" => Says::Raw(503, b"busy".to_vec()),
        "eth_gasPrice" => Says::Nothing,
        "eth_blockNumber" => Says::Closes,
        "eth_getTransactionCount" => Says::Result(json!("0x05")),
        "eth_getBlockByNumber" => Says::Result(Value::Null),
        _ => Says::Result(json!({"a": 1})),
    })
    .await;
    let server = server(&node, "").await;
    let mut client = server.connect().await;
    for (method, code, words) in [
        ("eth_call", -32002, "the answer is too long, expected at most 524288 bytes"),
        ("eth_getCode", -32603, "not an answer of JSON-RPC"),
        ("eth_getBalance", -32002, "HTTP 503"),
        ("eth_gasPrice", -32002, "no answer within 1s"),
        ("eth_blockNumber", -32002, "upstream of chain 4: HTTP"),
    ] {
        let (is, message, _) = error(&client.call("/chain/4", method, "[]").await);
        assert_eq!(is, code, "{method}: {message}");
        assert!(message.contains(words) && !message.contains("hush"), "{message}");
    }
    for changes in [json!({"nonce": null}), json!({"gas": null}), json!({"maxFeePerGas": null})] {
        let (code, message, kind) = error(&client.call("/", "eth_sendTransaction", &changed(changes)).await);
        assert_eq!(kind, "upstream_answer", "{message}");
        assert_eq!(code, -32603, "{message}");
    }
    assert!(page(&server).await.contains("signer_signatures_total 0\n"));
}

#[tokio::test]
async fn a_connection_that_has_ended_is_replaced() {
    let node = Node::start(chain).await;
    let closes = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&closes);
    let closing = Node::start(move |method, params| match counted.fetch_add(1, Ordering::Relaxed) {
        // The second question comes over the connection of the first.
        1 => Says::Closes,
        _ => chain(method, params),
    })
    .await;
    for node in [&node, &closing] {
        let server = server(node, "").await;
        let mut client = server.connect().await;
        for _ in 0..3 {
            assert_eq!(client.call("/chain/4", "eth_gasPrice", "[]").await["result"], "0x2540be400");
        }
    }
    assert_eq!(closing.methods().len(), 4);
}

#[tokio::test]
async fn a_node_is_known_by_its_ca_or_its_key_and_no_other_is_asked() {
    let node = Node::start(chain).await;
    let table = |identity: &str| {
        format!("{POLICY}[upstream.4]\nurl = \"https://node.test:{}/v1/hush?a=b\"\n{identity}\n", node.port)
    };
    let pinned = format!("key_sha256 = \"{}\"", node.key);
    let other = Node::start(chain).await;
    let wrong_ca = format!("ca = \"\"\"\n{}\"\"\"", other.ca);
    let wrong_key = format!("key_sha256 = \"{}\"", other.key);
    let server = start_with(with(KEY, &table(&pinned)), limits()).await;
    assert!(server.connect().await.call("/chain/4", "eth_gasPrice", "[]").await["result"].is_string());
    let asked = node.methods().len();
    // Without either, only the public authorities count.
    for wrong in [wrong_ca.as_str(), &wrong_key, ""] {
        let server = start_with(with(KEY, &table(wrong)), limits()).await;
        let (code, message, kind) = error(&server.connect().await.call("/chain/4", "eth_gasPrice", "[]").await);
        assert_eq!((code, kind.as_str()), (-32002, "upstream_unavailable"), "{message}");
        assert!(message.contains("TLS handshake"), "{message}");
    }
    assert_eq!(node.methods().len(), asked);
}

#[tokio::test]
async fn a_client_that_floods_an_upstream_waits_for_itself_and_signatures_go_on() {
    let node = Node::start(|_, _| Says::Nothing).await;
    let server = start_with(with(KEY, &format!("{POLICY}{}", node.table(""))), Limits::default()).await;
    let mut flood = Vec::new();
    for _ in 0..20 {
        let mut client = server.connect_from([127, 0, 0, 2]).await;
        let body = r#"{"jsonrpc": "2.0", "id": 1, "method": "eth_call", "params": []}"#;
        let head = format!("POST /chain/4 HTTP/1.1\r\nHost: signer\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        client.send(head.as_bytes()).await.unwrap();
        flood.push(client);
    }
    // Its line is full.
    let mut turned_away = 0;
    for client in flood.iter_mut().rev().take(10) {
        turned_away += usize::from(error(&client.answer().await.unwrap().json()).0 == -32005);
    }
    assert_eq!(turned_away, 10);
    let begin = Instant::now();
    let mut client = server.connect().await;
    for nonce in 0..10 {
        assert_eq!(client.post("/", &sign_body(nonce, "prod/wallet")).await.status, 200);
    }
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn without_an_upstream_nothing_is_sent() {
    let server = start(with(KEY, POLICY)).await;
    let mut client = server.connect().await;
    assert_eq!(error(&client.call("/chain/4", "eth_sendTransaction", &changed(lacking())).await).0, -32004);
    assert!(page(&server).await.contains("signer_signatures_total 0\n"));
}
