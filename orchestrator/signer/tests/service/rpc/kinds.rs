//! Blobs, delegations, authorisations, messages and typed data, as eth-account signs them.

use serde_json::{Value, json};
use signer::config::Config;
use signer::service::Limits;

use super::node::{Node, Says};
use super::{KEY, changed, error, with, with_key};
use crate::harness::{ADDRESS, POLICY, start, start_with};

pub(super) const TYPES_3_4: &str = include_str!("../../vectors/ethereum-types-3-4.json");
const MESSAGES: &str = include_str!("../../vectors/ethereum-messages.json");
const KINDS: &str = r#"
blobs = { max_count = 6, max_fee_per_blob_gas = "10 gwei" }
delegates = ["0x63c0c19a282a1B52b07dD5a65b58948A07DAE32B"]
any_chain_authorizations = true
personal_sign = true
[[policy.typed_data]]
chain_id = 1
verifying_contract = "0xCcCCccccCCCCcCCCCCCcCcCccCcCCCcCcccccccC"
type = "Mail(Person from,Person to,string contents)Person(string name,address wallet)"
[policy.typed_data.fields]
from = { name = "any", wallet = "any" }
to = { name = "any", wallet = "any" }
contents = "any"
"#;

/// Everything that the policy can turn on.
pub(super) fn with_kinds() -> Config {
    with(KEY, &format!("{POLICY}{KINDS}"))
}

/// The request of a vector, which has numbers, as clients write them.
fn as_call(request: &Value) -> Value {
    let quantity = |value: &Value| match value.as_u64() {
        Some(number) => json!(format!("{number:#x}")),
        None => value.clone(),
    };
    let object = |object: &Value| -> Value {
        object.as_object().unwrap().iter().map(|(name, value)| (name.clone(), quantity(value))).collect()
    };
    let mut call = object(request);
    call["from"] = json!(ADDRESS);
    if let Some(entries) = request["authorizationList"].as_array() {
        call["authorizationList"] = entries.iter().map(object).collect();
    }
    call
}

#[tokio::test]
async fn types_3_and_4_are_signed_as_eth_account_signs_them() {
    let vectors: Value = serde_json::from_str(TYPES_3_4).unwrap();
    for number in ["3", "4"] {
        let named = |vector: &&Value| vector["name"].as_str().unwrap().starts_with(&format!("type {number}: "));
        let vector = vectors["transactions"].as_array().unwrap().iter().find(named).unwrap();
        let server = start(with_kinds()).await;
        let mut client = server.connect().await;
        let call = as_call(&vector["request"]);
        for call in [call.clone(), {
            let mut told = call.clone();
            told["type"] = Value::Null;
            told
        }] {
            let answer = client.call("/chain/1", "eth_signTransaction", &json!([call]).to_string()).await;
            assert_eq!(answer["result"], vector["transaction_signed"], "{answer}");
        }
        let answer = client.call("/chain/1/geth", "eth_signTransaction", &json!([call]).to_string()).await;
        let tx = &answer["result"]["tx"];
        assert_eq!(tx["hash"], vector["transaction_hash"]);
        for field in ["type", "maxFeePerBlobGas", "blobVersionedHashes"] {
            assert_eq!(tx[field], call[field], "{field}");
        }
        let entries = |tx: &Value| tx["authorizationList"].to_string().to_lowercase();
        assert_eq!(entries(tx), entries(&call));
    }
}

#[tokio::test]
async fn a_sidecar_beside_the_hashes_is_not_read() {
    let vectors: Value = serde_json::from_str(TYPES_3_4).unwrap();
    let vector = &vectors["transactions"][0];
    let server = start(with_kinds()).await;
    let mut client = server.connect().await;
    for sidecar in [
        json!({"blobs": null, "commitments": null, "proofs": null}),
        json!({"blobs": [format!("0x{}", "00".repeat(131_072))], "commitments": ["0xc0"], "proofs": ["0xc0"], "blobVersion": "0x1"}),
    ] {
        let mut call = as_call(&vector["request"]);
        call.as_object_mut().unwrap().extend(sidecar.as_object().unwrap().clone());
        let answer = client.call("/chain/1", "eth_signTransaction", &json!([call]).to_string()).await;
        assert_eq!(answer["result"], vector["transaction_signed"]);
    }
}

#[tokio::test]
async fn a_field_of_another_type_is_refused_by_name() {
    let server = start(with_kinds()).await;
    let mut client = server.connect().await;
    let hashes = json!([format!("0x01{}", "00".repeat(31))]);
    for (changes, expected) in [
        (json!({"type": "0x2", "maxFeePerBlobGas": "0x1"}), "params[0].maxFeePerBlobGas: a transaction of type 2"),
        (
            json!({"type": "0x4", "blobVersionedHashes": hashes}),
            "params[0].blobVersionedHashes: a transaction of type 4",
        ),
        (json!({"type": "0x3", "authorizationList": []}), "params[0].authorizationList: a transaction of type 3"),
        (json!({"maxFeePerBlobGas": "0x1"}), "params[0].blobVersionedHashes: missing"),
        (json!({"blobVersionedHashes": hashes}), "params[0].maxFeePerBlobGas: missing"),
        (json!({"type": "0x4"}), "params[0].authorizationList: missing"),
        (
            json!({"to": null, "data": "0x00", "blobVersionedHashes": hashes, "maxFeePerBlobGas": "0x1"}),
            "params[0].to: missing",
        ),
    ] {
        let answer = client.call("/chain/4", "eth_signTransaction", &changed(changes)).await;
        let (code, message, _) = error(&answer);
        assert!(code == -32602 && message.starts_with(expected), "{code} {message}");
    }
}

#[tokio::test]
async fn messages_and_typed_data_are_signed_as_eth_account_signs_them() {
    let server = start(with_kinds()).await;
    let mut client = server.connect().await;
    let vectors: Value = serde_json::from_str(MESSAGES).unwrap();
    for vector in vectors["personal_sign"].as_array().unwrap() {
        let params = json!([vector["text"], ADDRESS]).to_string();
        assert_eq!(client.call("/", "personal_sign", &params).await["result"], vector["signature"]);
        let params = json!(["text/plain", ADDRESS, vector["text"]]).to_string();
        assert_eq!(client.call("/", "account_signData", &params).await["result"], vector["signature"]);
    }
    let vector = &vectors["typed_data"][0];
    let data = &vector["typed_data"];
    for (method, params) in [
        // web3.py's name, Clef's, and what geth sends to Clef.
        ("eth_signTypedData", json!([ADDRESS, data])),
        ("account_signTypedData", json!([ADDRESS, data])),
        ("account_signData", json!(["data/typed", ADDRESS, ethereum::hex::prefixed(data.to_string().as_bytes())])),
        ("eth_signTypedData_v4", json!([ADDRESS, data])),
        ("eth_signTypedData_v3", json!([ADDRESS, data.to_string()])),
        ("account_signData", json!(["data/typed", ADDRESS, data])),
    ] {
        let answer = client.call("/", method, &params.to_string()).await;
        assert_eq!(answer["result"], vector["signature"], "{method}: {answer}");
    }
}

#[tokio::test]
async fn an_authorisation_is_an_entry_of_a_list_and_of_the_paths_chain_or_of_every_chain() {
    let server = start(with_kinds()).await;
    let mut client = server.connect().await;
    let vectors: Value = serde_json::from_str(TYPES_3_4).unwrap();
    let vector = &vectors["authorizations"][0];
    let mut params = vector["request"].clone();
    params["from"] = json!(ADDRESS);
    let entry = client.call("/chain/1", "eth_sign7702Authorization", &params.to_string()).await["result"].clone();
    let signature = vector["signature"].as_str().unwrap();
    let number = |digits: &str| json!(format!("0x{}", digits.trim_start_matches('0')));
    assert_eq!((&entry["r"], &entry["s"]), (&number(&signature[2..66]), &number(&signature[66..130])));
    assert_eq!(entry["yParity"], format!("0x{}", &signature[131..]));
    assert_eq!((&entry["chainId"], &entry["nonce"]), (&json!("0x1"), &json!("0x0")));

    params["nonce"] = json!(9);
    let answer = client.call("/chain/4", "eth_sign7702Authorization", &json!([params]).to_string()).await;
    let (code, message, _) = error(&answer);
    assert_eq!((code, message.as_str()), (-32010, "chain_id: 1, expected 4, the chain of this path"));
    params["chain_id"] = json!(0);
    let answer = client.call("/chain/4", "eth_sign7702Authorization", &json!([params]).to_string()).await;
    assert_eq!(answer["result"]["chainId"], "0x0", "{answer}");
}

#[tokio::test]
async fn each_kind_is_off_until_the_policy_turns_it_on() {
    let server = start(with_key()).await;
    let mut client = server.connect().await;
    let messages: Value = serde_json::from_str(MESSAGES).unwrap();
    let authorization = json!({"contract": ADDRESS, "chain_id": 4, "nonce": 0, "from": ADDRESS});
    for (method, params, rule) in [
        ("personal_sign", json!(["hi", ADDRESS]), "personal_sign"),
        ("eth_signTypedData_v4", json!([ADDRESS, messages["typed_data"][0]["typed_data"]]), "typed_data"),
        ("eth_sign7702Authorization", authorization, "delegates"),
    ] {
        let answer = client.call("/", method, &params.to_string()).await;
        assert_eq!((error(&answer).0, &answer["error"]["data"]["rule"]), (-32010, &json!(rule)), "{answer}");
        assert_eq!(answer["error"]["data"].get("field"), None, "it has no transaction: {answer}");
    }
}

#[tokio::test]
async fn a_transaction_with_blobs_is_not_sent() {
    let node = Node::start(|method, _| Says::Error(json!({"code": 1, "message": method}))).await;
    let server = start(with(KEY, &format!("{POLICY}{KINDS}{}", node.table("")))).await;
    let mut client = server.connect().await;
    let hashes = json!([format!("0x01{}", "00".repeat(31))]);
    let blobs = json!({"blobVersionedHashes": hashes, "maxFeePerBlobGas": "0x1"});
    let answer = client.call("/chain/4", "eth_sendTransaction", &changed(blobs)).await;
    let (code, message, _) = error(&answer);
    assert!(code == -32004 && message.contains("expected eth_signTransaction"), "{answer}");
    assert!(node.methods().is_empty(), "the node was asked: {:?}", node.methods());
}

#[tokio::test]
async fn typed_data_takes_more_room_than_its_text_and_that_of_every_day_none() {
    let limits = Limits { bodies: 40 << 10, ..Limits::default() };
    let server = start_with(with_kinds(), limits).await;
    let mut client = server.connect().await;
    // Below what takes room by its text alone.
    let text = "a".repeat(12 << 10);
    let call =
        |method: &str| json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": [text, ADDRESS]}).to_string();
    assert_eq!(client.post("/", &call("personal_sign")).await.status, 200);
    let escaped = call("personal_sign").replace("personal_sign", "\\u0070ersonal_sign");
    for body in [call("eth_signTypedData_v4"), escaped] {
        assert_eq!(client.post("/", &body).await.status, 429);
    }
    let server = start_with(with_kinds(), Limits { bodies: 0, ..Limits::default() }).await;
    let messages: Value = serde_json::from_str(MESSAGES).unwrap();
    let params = json!([ADDRESS, messages["typed_data"][0]["typed_data"]]).to_string();
    let answer = server.connect().await.call("/", "eth_signTypedData_v4", &params).await;
    assert!(answer["result"].is_string(), "{answer}");
}
