//! What clients of JSON-RPC may send by mistake or on purpose: each is refused, and the answer says which field, or which rule.

use serde_json::{Value, json};

use super::{KEY, changed, error, with};
use crate::harness::{ADDRESS, POLICY, start};

const DELEGATE: &str = "0x63c0c19a282a1B52b07dD5a65b58948A07DAE32B";
const TOKEN: &str = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48";
const PERMIT: &str = "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)";

/// Typed data with one member `a` of that type, `more` types, and that value.
fn typed(type_: &str, more: &Value, value: &Value) -> Value {
    let mut types =
        json!({"EIP712Domain": [{"name": "chainId", "type": "uint256"}], "T": [{"name": "a", "type": type_}]});
    types.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"types": types, "primaryType": "T", "domain": {"chainId": 1}, "message": {"a": value}})
}

#[tokio::test]
async fn typed_data_that_is_none_is_refused_by_its_field() {
    let server = start(with(KEY, POLICY)).await;
    let mut client = server.connect().await;
    let member = |type_: &str| json!([{"name": "b", "type": type_}]);
    let none = json!({});
    for (data, field, problem) in [
        (typed("U", &json!({"U": member("V"), "V": member("U")}), &none), "types.U", "contains itself (T > U > V > U)"),
        (typed("T", &none, &none), "types.T", "contains itself (T > T)"),
        (typed("U[]", &none, &json!([])), "types.T[0].type", "`U` is not in types"),
        (typed("uint7", &none, &json!(1)), "types.T[0].type", "expected uint8 to uint256"),
        (typed("uint8[2]", &none, &json!([1])), "message.a", "a list of 1, expected uint8[2]"),
        (typed("uint8[2]", &none, &json!([1, 2, 3])), "message.a", "a list of 3, expected uint8[2]"),
        (typed("uint8[]", &none, &json!(1)), "message.a", "expected a list"),
        (typed("uint256", &none, &json!(-1)), "message.a", "expected a whole number from 0"),
        (typed("uint256", &none, &json!("-1")), "message.a", "expected a whole number from 0"),
        (typed("bool", &none, &json!("true")), "message.a", "expected true or false"),
        (typed("address", &none, &json!("0x01")), "message.a", "expected 0x and 40 hex digits"),
        (typed("bytes4", &none, &json!("0x010203")), "message.a", "3 bytes, expected 4"),
        (typed("string", &none, &Value::Null), "message.a", "null: expected a string"),
        (typed("string", &none, &json!(5)), "message.a", "expected a string"),
    ] {
        let own = format!("params[1].{field}");
        for data in [data.clone(), json!(data.to_string())] {
            let answer = client.call("/", "eth_signTypedData_v4", &json!([ADDRESS, data]).to_string()).await;
            let (code, message, _) = error(&answer);
            assert_eq!((code, &answer["error"]["data"]["field"]), (-32602, &json!(own)), "{message}");
            assert!(message.starts_with(&own) && message.contains(problem), "{message}");
        }
    }
    let mut unknown = typed("bool", &none, &json!(true));
    unknown["message"]["b"] = json!(1);
    let twice = typed("bool", &none, &json!(true)).to_string().replace("\"a\":true", "\"a\":true,\"a\":false");
    for (data, problem) in [(unknown.to_string(), "not a member of T"), (twice, "written twice")] {
        let answer = client.call("/", "eth_signTypedData_v4", &format!("[\"{ADDRESS}\", {data}]")).await;
        assert!(error(&answer).0 == -32602 && error(&answer).1.contains(problem), "{answer}");
    }
}

#[tokio::test]
async fn typed_data_that_is_too_long_is_refused_before_it_is_read() {
    let server = start(with(KEY, POLICY)).await;
    let long = |len: usize| json!([ADDRESS, typed("string", &json!({}), &json!("a".repeat(len)))]).to_string();
    let mut client = server.connect().await;
    let answer = client.call("/", "eth_signTypedData_v4", &long(300 << 10)).await;
    assert!(error(&answer).0 == -32602 && error(&answer).1.contains("expected at most 262144"), "{answer}");
    // Longer than any body.
    let body =
        format!(r#"{{"jsonrpc": "2.0", "id": 1, "method": "eth_signTypedData_v4", "params": {}}}"#, long(1 << 20));
    assert_eq!(client.post("/", &body).await.error().0, 413);
}

#[tokio::test]
async fn blobs_and_their_fee_are_bounded() {
    let server =
        start(with(KEY, &format!("{POLICY}blobs = {{ max_count = 2, max_fee_per_blob_gas = \"10 gwei\" }}\n"))).await;
    let mut client = server.connect().await;
    let hashes = |count: usize| vec![format!("0x01{}", "00".repeat(31)); count];
    let blobs =
        |count: usize, fee: &str| changed(json!({"blobVersionedHashes": hashes(count), "maxFeePerBlobGas": fee}));
    for (params, code, expected) in [
        (blobs(0, "0x1"), -32602, "params[0].blobVersionedHashes: "),
        (blobs(1_000, "0x1"), -32010, "params[0].blobVersionedHashes: "),
        (
            changed(json!({"blobVersionedHashes": ["0x02"], "maxFeePerBlobGas": "0x1"})),
            -32602,
            "params[0].blobVersionedHashes[0]: ",
        ),
        (blobs(3, "0x1"), -32010, "policy rule blobs: 3 blobs, at most 2"),
        (blobs(1, "0x2540be401"), -32010, "policy rule blobs: 10000000001 wei for a unit of blob gas"),
    ] {
        let answer = client.call("/chain/4", "eth_signTransaction", &params).await;
        let (has, message, _) = error(&answer);
        assert!(has == code && message.starts_with(expected), "{answer}");
    }
    let answer = client.call("/chain/4", "eth_signTransaction", &blobs(2, "0x2540be400")).await;
    assert!(answer["result"].is_string(), "{answer}");
}

/// Entries of a list, as another signer signs them, which is less strict.
async fn entries(chain_id: u64, contract: &str) -> Value {
    let lax = format!("{POLICY}delegates = [\"{DELEGATE}\", \"{TOKEN}\"]\nany_chain_authorizations = true\n");
    let server = start(with(KEY, &lax)).await;
    let params = json!({"contract": contract, "chain_id": chain_id, "nonce": 1, "from": ADDRESS});
    let answer = server.connect().await.call("/chain/4", "eth_sign7702Authorization", &params.to_string()).await;
    json!([answer["result"]])
}

#[tokio::test]
async fn an_authorisation_for_a_foreign_delegate_or_every_chain_is_refused_wherever_it_stands() {
    let server = start(with(KEY, &format!("{POLICY}delegates = [\"{DELEGATE}\"]\n"))).await;
    let mut client = server.connect().await;
    for (chain_id, contract, rule) in [(4, TOKEN, "delegates"), (0, DELEGATE, "any_chain_authorizations")] {
        let listed = changed(json!({"authorizationList": entries(chain_id, contract).await}));
        let alone = json!({"contract": contract, "chain_id": chain_id, "nonce": 1, "from": ADDRESS}).to_string();
        for (method, params) in [("eth_signTransaction", listed), ("eth_sign7702Authorization", alone)] {
            let answer = client.call("/chain/4", method, &params).await;
            assert_eq!((error(&answer).0, &answer["error"]["data"]["rule"]), (-32010, &json!(rule)), "{answer}");
        }
    }
    let nameless = json!({"contract": DELEGATE, "chain_id": 4, "from": ADDRESS}).to_string();
    let answer = client.call("/chain/4", "eth_sign7702Authorization", &nameless).await;
    assert!(error(&answer).0 == -32602 && error(&answer).1.contains("nonce"), "{answer}");
    let mut forged = entries(4, DELEGATE).await;
    forged[0]["r"] = json!("0x0");
    for (list, expected) in [(forged, "the signature is nobody's"), (json!([]), "params[0].authorizationList: ")] {
        let answer = client.call("/chain/4", "eth_signTransaction", &changed(json!({"authorizationList": list}))).await;
        assert!(error(&answer).0 == -32602 && error(&answer).1.contains(expected), "{answer}");
    }
    let allowed = changed(json!({"authorizationList": entries(4, DELEGATE).await}));
    let answer = client.call("/chain/4", "eth_signTransaction", &allowed).await;
    assert!(answer["result"].is_string(), "{answer}");
}

#[tokio::test]
async fn a_permit_over_its_cap_and_one_for_another_spender_are_refused() {
    let value = "{ max = \"1000\", decimals = 6, is_payment = true }";
    let rules = format!(
        "{POLICY}[[policy.typed_data]]\nchain_id = 1\nverifying_contract = \"{TOKEN}\"\ntype = \"{PERMIT}\"\n\
         fields = {{ owner = \"any\", spender = \"{DELEGATE}\", value = {value}, nonce = \"any\", deadline = \"any\" }}\n\
         [[policy.windows]]\ntoken = \"{TOKEN}\"\nperiod = \"1h\"\nmax = \"1500\"\ndecimals = 6\n"
    );
    let server = start(with(KEY, &rules)).await;
    let mut client = server.connect().await;
    let member = |name: &str, type_: &str| json!({"name": name, "type": type_});
    let permit = |chain: u64, spender: &str, value: u64| {
        json!([ADDRESS, {
            "types": {
                "EIP712Domain": [member("chainId", "uint256"), member("verifyingContract", "address")],
                "Permit": [member("owner", "address"), member("spender", "address"), member("value", "uint256"),
                    member("nonce", "uint256"), member("deadline", "uint256")],
            },
            "primaryType": "Permit",
            "domain": {"chainId": chain, "verifyingContract": TOKEN},
            "message": {"owner": ADDRESS, "spender": spender, "value": value.to_string(), "nonce": 0, "deadline": 1},
        }])
        .to_string()
    };
    for (params, rule, expected) in [
        (permit(1, DELEGATE, 1_000_000_001), "typed_data", "value: 1000.000001, at most 1000"),
        (permit(1, TOKEN, 1), "typed_data", "spender: "),
        (permit(4, DELEGATE, 1), "typed_data", "has no rule"),
    ] {
        let answer = client.call("/chain/1", "eth_signTypedData_v4", &params).await;
        assert_eq!((error(&answer).0, &answer["error"]["data"]["rule"]), (-32010, &json!(rule)), "{answer}");
        assert!(error(&answer).1.contains(expected), "{answer}");
    }
    // A permit is a payment: two of them are more than the window has.
    let first = client.call("/chain/1", "eth_signTypedData_v4", &permit(1, DELEGATE, 1_000_000_000)).await;
    assert!(first["result"].is_string(), "{first}");
    let second = client.call("/chain/1", "eth_signTypedData_v4", &permit(1, DELEGATE, 500_000_001)).await;
    assert_eq!(second["error"]["data"]["rule"], "windows", "{second}");
}

/// A word of calldata.
fn word(number: u128) -> String {
    format!("{number:064x}")
}

#[tokio::test]
async fn calldata_that_is_not_the_one_encoding_of_its_arguments_is_refused() {
    let functions = format!(
        "{}[policy.calls.{TOKEN}]\n\"transfer(address to, uint256 amount)\" = {{ to = \"any\", amount = \"any\" }}\n\
         \"pay(bytes[] parts)\" = {{ parts = {{ every = \"any\" }} }}\n",
        POLICY.replace("data_selectors = \"any\"", "data_selectors = []")
    );
    let server = start(with(KEY, &functions)).await;
    let mut client = server.connect().await;
    let transfer = format!("0xa9059cbb{}{}", word(7), word(5));
    let selector = {
        use ethereum::abi::Function;
        let function: Function = "pay(bytes[] parts)".parse().unwrap();
        ethereum::hex::prefixed(&function.selector)
    };
    let parts = |words: &[u128]| format!("{selector}{}", words.iter().copied().map(word).collect::<String>());
    let layout = "its offsets, lengths and size are not those of its arguments";
    let bits = "an argument has bits that its type does not have";
    for (data, expected) in [
        (transfer[..transfer.len() - 2].to_owned(), layout),
        (format!("{transfer}00"), layout),
        (format!("{transfer}{}", word(0)), layout),
        (format!("0xa9059cbb{}{}", word(7).replacen("00", "01", 1), word(5)), bits),
        // One element twice; an offset that points back; a longer list than there is.
        (parts(&[32, 2, 64, 64, 0]), layout),
        (parts(&[32, 1, 0]), layout),
        (parts(&[32, u128::MAX]), layout),
        (parts(&[64, 0, 0]), layout),
        ("0x01020304".to_owned(), "0x01020304 is no call that"),
    ] {
        let params = changed(json!({"to": TOKEN, "value": "0x0", "data": data}));
        let answer = client.call("/chain/4", "eth_signTransaction", &params).await;
        assert_eq!((error(&answer).0, &answer["error"]["data"]["rule"]), (-32010, &json!("calls")), "{answer}");
        assert!(error(&answer).1.contains(expected), "{data}: {answer}");
    }
    for (nonce, data) in ["0x0", "0x1"].into_iter().zip([transfer, parts(&[32, 2, 64, 96, 0, 0])]) {
        let params = changed(json!({"to": TOKEN, "value": "0x0", "data": data, "nonce": nonce}));
        let answer = client.call("/chain/4", "eth_signTransaction", &params).await;
        assert!(answer["result"].is_string(), "{answer}");
    }
}
