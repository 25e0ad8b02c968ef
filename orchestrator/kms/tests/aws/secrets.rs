//! Keys from Secrets Manager.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kms::{CallError, Https, Reason, Secrets, SecretsError, StoredKey};
use serde_json::{Value, json};

use crate::stand_in::{StandIn, Twist};
use crate::{Loopback, aws, credentials};

async fn asked(secret: Value, twists: impl IntoIterator<Item = Twist>) -> (Result<StoredKey, SecretsError>, StandIn) {
    let stand_in = StandIn::with(twists);
    stand_in.store(secret);
    let (_server, kms, secrets) = aws(&stand_in, "").await;
    let secrets = Secrets::new(secrets, Https::new(&kms.roots, Loopback).unwrap());
    (secrets.stored_key("signer/key-1", &credentials()).await, stand_in)
}

fn good() -> Value {
    json!({ "Name": "signer/key-1", "VersionId": "version-1", "SecretString": STANDARD.encode("ciphertext") })
}

#[tokio::test]
async fn a_stored_key_has_its_version_and_its_ciphertext() {
    let (key, stand_in) = asked(good(), [Twist::Error(500, "InternalServiceError")]).await;
    assert_eq!(key.unwrap(), StoredKey { version_id: "version-1".to_owned(), ciphertext: b"ciphertext".to_vec() });
    let seen = stand_in.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[1].body(), &json!({ "SecretId": "signer/key-1" }));
    let authorization = seen[1].headers()["authorization"].to_str().unwrap();
    assert!(authorization.contains("/eu-central-1/secretsmanager/aws4_request"), "{authorization}");
}

#[tokio::test]
async fn what_secrets_manager_refuses_is_final_and_named() {
    for (code, reason) in [
        ("ResourceNotFoundException", Reason::NotFound),
        ("AccessDeniedException", Reason::AccessDenied),
        ("InvalidRequestException", Reason::InvalidRequest),
        ("ExpiredTokenException", Reason::ExpiredCredentials),
    ] {
        let (key, stand_in) = asked(good(), [Twist::Error(400, code)]).await;
        let error = key.unwrap_err();
        assert!(
            matches!(&error, SecretsError::Call(CallError::Refused(refusal)) if refusal.reason == reason),
            "{error:?}"
        );
        assert_eq!(stand_in.seen().len(), 1, "it was asked again");
    }
}

#[tokio::test]
async fn a_secret_that_is_no_ciphertext_is_named() {
    let with = |field: &str, value: Value| {
        let mut secret = good();
        secret[field] = value;
        secret
    };
    let refused = async |secret| asked(secret, []).await.0.unwrap_err();
    assert!(matches!(refused(with("VersionId", Value::Null)).await, SecretsError::NoVersion));
    assert!(matches!(refused(with("SecretString", Value::Null)).await, SecretsError::NoString));
    assert!(matches!(refused(with("SecretString", json!("{}"))).await, SecretsError::Base64(_)));
    assert!(matches!(refused(with("SecretString", json!(""))).await, SecretsError::Length(0)));
    let long = STANDARD.encode(vec![1; 6145]);
    assert!(matches!(refused(with("SecretString", json!(long))).await, SecretsError::Length(6145)));
}

#[tokio::test]
async fn a_name_that_no_secret_has_is_not_sent() {
    let stand_in = StandIn::default();
    let (_server, kms, secrets) = aws(&stand_in, "").await;
    let secrets = Secrets::new(secrets, Https::new(&kms.roots, Loopback).unwrap());
    for id in ["", "with space", "line\nbreak", &"x".repeat(2049)] {
        let error = secrets.stored_key(id, &credentials()).await.unwrap_err();
        assert!(matches!(error, SecretsError::Id), "{error:?}");
    }
    assert!(stand_in.seen().is_empty());
}
