//! Typed data is not larger than documented once it is read. Alone in its process, whose size is what is measured.

#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

use serde_json::{Map, Value, json};
use signer_api::rpc::{Call, Signing};
use signer_api::typed_data::held;

const ADDRESS: &str = "0x2c7536E3605D9C16a7a3D7b1898e529396a65c23";

/// How much of it is there at a time.
const COUNT: usize = 60;

/// Bytes of memory that this process has touched (proc_pid_statm(5): the second number, in pages).
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// A call with members of these types and values.
fn call(members: impl Iterator<Item = (String, &'static str, Value)>) -> String {
    let (mut types, mut message) = (Vec::new(), Map::new());
    for (name, type_, value) in members {
        types.push(json!({"name": name, "type": type_}));
        message.insert(name, value);
    }
    let types = json!({"EIP712Domain": [{"name": "chainId", "type": "uint256"}], "T": types});
    let data = json!({"types": types, "primaryType": "T", "domain": {"chainId": 1}, "message": message});
    json!({"jsonrpc": "2.0", "id": 1, "method": "eth_signTypedData_v4", "params": [ADDRESS, data]}).to_string()
}

fn one(type_: &'static str, value: Value) -> String {
    call(std::iter::once(("a".to_owned(), type_, value)))
}

#[test]
fn typed_data_is_not_larger_than_documented() {
    let arrays = one("uint8[1][]", json!(vec![[1]; 1000]));
    let data = serde_json::from_str::<Value>(&arrays).unwrap().pointer("/params/1").unwrap().to_string();
    let clef = |data: &str| {
        format!(
            r#"{{"jsonrpc": "2.0", "id": 1, "method": "account_signData", "params": ["data/typed", "{ADDRESS}", "{data}"]}}"#
        )
    };
    let in_hex = clef(&ethereum::hex::prefixed(data.as_bytes()));
    let escaped = clef(&data.replace('"', "\\\"").replace(',', "\\u002c").replace('[', "\\u005b"));
    for (what, body) in [
        ("in hex", in_hex),
        ("escaped", escaped),
        ("numbers", one("uint8[]", json!(vec![1; 2000]))),
        ("an array for each", arrays),
        ("arrays in one another", one("bool[1][1][1][]", json!(vec![[[[true]]]; 500]))),
        ("short texts", one("string[]", json!(vec!["a"; 2000]))),
        ("short bytes in arrays", one("bytes1[1][]", json!(vec![["0x00"]; 1000]))),
        ("a long text", one("string", json!("a".repeat(250 << 10)))),
        ("members", call((0..500).map(|at| (format!("m{at}"), "bool", json!(true))))),
    ] {
        let read = || {
            let call = Call::parse(&body).unwrap();
            Signing::of_method(&call.method, call.params).unwrap().unwrap()
        };
        let before = resident();
        let all: Vec<Signing> = std::iter::repeat_with(read).take(COUNT).collect();
        let each = resident().saturating_sub(before) / COUNT;
        let most = held(body.as_bytes());
        assert!(each <= most, "{what}: {} bytes are {each}, expected at most {most}", body.len());
        // What is freed is used again, and would hide what comes next.
        std::mem::forget(all);
    }
}
