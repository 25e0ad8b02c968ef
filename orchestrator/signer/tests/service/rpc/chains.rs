//! One path per chain.

use serde_json::json;

use super::{changed, error, with, with_key};
use crate::harness::{POLICY, start};

const KEY: &str = "[[keys]]\nsecret_id = \"prod/wallet\"\n";

#[tokio::test]
async fn each_chain_has_its_path_and_is_what_the_path_says() {
    let server = start(with_key()).await;
    let mut client = server.connect().await;
    for (path, id, version) in
        [("/chain/1", "0x1", "1"), ("/chain/4", "0x4", "4"), ("/chain/4/", "0x4", "4"), ("/chain/4/geth", "0x4", "4")]
    {
        assert_eq!(client.call(path, "eth_chainId", "[]").await["result"], id);
        assert_eq!(client.call(path, "net_version", "[]").await["result"], version);
    }
    let (code, message, _) = error(&client.call("/", "eth_chainId", "[]").await);
    assert_eq!(code, -32004);
    assert!(message.contains("expected /chain/1, /chain/4"), "{message}");
    let answer = client.call("/chain/5", "eth_chainId", "[]").await;
    assert_eq!((error(&answer).0, &answer["error"]["data"]["rule"]), (-32010, &json!("chain_ids")));
    for path in ["/chain", "/chain/", "/chain/04", "/chain/4//", "/chain/x", "/geth//", "/chain/4/geth/x"] {
        assert_eq!(client.post(path, "{}").await.error().0, 404, "{path}");
    }
    assert_eq!(client.get("/chain/4").await.error().0, 405);
}

#[tokio::test]
async fn with_one_chain_in_the_policy_the_root_is_that_chain() {
    let policy = POLICY.replace("[1, 4]", "[4]");
    let server = start(with(KEY, &policy)).await;
    let mut client = server.connect().await;
    assert_eq!(client.call("/", "eth_chainId", "[]").await["result"], "0x4");
    assert_eq!(client.call("/geth", "net_version", "[]").await["result"], "4");
}

#[tokio::test]
async fn a_transaction_of_another_chain_than_the_paths_is_refused() {
    let server = start(with_key()).await;
    let mut client = server.connect().await;
    let (code, message, _) = error(&client.call("/chain/1", "eth_signTransaction", &changed(json!({}))).await);
    assert_eq!((code, message.as_str()), (-32010, "params[0].chainId: 4, expected 1, the chain of this path"));
    // Nothing has been spent.
    let without = changed(json!({"chainId": null}));
    let of_path = client.call("/chain/4", "eth_signTransaction", &without).await;
    let of_itself = client.call("/", "eth_signTransaction", &changed(json!({}))).await;
    assert!(of_path["result"].is_string(), "{of_path}");
    assert_eq!(of_path["result"], of_itself["result"]);
    let (code, message, _) = error(&client.call("/", "eth_signTransaction", &without).await);
    assert_eq!((code, message.starts_with("params[0].chainId: missing")), (-32602, true), "{message}");
}

#[tokio::test]
async fn a_transaction_without_a_chain_is_of_the_only_one() {
    let policy = POLICY.replace("[1, 4]", "[4]");
    let server = start(with(KEY, &policy)).await;
    let mut client = server.connect().await;
    let without = client.call("/", "eth_signTransaction", &changed(json!({"chainId": null}))).await;
    let with = client.call("/", "eth_signTransaction", &changed(json!({}))).await;
    assert!(without["result"].is_string(), "{without}");
    assert_eq!(without["result"], with["result"]);
}
