use ethereum::hex;
use ethereum::key::SecretKey;
use ethereum::signature::UnsignedTransaction;
use serde_json::{Value, json};

use super::*;
use crate::rpc::Call;
use crate::rpc::signed::SignedJson;

const REQUESTS: &str = include_str!("../../../../tests/vectors/rpc-requests.json");
const VECTORS: &str = include_str!("../../../../tests/vectors/ethereum-transactions.json");
const TYPES_3_4: &str = include_str!("../../../../tests/vectors/ethereum-types-3-4.json");
const KEY: &[u8] = b"4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318";

fn good() -> Value {
    json!({
        "from": "0x2c7536e3605d9c16a7a3d7b1898e529396a65c23", "to": "0xa5d3241a1591061f2a4bb69ca0215f66520e67cf",
        "gas": "0x186a0", "maxFeePerGas": "0x174876e800", "maxPriorityFeePerGas": "0xb2d05e00",
        "value": "0x2386f26fc10000", "nonce": "0x0", "chainId": "0x4"
    })
}

/// The good transaction with other values.
fn with(changes: Value) -> String {
    let mut transaction = good();
    let Value::Object(changes) = changes else { panic!("{changes}") };
    transaction.as_object_mut().unwrap().extend(changes);
    transaction.to_string()
}

fn read(transaction: &str) -> Result<Transaction, RequestError> {
    let text = format!(r#"{{"jsonrpc": "2.0", "method": "eth_signTransaction", "params": [{transaction}]}}"#);
    TransactionCall::read(Call::parse(&text).unwrap().params)?.transaction(None)
}

/// The error, less the place of the transaction.
fn refused(changes: Value) -> String {
    let error = read(&with(changes.clone())).expect_err(&changes.to_string()).to_string();
    assert!(error.contains("expected") && error.len() < 400, "{error}");
    error.strip_prefix("params[0].").unwrap_or(&error).to_owned()
}

fn signed(transaction: &Transaction) -> String {
    let key = SecretKey::parse(KEY).unwrap();
    hex::prefixed(&UnsignedTransaction::new(transaction).sign(&key).unwrap().raw)
}

#[test]
fn each_client_s_request_is_signed_as_eth_account_signs_it() {
    let vectors = |text: &str| serde_json::from_str::<Value>(text).unwrap()["transactions"].as_array().unwrap().clone();
    let (plain, others) = (vectors(VECTORS), vectors(TYPES_3_4));
    for request in serde_json::from_str::<Vec<Value>>(REQUESTS).unwrap() {
        let body = request["body"].to_string();
        let call = TransactionCall::read(Call::parse(&body).unwrap().params).unwrap();
        assert_eq!(call.from.to_string(), "0x2c7536E3605D9C16a7a3D7b1898e529396a65c23");
        let named = |vector: &&Value| vector["name"] == request["transaction"];
        let expected = &others.iter().find(named).unwrap_or(&plain[0])["transaction_signed"];
        assert_eq!(signed(&call.transaction(None).unwrap()), *expected, "{}", request["client"]);
    }
}

#[test]
fn a_transaction_comes_by_name_too() {
    let text = format!(r#"{{"jsonrpc": "2.0", "method": "a", "params": {{"transaction": {}}}}}"#, good());
    assert!(TransactionCall::read(Call::parse(&text).unwrap().params).is_ok());
}

#[test]
fn numbers_are_quantities_in_hex_and_nothing_else() {
    for field in
        ["gas", "gasLimit", "value", "nonce", "chainId", "gasPrice", "maxFeePerGas", "maxPriorityFeePerGas", "type"]
    {
        for wrong in [
            json!(1),
            json!(1.5),
            json!("1"),
            json!(""),
            json!("0x"),
            json!("0x01"),
            json!("0X1"),
            json!("0xg"),
            json!("-0x1"),
            json!("0x+1"),
            json!(true),
            json!([]),
            json!({}),
            json!("0x100000000000000000000000000000000"),
        ] {
            let error = refused(json!({ field: wrong }));
            assert!(error.starts_with(&format!("{field}: ")), "{field} = {wrong}: {error}");
        }
    }
    assert!(refused(json!({"nonce": "0xffffffffffffffff"})).starts_with("nonce: "));
    assert!(refused(json!({"chainId": "0x0"})).starts_with("chainId: "));
    assert!(refused(json!({"gas": "0x0"})).starts_with("gas: "));
    assert!(refused(json!({"type": "0x7f"})).starts_with("type: "));
}

#[test]
fn strings_are_no_numbers() {
    for (field, wrong) in
        [("to", json!(5)), ("from", json!(5)), ("data", json!(0)), ("input", json!(0)), ("accessList", json!("0x"))]
    {
        assert!(refused(json!({ field: wrong })).starts_with(&format!("{field}: ")));
    }
    // The capitals are those of another address.
    assert!(refused(json!({"to": "0xA5d3241A1591061F2a4bB69CA0215F66520E67cf"})).contains("EIP-55"));
}

#[test]
fn a_null_is_an_absent_value_and_what_is_missing_is_named() {
    assert_eq!(
        read(&with(json!({"gasPrice": null, "data": null, "accessList": null, "type": null}))),
        read(&good().to_string())
    );
    for field in ["from", "gas", "nonce", "chainId", "maxFeePerGas", "maxPriorityFeePerGas"] {
        assert!(refused(json!({ field: null })).starts_with(&format!("{field}: missing, expected ")), "{field}");
    }
    assert!(refused(json!({"to": null})).starts_with("to: missing, expected an address, or data"));
    assert_eq!(read(&with(json!({"value": null}))).unwrap().value, Wei(0));
    assert!(read(&with(json!({"to": null, "data": "0x60"}))).unwrap().to.is_none());
}

#[test]
fn unknown_fields_and_those_written_twice_are_refused_by_name() {
    for field in ["Gas", "gaslimit", "chain_id", "sidecar", "password", ""] {
        let name = if field.is_empty() { "\"\"" } else { field };
        assert!(
            refused(json!({ field: "0x1" }))
                .starts_with(&format!("{name}: unknown field, expected one of from, to, gas"))
        );
    }
    // Only type 3 has a sidecar.
    for field in ["blobs", "commitments", "proofs", "blobVersion"] {
        let error = refused(json!({ field: "0x1" }));
        assert!(error.starts_with(&format!("{field}: a transaction of type 2 has no such field")), "{error}");
        assert!(read(&with(json!({ field: null }))).is_ok());
    }
    let twice = good().to_string().replacen('{', r#"{"gas": "0x1", "#, 1);
    assert_eq!(read(&twice).unwrap_err().to_string(), "params[0].gas: written twice, expected once");
}

#[test]
fn of_two_names_for_one_value_both_may_stand_if_they_agree() {
    for (one, other) in [("gas", "gasLimit"), ("data", "input")] {
        let (value, another) = if one == "gas" { ("0x186a0", "0x186a1") } else { ("0xaA", "0xab") };
        let alone = read(&with(json!({ one: null, other: value })));
        assert_eq!(read(&with(json!({ one: value, other: value }))), alone);
        assert!(alone.is_ok());
        let error = refused(json!({ one: value, other: another }));
        assert_eq!(
            error,
            format!("{other}: another value than that of params[0].{one}, expected the same, or only one of the two")
        );
    }
    // Capitals make no difference.
    assert!(read(&with(json!({"data": "0xaa", "input": "0xAA"}))).is_ok());
}

#[test]
fn gas_price_stands_beside_the_pair_only_if_it_is_the_maximum() {
    let with_price = read(&with(json!({"gasPrice": "0x174876e800"})));
    assert_eq!(with_price, read(&good().to_string()));
    for price in ["0x174876e801", "0xb2d05e00"] {
        assert!(refused(json!({ "gasPrice": price })).starts_with("gasPrice: "), "{price}");
    }
}

#[test]
fn the_type_is_told_by_the_fees_and_lists_or_must_agree_with_them() {
    let old = |changes: Value| {
        let mut all = json!({"maxFeePerGas": null, "maxPriorityFeePerGas": null, "gasPrice": "0x1"});
        all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        with(all)
    };
    let number = |text: &str| match read(text).unwrap().kind {
        Kind::Legacy { .. } => 0,
        Kind::AccessList { .. } => 1,
        Kind::DynamicFee { .. } => 2,
        Kind::Blob { .. } => 3,
        Kind::SetCode { .. } => 4,
    };
    for (text, expected) in [
        (old(json!({})), 0),
        (old(json!({"accessList": []})), 1),
        (old(json!({"type": "0x0"})), 0),
        (old(json!({"type": "0x1"})), 1),
        (good().to_string(), 2),
        (with(json!({"type": "0x2", "accessList": []})), 2),
    ] {
        assert_eq!(number(&text), expected, "{text}");
    }
    assert_eq!(
        refused(json!({"type": "0x0"})),
        "maxFeePerGas: a transaction of type 0 has no such field, expected gasPrice"
    );
    assert_eq!(
        refused(json!({"type": "0x1", "maxFeePerGas": null})),
        "maxPriorityFeePerGas: a transaction of type 1 has no such field, expected gasPrice"
    );
    assert!(read(&old(json!({"type": "0x2"}))).unwrap_err().to_string().contains("maxFeePerGas: missing"));
    assert!(
        read(&old(json!({"type": "0x0", "accessList": []})))
            .unwrap_err()
            .to_string()
            .contains("accessList: a transaction of type 0")
    );
    assert_eq!(
        refused(json!({"maxPriorityFeePerGas": "0x174876e801"})),
        "maxPriorityFeePerGas: 100000000001 wei, expected at most maxFeePerGas, 100000000000 wei"
    );
}

#[test]
fn a_chain_comes_from_elsewhere_only_if_the_transaction_names_none() {
    let text = format!(r#"{{"jsonrpc": "2.0", "method": "a", "params": [{}]}}"#, with(json!({"chainId": null})));
    let call = TransactionCall::read(Call::parse(&text).unwrap().params).unwrap();
    assert_eq!(call.transaction(Some(7)).unwrap().chain_id, 7);
    let text = format!(r#"{{"jsonrpc": "2.0", "method": "a", "params": [{}]}}"#, good());
    let call = TransactionCall::read(Call::parse(&text).unwrap().params).unwrap();
    assert_eq!(call.transaction(Some(7)).unwrap().chain_id, 4);
}

/// The fields of `tx` are those of go-ethereum's `txJSON`; the numbers were read from the signed bytes with eth-account.
#[test]
fn a_signed_transaction_is_shown_as_geth_shows_it() {
    let shown = |text: &str| {
        let transaction = read(text).unwrap();
        let signed = UnsignedTransaction::new(&transaction).sign(&SecretKey::parse(KEY).unwrap()).unwrap();
        serde_json::to_value(SignedJson::new(&transaction, &signed).unwrap()).unwrap()
    };
    let dynamic = shown(&good().to_string());
    let fields = |value: &Value| value["tx"].as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(
        fields(&dynamic),
        "accessList chainId gas gasPrice hash input maxFeePerGas maxPriorityFeePerGas nonce r s to type v value yParity"
    );
    let tx = &dynamic["tx"];
    assert_eq!((&tx["type"], &tx["gasPrice"], &tx["accessList"]), (&json!("0x2"), &Value::Null, &json!([])));
    assert_eq!((&tx["input"], &tx["v"], &tx["yParity"]), (&json!("0x"), &tx["yParity"], &tx["v"]));
    let raw = dynamic["raw"].as_str().unwrap();
    for number in ["r", "s"] {
        assert!(raw.contains(tx[number].as_str().unwrap().trim_start_matches("0x")), "{number}");
    }
    let list = json!([{"address": "0xa5d3241a1591061f2a4bb69ca0215f66520e67cf", "storageKeys": [format!("0x{}", "01".repeat(32))]}]);
    let old = json!({"maxFeePerGas": null, "maxPriorityFeePerGas": null, "gasPrice": "0x1"});
    let legacy = shown(&with(old.clone()));
    assert_eq!(
        fields(&legacy),
        "chainId gas gasPrice hash input maxFeePerGas maxPriorityFeePerGas nonce r s to type v value"
    );
    assert!(["0x2b", "0x2c"].contains(&legacy["tx"]["v"].as_str().unwrap()), "{legacy}");
    let mut with_list = old;
    with_list["accessList"] = list.clone();
    assert_eq!(shown(&with(with_list))["tx"]["accessList"], list);
}

#[test]
fn what_is_estimated_is_what_will_be_signed() {
    let text = format!(
        r#"{{"jsonrpc": "2.0", "method": "a", "params": [{}]}}"#,
        with(json!({"input": "0xab", "accessList": []}))
    );
    let estimated = TransactionCall::read(Call::parse(&text).unwrap().params).unwrap().estimated();
    let expected = json!({
        "from": "0x2c7536E3605D9C16a7a3D7b1898e529396a65c23", "to": "0xa5D3241A1591061F2a4bB69CA0215F66520E67cf",
        "value": "0x2386f26fc10000", "input": "0xab", "accessList": [], "maxFeePerGas": "0x174876e800",
        "maxPriorityFeePerGas": "0xb2d05e00"
    });
    assert_eq!(serde_json::from_str::<Value>(&estimated).unwrap(), expected);
}
