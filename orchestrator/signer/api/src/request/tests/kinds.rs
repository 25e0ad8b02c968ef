//! Transactions of types 3 and 4.

use super::*;

const VECTORS: &str = include_str!("../../../../tests/vectors/ethereum-types-3-4.json");
const HASH: &str = "0x0100000000000000000000000000000000000000000000000000000000000001";

/// A request of `VECTORS` by its name, as text.
fn payload(name: &str) -> &'static str {
    let behind = VECTORS.split(&format!("\"name\": \"{name}\"")).nth(1).unwrap();
    let request = behind.split("\"request\": ").nth(1).unwrap();
    request[..request.find("\"transaction_signed\"").unwrap()].trim().trim_end_matches(',')
}

fn read(payload: &str) -> Result<Transaction, String> {
    let body = format!("{{\"transaction_payload\": {payload}, \"secret_id\": \"test\"}}");
    SignRequest::parse(body.as_bytes()).map(|request| request.transaction().clone()).map_err(|error| error.to_string())
}

fn blob() -> &'static str {
    payload("type 3: one blob")
}

fn set_code() -> &'static str {
    payload("type 4: an account of another")
}

/// The error with `from` replaced.
fn refused(payload: &str, from: &str, to: &str) -> String {
    assert!(payload.contains(from), "{from} is not in {payload}");
    let error = read(&payload.replacen(from, to, 1)).expect_err("accepted");
    assert!(error.len() < 400, "{} bytes of error", error.len());
    error
}

#[test]
fn what_eth_account_signs_of_types_3_and_4_is_signed_byte_for_byte() {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let key = SecretKey::parse(vectors["private_key"].as_str().unwrap().as_bytes()).unwrap();
    let vectors = vectors["transactions"].as_array().unwrap();
    assert_eq!(vectors.len(), 10);
    for vector in vectors {
        let name = vector["name"].as_str().unwrap();
        let transaction = read(payload(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let signed = Unsigned::new(&Signable::Transaction(transaction)).sign(&key);
        let Signed::Transaction(signed) = signed.unwrap_or_else(|error| panic!("{name}: {error}")) else { panic!() };
        assert_eq!(hex::prefixed(&signed.raw), vector["transaction_signed"].as_str().unwrap(), "{name}");
        assert_eq!(hex::prefixed(&signed.hash), vector["transaction_hash"].as_str().unwrap(), "{name}");
    }
}

#[test]
fn what_eth_account_signs_of_authorisations_is_signed_byte_for_byte() {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let key = SecretKey::parse(vectors["private_key"].as_str().unwrap().as_bytes()).unwrap();
    let vectors = vectors["authorizations"].as_array().unwrap();
    assert_eq!(vectors.len(), 4);
    for vector in vectors {
        let request = vector["request"].to_string();
        let authorization = crate::authorization::parse(&crate::field::Field::new("params[0]", &request)).unwrap();
        let signed = Unsigned::new(&Signable::Authorization(authorization)).sign(&key).unwrap();
        assert_eq!(hex::prefixed(&signed.hash()), vector["signed_hash"].as_str().unwrap(), "{request}");
        let Signed::Authorization(signature) = signed else { panic!() };
        assert_eq!(hex::prefixed(&signature.bytes), vector["signature"].as_str().unwrap(), "{request}");
    }
}

#[test]
fn a_blob_transaction_has_a_recipient_hashes_and_a_fee_for_them() {
    assert!(read(blob()).is_ok());
    let to = "\"to\": \"0xa5D3241A1591061F2a4bB69CA0215F66520E67cf\",";
    for payload in [blob(), set_code()] {
        let error = refused(payload, to, "\"data\": \"0x00\",");
        assert!(
            error.starts_with("transaction_payload.to: missing, expected an address: a transaction of type"),
            "{error}"
        );
    }
    let fee = "\"maxFeePerBlobGas\": 1000000000,";
    assert!(refused(blob(), fee, "").starts_with("transaction_payload.maxFeePerBlobGas: missing"));
    assert!(
        refused(blob(), fee, "\"maxFeePerBlobGas\": 1.5,").starts_with("transaction_payload.maxFeePerBlobGas: 1.5")
    );
    let hash = format!("\"{HASH}\"");
    let entry = |wrong: &str| refused(blob(), &hash, wrong);
    assert!(entry("").starts_with("transaction_payload.blobVersionedHashes: "));
    for wrong in [
        "5",
        "null",
        "\"0x01\"",
        "[]",
        &hash.replace("0x01", "0x00"),
        &hash.replace("0x01", "01"),
        &hash.replace('1', "g"),
    ] {
        assert!(entry(wrong).starts_with("transaction_payload.blobVersionedHashes[0]: "), "{wrong}");
    }
    let second = entry(&format!("{hash}, {}", hash.replace("0x01", "0x02")));
    assert!(second.starts_with("transaction_payload.blobVersionedHashes[1]: ") && second.contains("begins with 0x01"));
    assert!(refused(blob(), &format!("[\n     {hash}\n    ]"), "{}").contains("blobVersionedHashes: "));
}

#[test]
fn blobs_themselves_stay_with_the_client() {
    for field in ["blobs", "sidecar", "commitments"] {
        let error = refused(blob(), "\"type\": 3", &format!("\"type\": 3, \"{field}\": []"));
        assert!(error.starts_with(&format!("transaction_payload.{field}: unknown field")), "{error}");
    }
}

#[test]
fn an_authorisation_list_is_read_field_by_field() {
    let Kind::SetCode { authorizations, .. } = read(set_code()).unwrap().kind else { panic!() };
    let other = SecretKey::parse("22".repeat(32).as_bytes()).unwrap();
    assert_eq!(authorizations[0].authority(), Some(other.address()));
    let at = "transaction_payload.authorizationList[0]";
    let entry = |from: &str, to: &str, field: &str| {
        let error = refused(set_code(), from, to);
        assert!(error.starts_with(&format!("{at}{field}: ")), "{error}");
        error
    };
    // The payload has a chainId and a nonce of its own in front.
    let [chain, nonce] = ["\"chainId\": 1,\n      \"address\"", "\"nonce\": 0,"];
    assert!(
        entry(chain, "\"chainId\": 2, \"address\"", ".chainId").contains("expected the transaction's chain, 1, or 0")
    );
    entry(chain, "\"chainId\": -1, \"address\"", ".chainId");
    entry(chain, "\"address\"", ".chainId");
    entry("63c0c", "63c0C", ".address");
    entry(nonce, "", ".nonce");
    entry(nonce, "\"nonce\": 0, \"nonce\": 0,", ".nonce");
    entry(nonce, "\"nonce\": 18446744073709551615,", ".nonce");
    entry(nonce, "\"nonce\": 0, \"v\": 27,", ".v");
    assert!(entry("\"yParity\": ", "\"yParity\": 2", ".yParity").contains("expected a whole number from 0 to 1"));
    entry("\"r\": \"0x", "\"r\": \"0x1111", ".r");
    entry("\"s\": \"0x", "\"s\": \"", ".s");
    assert!(refused(set_code(), "\"authorizationList\": [", "\"authorizationList\": [5, ").starts_with(at));
}

#[test]
fn an_authorisation_that_nobody_signed_is_refused() {
    let error = refused(set_code(), "\"r\": \"0x", "\"r\": \"0x0\", \"s\": \"0x0\"} , {\"x\": \"");
    assert!(error.contains("the signature is nobody's"), "{error}");
    // The same signature with the higher s recovers to the same account, and nodes pass over it (EIP-7702).
    let Kind::SetCode { authorizations, .. } = read(set_code()).unwrap().kind else { panic!() };
    let digits = |bytes: [u8; 32]| hex::prefixed(&bytes).replacen("0x", "", 1).trim_start_matches('0').to_owned();
    let order = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";
    let order: [u8; 32] = hex::decode_array(order).unwrap();
    let s = authorizations[0].s;
    let (mut higher, mut borrow) = ([0; 32], false);
    for at in (0..32).rev() {
        let (byte, first) = order[at].overflowing_sub(s[at]);
        let (byte, second) = byte.overflowing_sub(u8::from(borrow));
        (higher[at], borrow) = (byte, first || second);
    }
    let parity = u8::from(authorizations[0].y_parity);
    let flipped = set_code().replace(&format!("\"yParity\": {parity}"), &format!("\"yParity\": {}", 1 - parity));
    assert!(refused(&flipped, &digits(s), &digits(higher)).contains("the signature is nobody's"));
}

#[test]
fn a_list_of_authorisations_is_neither_empty_nor_endless() {
    let start = set_code().find("\"authorizationList\": [").unwrap() + "\"authorizationList\": [".len();
    let end = set_code().rfind(']').unwrap();
    let entry = &set_code()[start..end];
    let with = |entries: usize| {
        read(&format!("{}{}{}", &set_code()[..start], vec![entry; entries].join(","), &set_code()[end..]))
    };
    assert!(with(0).unwrap_err().starts_with("transaction_payload.authorizationList: "));
    assert_eq!(with(256).unwrap().authorizations().len(), 256);
    assert!(with(257).unwrap_err().contains("257 authorisations, expected at most 256"));
}

#[test]
fn types_3_and_4_have_their_own_fields_and_no_others() {
    let of_blobs = format!("\"maxFeePerBlobGas\": 5, \"blobVersionedHashes\": [\"{HASH}\"]");
    for (number, payload) in [(3, blob()), (4, set_code())] {
        let written = format!("\"type\": {number}");
        let gas_price = refused(payload, &written, &format!("{written}, \"gasPrice\": 5"));
        assert!(gas_price.starts_with("transaction_payload.gasPrice: a transaction of type"), "{gas_price}");
    }
    let error = refused(set_code(), "\"type\": 4", &format!("\"type\": 4, {of_blobs}"));
    assert!(
        error.starts_with("transaction_payload.maxFeePerBlobGas: a transaction of type 4 has no such field"),
        "{error}"
    );
    let error = refused(blob(), "\"type\": 3", "\"type\": 3, \"authorizationList\": []");
    assert!(error.starts_with("transaction_payload.authorizationList: a transaction of type 3"), "{error}");
    for number in 0..3 {
        let error = refused(blob(), "\"type\": 3", &format!("\"type\": {number}"));
        assert!(error.contains("expected type 3"), "{error}");
        let error = refused(set_code(), "\"type\": 4", &format!("\"type\": {number}"));
        assert!(error.contains("expected type 4"), "{error}");
    }
    // As eth-account tells them: the blobs first.
    let error = refused(set_code(), "\"type\": 4,", &format!("{of_blobs},"));
    assert!(error.starts_with("transaction_payload.authorizationList: a transaction of type 3"), "{error}");
}
