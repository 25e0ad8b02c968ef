//! Malformed requests and their errors.

use super::*;

#[test]
fn parameters_have_limits() {
    let scene = Scene::new();
    let long = STANDARD.encode([0; 4097]);
    for (operation, parameters, part) in [
        ("Encrypt", json!({"KeyId": WALLET, "Plaintext": ""}), "Plaintext of 0 bytes, expected 1 to 4096"),
        ("Encrypt", json!({"KeyId": WALLET, "Plaintext": long}), "Plaintext of 4097 bytes"),
        ("Encrypt", json!({"KeyId": WALLET, "Plaintext": "a"}), "not a text in Base64"),
        ("Encrypt", json!({"KeyId": WALLET}), "missing field `Plaintext`"),
        ("Encrypt", json!({"KeyId": WALLET, "Plaintext": "AA==", "GrantTokens": []}), "unknown field `GrantTokens`"),
        ("Encrypt", json!({"KeyId": WALLET, "Plaintext": "AA==", "EncryptionAlgorithm": "SM2PKE"}), "SM2PKE"),
        ("Encrypt", json!({"KeyId": WALLET, "Plaintext": "AA==", "Recipient": {}}), "unknown field `Recipient`"),
        ("Decrypt", json!({"KeyId": WALLET}), "missing field `CiphertextBlob`"),
        ("Decrypt", json!({"CiphertextBlob": ""}), "CiphertextBlob of 0 bytes, expected 1 to 6144"),
        ("Decrypt", json!({"CiphertextBlob": STANDARD.encode([0; 6145])}), "CiphertextBlob of 6145 bytes"),
        ("Decrypt", json!({"CiphertextBlob": "AA==", "DryRun": true}), "unknown field `DryRun`"),
        ("Decrypt", json!({"CiphertextBlob": "AA==", "EncryptionContext": {"a": 1}}), "expected a string"),
        ("Decrypt", json!({"CiphertextBlob": "AA==", "Recipient": {}}), "missing field `KeyEncryptionAlgorithm`"),
        ("GenerateDataKey", json!({"KeyId": WALLET}), "either number of bytes or key spec"),
        ("GenerateDataKey", json!({"KeyId": WALLET, "KeySpec": "AES_256", "NumberOfBytes": 1}), "either"),
        ("GenerateDataKey", json!({"KeyId": WALLET, "KeySpec": "AES_512"}), "AES_512"),
        ("GenerateDataKey", json!({"KeyId": WALLET, "NumberOfBytes": 0}), "NumberOfBytes 0, expected 1 to 1024"),
        ("GenerateDataKey", json!({"KeyId": WALLET, "NumberOfBytes": 1025}), "NumberOfBytes 1025"),
        ("GenerateRandom", json!({}), "number of bytes"),
        ("GenerateRandom", json!({"NumberOfBytes": -1}), "-1"),
        ("DescribeKey", json!({}), "missing field `KeyId`"),
        ("GetKeyPolicy", json!({}), "missing field `KeyId`"),
        ("ListGrants", json!({"KeyId": WALLET, "Limit": 0}), "unknown field `Limit`"),
    ] {
        scene.ask(operation, &parameters).assert_error(400, "ValidationException", part);
    }
}

#[test]
fn a_refusal_does_not_quote_what_may_be_secret() {
    let scene = Scene::new();
    for plaintext in [json!(31_415_926), json!("31415926=x"), json!([31_415_926]), json!({"31415926": 1})] {
        let reply = scene.ask("Encrypt", &json!({"KeyId": WALLET, "Plaintext": plaintext}));
        reply.assert_error(400, "ValidationException", "not a text in Base64");
        assert!(!reply.text("message").contains("31415926"), "{reply:?}");
    }
}

#[test]
fn invalid_json_is_a_serialization_error() {
    let scene = Scene::new();
    let deep = "[".repeat(10_000);
    for body in ["", "{", "[\"alias/wallet\"]", "null", deep.as_str(), "\u{0}"] {
        scene.ask_bytes("Decrypt", body.as_bytes()).assert_error(400, "SerializationException", "");
    }
    let deep = format!("{{\"EncryptionContext\": {deep}");
    assert_eq!(scene.ask_bytes("Decrypt", deep.as_bytes()).status, 400);
    let twice = br#"{"CiphertextBlob": "AA==", "CiphertextBlob": "AA=="}"#;
    scene.ask_bytes("Decrypt", twice).assert_error(400, "ValidationException", "duplicate field");
}

#[test]
fn an_unsupported_operation_is_named() {
    let scene = Scene::new();
    scene.ask("CreateKey", &json!({})).assert_error(400, "UnsupportedOperationException", "CreateKey");
    scene.ask("Sign", &json!({})).assert_error(400, "UnknownOperationException", "Sign");
    let request = scene.client.sign("Decrypt", b"{}");
    scene.reply(&request, b"{}").assert_error(400, "UnknownOperationException", "Decrypt");
}

#[test]
fn only_json_posted_to_the_root_is_a_request() {
    let scene = Scene::new();
    let target = "TrentService.DescribeKey";
    for (content_type, method, path, kind) in [
        ("application/json", "POST", "/", "SerializationException"),
        (JSON, "GET", "/", "UnknownOperationException"),
        (JSON, "POST", "/key", "UnknownOperationException"),
        (JSON, "POST", "/?a=b", "UnknownOperationException"),
    ] {
        let request = scene.client.sign_with(target, content_type, method, path, b"{}");
        scene.reply(&request, b"{}").assert_error(400, kind, "");
    }
}

#[test]
fn an_unauthenticated_caller_learns_nothing() {
    let mut scene = Scene::new();
    scene.client.secret = "TEST ONLY other";
    scene.ask("Sign", &json!({})).assert_error(400, "InvalidSignatureException", "does not match");
    scene.client.id = "AKIAOTHER";
    scene.ask("Sign", &json!({})).assert_error(400, "UnrecognizedClientException", "is invalid");
}
