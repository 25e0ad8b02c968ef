use ethereum::amount::Wei;
use ethereum::hex;
use ethereum::key::SecretKey;
use ethereum::signable::{Signed, Unsigned};
use ethereum::transaction::{Kind, Transaction};
use serde_json::Value;

use super::*;
use crate::field::MAX_DATA;

const VECTORS: &str = include_str!("../../../tests/vectors/ethereum-transactions.json");
const TO: &str = "0xa5D3241A1591061F2a4bB69CA0215F66520E67cf";
const GOOD: &str = r#"{"transaction_payload": {"value": 0.01, "to": "0xa5D3241A1591061F2a4bB69CA0215F66520E67cf", "nonce": 0,
"type": 2, "chainId": 4, "gas": 100000, "maxFeePerGas": 100000000000, "maxPriorityFeePerGas": 3000000000},
"secret_id": "prod/wallet"}"#;
const CREDENTIAL: &str = r#""credential": {"access_key_id": "AKIA", "secret_access_key": "hush", "token": "psst"}"#;

/// The good request with `from` replaced.
fn with(from: &str, to: &str) -> Result<SignRequest, RequestError> {
    assert!(GOOD.contains(from), "{from} is not in the request");
    SignRequest::parse(GOOD.replacen(from, to, 1).as_bytes())
}

impl SignRequest {
    fn transaction(&self) -> &Transaction {
        match &self.subject {
            Signable::Transaction(transaction) => transaction,
            other => panic!("{other:?}"),
        }
    }
}

fn refused(from: &str, to: &str) -> String {
    let error = with(from, to).expect_err("accepted").to_string();
    assert!(error.len() < 400, "{} bytes of error", error.len());
    error
}

/// The error with another value for a field of the payload, which it must name.
fn refused_value(field: &str, value: &str) -> String {
    let written = GOOD.split(&format!("\"{field}\": ")).nth(1).unwrap();
    let end = written.find([',', '}']).unwrap();
    let from = format!("\"{field}\": {}", &written[..end]);
    let error = refused(&from, &format!("\"{field}\": {value}"));
    assert!(error.starts_with(&format!("transaction_payload.{field}: ")), "{field} = {value}: {error}");
    assert!(error.contains("expected"), "{error}");
    error
}

#[test]
fn the_good_request_is_read() {
    let request = SignRequest::parse(GOOD.as_bytes()).unwrap();
    assert_eq!(request.transaction().value, Wei(10_000_000_000_000_000));
    assert_eq!(request.transaction().to.unwrap().to_string(), TO);
    assert_eq!(request.key, KeyReference::SecretId("prod/wallet".to_owned()));
    assert!(request.credential.is_none());
}

#[test]
fn an_unknown_field_is_refused_at_every_level() {
    assert!(refused("\"secret_id\"", "\"secretid\"").starts_with("secretid: unknown field, expected one of "));
    assert!(refused("\"gas\"", "\"gasLimit\"").starts_with("transaction_payload.gasLimit: unknown field"));
    let access = r#""nonce": 0, "accessList": [{"address": "0xde0b295669a9fd93d5f28d9ec85e40f4cb697bae", "storageKeys": [], "x": 1}]"#;
    assert!(refused("\"nonce\": 0", access).starts_with("transaction_payload.accessList[0].x: unknown field"));
    let credential = CREDENTIAL.replace("token", "session");
    assert!(
        refused("\"secret_id\"", &format!("{credential}, \"secret_id\""))
            .starts_with("credential.session: unknown field")
    );
}

#[test]
fn a_field_written_twice_is_refused() {
    assert_eq!(
        refused("\"gas\": 100000", "\"gas\": 1, \"gas\": 100000"),
        "transaction_payload.gas: written twice, expected once"
    );
    assert_eq!(
        refused("\"secret_id\": ", "\"secret_id\": \"a\", \"secret_id\": "),
        "secret_id: written twice, expected once"
    );
}

#[test]
fn each_missing_field_is_named() {
    for field in ["value", "nonce", "chainId", "gas", "maxFeePerGas", "maxPriorityFeePerGas"] {
        let written = GOOD.split(&format!("\"{field}\": ")).nth(1).unwrap();
        let mut from = format!("\"{field}\": {}", &written[..written.find([',', '}']).unwrap()]);
        from.push_str(if GOOD.contains(&format!("{from},")) { "," } else { "" });
        let error = if from.ends_with(',') { refused(&from, "") } else { refused(&format!(", {from}"), "") };
        assert!(error.starts_with(&format!("transaction_payload.{field}: missing, expected ")), "{error}");
    }
    assert!(SignRequest::parse(b"{}").unwrap_err().to_string().starts_with("transaction_payload: missing"));
}

#[test]
fn a_null_is_no_value() {
    for field in ["value", "to", "nonce", "type", "chainId", "gas", "maxFeePerGas", "maxPriorityFeePerGas"] {
        refused_value(field, "null");
    }
}

#[test]
fn a_value_of_the_wrong_type_is_refused_for_every_field() {
    for field in ["value", "to", "nonce", "type", "chainId", "gas", "maxFeePerGas", "maxPriorityFeePerGas"] {
        for value in ["true", "[]", "{}", "\"\"", "\"x\"", "[1]"] {
            refused_value(field, value);
        }
    }
    refused_value("to", "5");
}

#[test]
fn whole_numbers_are_integers_or_canonical_quantities() {
    for field in ["nonce", "chainId", "gas", "maxFeePerGas", "maxPriorityFeePerGas"] {
        for value in [
            "1.0",
            "1e5",
            "-1",
            "-0",
            "0.5",
            "\"1\"",
            "\"0x\"",
            "\"0x01\"",
            "\"0X1\"",
            "\"0xg\"",
            "\"-0x1\"",
            "\"0x+1\"",
            "\"\\u0030x1\"",
        ] {
            refused_value(field, value);
        }
    }
    let request = with("\"gas\": 100000", "\"gas\": \"0x186a0\"").unwrap();
    assert_eq!(request.transaction().gas, 100_000);
    assert_eq!(with("\"nonce\": 0", "\"nonce\": \"0x0\"").unwrap().transaction().nonce, 0);
}

#[test]
fn each_number_has_its_range() {
    refused_value("nonce", "18446744073709551615");
    assert!(with("\"nonce\": 0", "\"nonce\": 18446744073709551614").is_ok());
    refused_value("chainId", "0");
    refused_value("chainId", "9223372036854775772");
    assert!(with("\"chainId\": 4", "\"chainId\": 9223372036854775771").is_ok());
    refused_value("gas", "0");
    refused_value("gas", "18446744073709551616");
    refused_value("maxFeePerGas", "340282366920938463463374607431768211456");
    refused_value("maxFeePerGas", &"9".repeat(1000));
    refused_value("type", "5");
    refused_value("type", "-1");
}

#[test]
fn a_tip_above_the_fee_is_refused() {
    let error = refused_value("maxPriorityFeePerGas", "100000000001");
    assert!(error.ends_with("expected at most maxFeePerGas, 100000000000 wei"), "{error}");
}

#[test]
fn ether_is_read_from_its_text() {
    let value = |text: &str| with("\"value\": 0.01", &format!("\"value\": {text}")).unwrap().transaction().value.0;
    assert_eq!(value("0.1"), 100_000_000_000_000_000);
    assert_eq!(value("\"1.000000000000000001\""), 1_000_000_000_000_000_001);
    assert_eq!(value("1.000000000000000001"), 1_000_000_000_000_000_001);
    assert_eq!(value("1e-05"), 10_000_000_000_000);
    assert_eq!(value("0"), 0);
}

#[test]
fn ether_has_a_sign_a_range_and_a_precision() {
    assert!(refused_value("value", "-1").contains("negative"));
    assert!(refused_value("value", "\"-0.1\"").contains("negative"));
    assert!(refused_value("value", "0.0000000000000000001").contains("at most 18 decimals"));
    assert!(refused_value("value", "1e30").contains("out of range"));
    for text in ["\"0x1\"", "\"1 ether\"", "\" 1\"", "\"1,5\"", "\"NaN\"", "\"Infinity\"", "\"٣\""] {
        assert!(refused_value("value", text).contains("expected a decimal number"), "{text}");
    }
    assert!(refused_value("value", &"1".repeat(10_000)).contains("expected a decimal number"));
}

#[test]
fn an_address_has_its_length_its_prefix_and_its_checksum() {
    let wrong_case = TO.replacen("aB", "AB", 1).replacen('D', "d", 1);
    let error = refused_value("to", &format!("\"{wrong_case}\""));
    assert!(error.contains(TO), "{error}");
    for text in [&TO[..41], &TO[2..], &format!("{TO}0"), "vitalik.eth", "0x"] {
        assert!(refused_value("to", &format!("\"{text}\"")).contains("expected 0x and 40 hex digits"));
    }
    assert!(with(TO, &TO.to_lowercase()).is_ok());
}

#[test]
fn data_is_whole_bytes_of_hex_and_not_endless() {
    let data = |text: &str| with("\"nonce\": 0", &format!("\"nonce\": 0, \"data\": {text}"));
    assert_eq!(data("\"0xA9059cbb\"").unwrap().transaction().data, [0xa9, 0x05, 0x9c, 0xbb]);
    assert!(data("\"0x\"").unwrap().transaction().data.is_empty());
    for text in ["\"\"", "\"a9\"", "\"0xa\"", "\"0xzz\"", "5", "[]", "\"0xé\""] {
        let error = data(text).unwrap_err();
        assert_eq!(error.field, "transaction_payload.data", "{text}");
    }
    assert_eq!(data(&format!("\"0x{}\"", "00".repeat(MAX_DATA))).unwrap().transaction().data.len(), MAX_DATA);
    let error = data(&format!("\"0x{}\"", "00".repeat(MAX_DATA + 1))).unwrap_err().to_string();
    assert!(error.ends_with("131073 bytes, expected at most 131072") && error.len() < 400, "{error}");
}

#[test]
fn an_access_list_is_checked_entry_by_entry() {
    let list = |text: &str| {
        with("\"nonce\": 0", &format!("\"nonce\": 0, \"accessList\": {text}"))
            .map(|request| request.transaction().kind.clone())
    };
    let address = "0xde0b295669a9fd93d5f28d9ec85e40f4cb697bae";
    let key = format!("0x{}", "03".repeat(32));
    let Kind::DynamicFee { access_list, .. } =
        list(&format!(r#"[{{"address": "{address}", "storageKeys": ["{key}"]}}]"#)).unwrap()
    else {
        panic!("another type")
    };
    assert_eq!(access_list[0].storage_keys, [[3; 32]]);
    for (text, field) in [
        ("{}".to_owned(), ""),
        ("5".to_owned(), ""),
        ("[5]".to_owned(), "[0]"),
        (format!("[[\"{address}\", []]]"), "[0]"),
        (r#"[{"storageKeys": []}]"#.to_owned(), "[0].address"),
        (format!(r#"[{{"address": "{address}"}}]"#), "[0].storageKeys"),
        (format!(r#"[{{"address": "{address}", "storageKeys": ["{key}", "0x03"]}}]"#), "[0].storageKeys[1]"),
        (format!(r#"[{{"address": "{address}", "storageKeys": "{key}"}}]"#), "[0].storageKeys"),
    ] {
        assert_eq!(list(&text).unwrap_err().field, format!("transaction_payload.accessList{field}"), "{text}");
    }
}

#[test]
fn each_type_has_its_own_fields_and_no_others() {
    let fees = "\"maxFeePerGas\": 100000000000, \"maxPriorityFeePerGas\": 3000000000";
    let payload = |kind: &str, fees_instead: &str| {
        let text = GOOD.replacen("\"type\": 2", kind, 1).replacen(fees, fees_instead, 1);
        SignRequest::parse(text.as_bytes())
            .map(|request| request.transaction().kind.clone())
            .map_err(|error| error.field)
    };
    assert!(matches!(payload("\"type\": 0", "\"gasPrice\": 5"), Ok(Kind::Legacy { gas_price: Wei(5) })));
    assert!(matches!(payload("\"type\": \"0x1\"", "\"gasPrice\": 5"), Ok(Kind::AccessList { .. })));
    let field = |name: &str| Err(format!("transaction_payload.{name}"));
    assert_eq!(payload("\"type\": 0", fees), field("maxFeePerGas"));
    assert_eq!(payload("\"type\": 0", "\"gasPrice\": 5, \"maxPriorityFeePerGas\": 5"), field("maxPriorityFeePerGas"));
    assert_eq!(payload("\"type\": 0", "\"gasPrice\": 5, \"accessList\": []"), field("accessList"));
    assert_eq!(payload("\"type\": 1", fees), field("maxFeePerGas"));
    assert_eq!(payload("\"type\": 1", "\"gasPrice\": 5, \"maxPriorityFeePerGas\": 5"), field("maxPriorityFeePerGas"));
    assert_eq!(payload("\"type\": 2", &format!("{fees}, \"gasPrice\": 5")), field("gasPrice"));
    for kind in [0, 1] {
        assert_eq!(payload(&format!("\"type\": {kind}"), "\"data\": \"0x\""), field("gasPrice"));
    }
}

#[test]
fn without_a_type_the_fees_tell_it() {
    let fees = "\"maxFeePerGas\": 100000000000, \"maxPriorityFeePerGas\": 3000000000";
    let payload = |fees_instead: &str| {
        let text = GOOD.replacen("\"type\": 2,", "", 1).replacen(fees, fees_instead, 1);
        SignRequest::parse(text.as_bytes())
            .map(|request| request.transaction().kind.clone())
            .map_err(|error| error.field)
    };
    assert!(matches!(payload(fees), Ok(Kind::DynamicFee { .. })));
    assert!(matches!(payload("\"gasPrice\": 5"), Ok(Kind::Legacy { .. })));
    assert!(matches!(payload("\"gasPrice\": 5, \"accessList\": []"), Ok(Kind::AccessList { .. })));
    for unclear in [&format!("{fees}, \"gasPrice\": 5"), "\"data\": \"0x\""] {
        assert_eq!(payload(unclear), Err("transaction_payload.type".to_owned()));
    }
}

#[test]
fn a_contract_is_created_only_from_data() {
    let to = format!("\"to\": \"{TO}\",");
    assert!(refused(&to, "").starts_with("transaction_payload.to: missing, expected an address, or data"));
    assert!(refused(&to, "\"data\": \"0x\",").starts_with("transaction_payload.to: missing"));
    assert!(with(&to, "\"data\": \"0x6001600255\",").unwrap().transaction().to.is_none());
    refused_value("to", "\"\"");
}

#[test]
fn exactly_one_key_is_named() {
    assert!(
        refused(",\n\"secret_id\": \"prod/wallet\"", "")
            .starts_with("secret_id: missing, expected secret_id or encrypted_key")
    );
    assert!(
        refused("\"secret_id\": ", "\"encrypted_key\": \"AQ==\", \"secret_id\": ")
            .starts_with("encrypted_key: beside secret_id")
    );
    let request = with("\"secret_id\": \"prod/wallet\"", "\"encrypted_key\": \"AQID\"").unwrap();
    assert_eq!(request.key, KeyReference::EncryptedKey(vec![1, 2, 3]));
}

#[test]
fn a_secret_id_is_a_short_printable_string() {
    let long = format!("\"{}\"", "a".repeat(2049));
    for id in ["\"\"", "5", "\"a b\"", "\"a\\nb\"", "\"ä\"", "[]", &long] {
        assert!(refused("\"prod/wallet\"", id).starts_with("secret_id: expected a string"), "{id}");
    }
}

#[test]
fn an_encrypted_key_may_be_in_lines() {
    let key = |text: &str| {
        let json = serde_json::to_string(text).unwrap();
        with("\"secret_id\": \"prod/wallet\"", &format!("\"encrypted_key\": {json}")).unwrap().key
    };
    let bytes = vec![7; 6144];
    let base64 = STANDARD.encode(&bytes);
    for (length, end) in [(76, "\n"), (64, "\r\n"), (8192, "\n"), (4, "\r\n")] {
        let lines: Vec<_> = base64.as_bytes().chunks(length).map(|line| std::str::from_utf8(line).unwrap()).collect();
        assert_eq!(key(&(lines.join(end) + end)), KeyReference::EncryptedKey(bytes.clone()), "{length} {end:?}");
    }
}

#[test]
fn an_encrypted_key_is_base64_and_never_shown() {
    let long = format!("\"{}\"", "AAAA".repeat(2049));
    for value in ["\"\"", "5", "\"c2VjcmV0LXRoaW5n!\"", "\"c2VjcmV0LXRoaW5\"", "{}", &long] {
        let error = refused("\"secret_id\": \"prod/wallet\"", &format!("\"encrypted_key\": {value}"));
        assert!(error.starts_with("encrypted_key: expected base64"), "{error}");
        assert!(!error.contains("c2VjcmV0"), "{error}");
    }
}

#[test]
fn a_credential_is_whole_and_never_shown() {
    let credential = |text: &str| with("\"secret_id\"", &format!("{text}, \"secret_id\""));
    let read = credential(CREDENTIAL).unwrap().credential.unwrap();
    assert_eq!(
        (read.access_key_id(), read.expose_secret_access_key(), read.expose_token()),
        ("AKIA", "hush", Some("psst"))
    );
    assert!(
        credential(&CREDENTIAL.replace(", \"token\": \"psst\"", ""))
            .unwrap()
            .credential
            .unwrap()
            .expose_token()
            .is_none()
    );
    for (from, to, field) in [
        ("\"AKIA\"", "\"\"", "credential.access_key_id"),
        ("\"AKIA\"", "7", "credential.access_key_id"),
        ("\"access_key_id\": \"AKIA\", ", "", "credential.access_key_id"),
        ("\"hush\"", "\"hu sh\"", "credential.secret_access_key"),
        ("\"hush\"", "[\"hush\"]", "credential.secret_access_key"),
        (", \"secret_access_key\": \"hush\"", "", "credential.secret_access_key"),
        ("\"psst\"", "\"ps\\r\\nst\"", "credential.token"),
        ("\"psst\"", "{\"psst\": 1}", "credential.token"),
    ] {
        let error = credential(&CREDENTIAL.replace(from, to)).unwrap_err();
        assert_eq!(error.field, field);
        assert!(!error.to_string().contains("hu") && !error.to_string().contains("ps"), "{error}");
    }
    assert_eq!(
        credential("\"credential\": \"hush\"").unwrap_err().to_string(),
        "credential: not an object, expected one"
    );
}

#[test]
fn a_body_that_is_no_json_object_in_utf_8_is_refused() {
    for body in [
        b"".as_slice(),
        b"null",
        b"[]",
        b"\"\"",
        b"{",
        b"{}{}",
        b"\xff",
        b"{\"\xff\": 1}",
        b"\xef\xbb\xbf{}",
        b"{'a': 1}",
    ] {
        assert_eq!(SignRequest::parse(body).unwrap_err().field, "body", "{body:?}");
    }
    let trailing = format!("{GOOD} x");
    assert_eq!(SignRequest::parse(trailing.as_bytes()).unwrap_err().field, "body");
}

#[test]
fn a_payload_that_is_an_array_in_the_right_order_is_no_object() {
    let error = SignRequest::parse(br#"{"transaction_payload": [0.01, 1, 2], "secret_id": "a"}"#).unwrap_err();
    assert_eq!(error.field, "transaction_payload");
}

#[test]
fn ten_thousand_levels_are_refused_wherever_they_stand() {
    let deep = |open: &str, close: &str| format!("{}1{}", open.repeat(10_000), close.repeat(10_000));
    for value in [deep("[", "]"), deep("{\"a\":", "}")] {
        SignRequest::parse(value.as_bytes()).unwrap_err();
        for field in ["value", "to", "nonce", "type", "chainId", "gas", "maxFeePerGas"] {
            refused_value(field, &value);
        }
        refused("\"nonce\": 0", &format!("\"nonce\": 0, \"accessList\": {value}"));
        refused("\"nonce\": 0", &format!("\"nonce\": 0, \"data\": {value}"));
        refused("\"prod/wallet\"", &value);
        refused("\"secret_id\"", &format!("\"credential\": {value}, \"secret_id\""));
        GenerateRequest::parse(format!("{{\"credential\": {value}}}").as_bytes()).unwrap_err();
    }
    refused("\"gas\": 100000", &format!("\"gas\": {}", "[".repeat(10_000)));
}

#[test]
fn a_body_above_the_limit_is_refused_before_it_is_looked_at() {
    let error = SignRequest::parse(&vec![b' '; MAX_BODY + 1]).unwrap_err();
    assert_eq!(error.to_string(), "body: 524289 bytes, expected at most 524288");
}

#[test]
fn a_key_is_made_with_an_empty_body_or_a_credential() {
    assert!(GenerateRequest::parse(b"").unwrap().credential.is_none());
    assert!(GenerateRequest::parse(b"{}").unwrap().credential.is_none());
    let request = GenerateRequest::parse(format!("{{{CREDENTIAL}}}").as_bytes()).unwrap();
    assert_eq!(request.credential.unwrap().access_key_id(), "AKIA");
    assert_eq!(GenerateRequest::parse(b"{\"secret_id\": \"a\"}").unwrap_err().field, "secret_id");
}

#[test]
fn what_eth_account_signs_is_signed_byte_for_byte() {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let key = SecretKey::parse(vectors["private_key"].as_str().unwrap().as_bytes()).unwrap();
    assert_eq!(key.address().to_string(), vectors["address"].as_str().unwrap());
    // Cut out of the file's text: a parsed number would be a float.
    let requests: Vec<&str> = VECTORS.split("\"request\": ").skip(1).collect();
    let vectors = vectors["transactions"].as_array().unwrap();
    assert_eq!((vectors.len(), requests.len()), (9, 9));
    for (vector, request) in vectors.iter().zip(requests) {
        let end = request.find("\"transaction_signed\"").unwrap();
        let payload = request[..end].trim().trim_end_matches(',');
        let body = format!("{{\"transaction_payload\": {payload}, \"secret_id\": \"test\"}}");
        let request = SignRequest::parse(body.as_bytes()).unwrap_or_else(|error| panic!("{}: {error}", vector["name"]));
        let Signed::Transaction(signed) = Unsigned::new(&request.subject).sign(&key).unwrap() else { panic!() };
        assert_eq!(hex::prefixed(&signed.raw), vector["transaction_signed"].as_str().unwrap(), "{}", vector["name"]);
        assert_eq!(hex::prefixed(&signed.hash), vector["transaction_hash"].as_str().unwrap(), "{}", vector["name"]);
    }
}

mod kinds;
