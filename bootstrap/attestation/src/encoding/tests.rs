use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const PRODUCTION: &[u8] = include_bytes!("../../tests/nitro-2024-08.cbor");

fn hex_of(bytes: &[u8]) -> String {
    const_hex::encode(bytes)
}

fn lines(text: &str, length: usize, end: &str) -> String {
    let lines: Vec<&str> = text.as_bytes().chunks(length).map(|line| std::str::from_utf8(line).unwrap()).collect();
    lines.join(end) + end
}

/// Every way to write a document down.
fn encodings(document: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let (hex, base64) = (hex_of(document), STANDARD.encode(document));
    let json = |value: Value| value.to_string();
    let texts = [
        ("hex", hex.clone()),
        ("upper case", hex.to_uppercase()),
        ("0x-hex", format!("0x{hex}")),
        ("hex in lines", lines(&hex, 60, "\n")),
        ("base64", base64.clone()),
        ("base64 and a line end", format!("{base64}\n")),
        ("base64 in lines", lines(&base64, 76, "\n")),
        ("base64 in lines of Windows", lines(&base64, 64, "\r\n")),
        ("base64 without padding", STANDARD_NO_PAD.encode(document)),
        ("base64url", URL_SAFE.encode(document)),
        ("base64url without padding", URL_SAFE_NO_PAD.encode(document)),
        ("the signer's answer", json(serde_json::json!({ "document": base64 }))),
        ("the signer's answer and a line end", json(serde_json::json!({ "document": base64 })) + "\n"),
        ("a JSON string, as jq writes it", json(serde_json::json!(base64))),
        ("base64url in JSON", json(serde_json::json!({ "document": URL_SAFE_NO_PAD.encode(document) }))),
        ("hex in JSON", json(serde_json::json!({ "document": hex }))),
        ("lines in JSON", json(serde_json::json!({ "document": lines(&base64, 76, "\n") }))),
        (
            "a status with one enclave",
            json(serde_json::json!({ "enclaves": [{ "cid": 16, "attested": { "document": base64, "pcrs": {} } }] })),
        ),
    ];
    let texts = texts.into_iter().map(|(name, text)| (name, text.into_bytes()));
    let marked = ("a byte order mark", [BYTE_ORDER_MARK, base64.as_bytes()].concat());
    texts.chain([("bytes", document.to_vec()), marked]).collect()
}

#[test]
fn a_document_of_aws_is_read_however_it_is_written() {
    for (name, written) in encodings(PRODUCTION) {
        assert_eq!(decode(&written).unwrap_or_else(|error| panic!("{name}: {error}")), PRODUCTION, "{name}");
    }
}

#[test]
fn other_input_is_refused_with_each_encoding_tried() {
    let says = |written: &str| decode(written.as_bytes()).unwrap_err().to_string();
    for nothing in ["", " \r\n\t", "\u{feff}\n", "0x", r#""""#, r#"{"document": ""}"#] {
        let error = says(nothing);
        assert!(error.starts_with("no input; expected an attestation document as bytes, hex,"), "{error}");
    }
    let error = says("a document!");
    let tried =
        "neither hex (it has 'o') nor base64 (Invalid symbol 33, offset 9.) nor JSON; expected an attestation document";
    assert!(error.starts_with(tried), "{error}");
    let odd = says("d28");
    assert!(odd.starts_with("read as base64, the first byte is 0x77, and a document starts with"), "{odd}");
    assert!(says("0xd28").contains("(an odd number of digits, 3)"), "{}", says("0xd28"));
    assert!(says("0o+/-_").contains("it mixes + or / with - or _"), "{}", says("0o+/-_"));
    let other = says("48656c6c6f");
    assert!(
        other.starts_with("read as hex, the first byte is 0x48, and a document starts with 0xd2 or 0x84"),
        "{other}"
    );
    assert!(
        says("SGVsbG8gd29ybGQ").starts_with("read as base64, the first byte is 0x48"),
        "{}",
        says("SGVsbG8gd29ybGQ")
    );
}

#[test]
fn json_has_to_have_one_document() {
    let says = |written: &str| decode(written.as_bytes()).unwrap_err().to_string();
    assert!(says("{").starts_with("not valid JSON; expected "));
    for none in ["{}", "[]", r#"{"document": 7}"#, r#"{"documents": "0oRE"}"#] {
        assert!(says(none).starts_with("JSON without a \"document\"; expected "), "{none}: {}", says(none));
    }
    let two = says(r#"{"enclaves": [{"attested": {"document": "0oRE"}}, {"attested": {"document": "hESh"}}]}"#);
    assert!(two.starts_with("JSON with 2 documents; expected one: select it, as with `jq '.enclaves[0]."), "{two}");
    let refusal = says(r#"{"error": {"code": "bad_request", "message": "nonce: missing\u001b[2J", "field": "nonce"}}"#);
    assert!(
        refusal.starts_with("an error from the signer: nonce: missing\\u{1b}[2J; expected its answer"),
        "{refusal}"
    );
}

#[test]
fn deeply_nested_json_is_an_error_not_an_overflow() {
    let deep = "[".repeat(100_000);
    assert!(matches!(decode(deep.as_bytes()), Err(EncodingError::Json(_))));
}

proptest! {
    #[test]
    fn whatever_starts_like_a_document_is_read_however_it_is_written(
        first in prop::sample::select(STARTS.to_vec()),
        rest in vec(any::<u8>(), 0..200),
    ) {
        let document = [&[first][..], &rest].concat();
        for (name, written) in encodings(&document) {
            let read = decode(&written);
            prop_assert!(matches!(&read, Ok(bytes) if *bytes == document), "{}: {:?}", name, read);
        }
    }

    #[test]
    fn arbitrary_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..300), text in "\\PC{0,60}", json in "[\\[\\]{}\":,0a]{0,60}") {
        for written in [bytes.as_slice(), text.as_bytes(), json.as_bytes()] {
            match decode(written) {
                Ok(document) => prop_assert!(!document.is_empty()),
                Err(error) => prop_assert!(error.to_string().contains("expected") || matches!(error, EncodingError::Refusal(_))),
            }
        }
    }
}
