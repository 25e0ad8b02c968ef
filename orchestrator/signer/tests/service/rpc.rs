//! JSON-RPC, as clients speak it.

mod accounts;
mod bad_input;
mod chains;
mod forms;
mod kinds;
mod node;
mod upstream;

use serde_json::{Value, json};
use signer::config::Config;

use super::harness::{ADDRESS, POLICY, config};

const KEY: &str = "[[keys]]\nsecret_id = \"prod/wallet\"\n";

/// One key, and everybody may use it.
fn with_key() -> Config {
    with(KEY, POLICY)
}

fn with(tables: &str, policy: &str) -> Config {
    config(&format!("open = true\n{tables}{policy}"))
}

/// The transaction of the documentation, with that nonce.
fn transaction(nonce: u64) -> Value {
    json!({
        "from": ADDRESS, "to": "0xa5D3241A1591061F2a4bB69CA0215F66520E67cf", "value": "0x2386f26fc10000",
        "nonce": format!("{nonce:#x}"), "gas": "0x186a0", "maxFeePerGas": "0x174876e800", "maxPriorityFeePerGas": "0xb2d05e00",
        "chainId": "0x4"
    })
}

/// The same with other values; null leaves a field out.
fn changed(changes: Value) -> String {
    let mut transaction = transaction(0);
    transaction.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    json!([transaction]).to_string()
}

/// The code, the message, and the code in the data.
fn error(answer: &Value) -> (i64, String, String) {
    let error = answer["error"].as_object().unwrap_or_else(|| panic!("{answer}"));
    assert!(answer.get("result").is_none());
    let code = error.get("data").and_then(|data| data["code"].as_str()).unwrap_or_default();
    (error["code"].as_i64().unwrap(), error["message"].as_str().unwrap().to_owned(), code.to_owned())
}
