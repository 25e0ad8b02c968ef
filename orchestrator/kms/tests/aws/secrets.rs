//! Keys from Secrets Manager.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kms::{CallError, CiphertextError, Https, Reason, SecretIdError, Secrets, SecretsError, StoredKey};
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
    assert_eq!(seen[1].body(), &json!({ "SecretId": "signer/key-1", "VersionStage": "AWSCURRENT" }));
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
    let text = async |text: &str| match refused(with("SecretString", json!(text))).await {
        SecretsError::Text(error) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(text("{}").await, CiphertextError::Json);
    assert_eq!(text("\"Y2lwaGVydGV4dA==\"").await, CiphertextError::Quoted);
    assert_eq!(text("\u{feff}Y2lwaGVydGV4dA==").await, CiphertextError::ByteOrderMark);
    assert_eq!(text("").await, CiphertextError::Length(0));
    let long = STANDARD.encode(vec![1; 6145]);
    assert_eq!(text(&long).await, CiphertextError::Length(6145));
}

#[tokio::test]
async fn a_secret_in_lines_is_read() {
    let ciphertext = vec![7; 200];
    let base64 = STANDARD.encode(&ciphertext);
    let (first, rest) = base64.split_at(76);
    for text in [format!("{base64}\n"), format!("{first}\n{rest}\n"), format!("{first}\r\n{rest}\r\n")] {
        let mut secret = good();
        secret["SecretString"] = json!(text);
        let (key, _) = asked(secret, []).await;
        assert_eq!(key.unwrap().ciphertext, ciphertext, "{text:?}");
    }
}

#[tokio::test]
async fn nothing_of_a_secret_is_in_an_error() {
    // Whatever somebody stored by mistake: the key itself, in several forms.
    let key = "0x4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318";
    for text in [key.to_owned(), format!("{{\"eth_key\": \"{key}\"}}"), format!("'{key}'"), format!("{key}!")] {
        let mut secret = good();
        secret["SecretString"] = json!(text);
        let error = asked(secret, []).await.0.unwrap_err();
        let shown = format!("{error} {error:?}");
        let digits = |text: &str| text.as_bytes().windows(4).map(<[u8]>::to_vec).collect::<Vec<_>>();
        assert!(digits(key).iter().all(|part| !shown.as_bytes().windows(4).any(|other| other == part)), "{shown}");
        assert!(!shown.contains("offset") && !shown.contains("symbol"), "{shown}");
    }
}

#[tokio::test]
async fn a_name_that_no_secret_has_is_not_sent() {
    let stand_in = StandIn::default();
    let (_server, kms, secrets) = aws(&stand_in, "").await;
    let secrets = Secrets::new(secrets, Https::new(&kms.roots, Loopback).unwrap());
    for id in ["", "with space", "line\nbreak", &"x".repeat(2049)] {
        let error = secrets.stored_key(id, &credentials()).await.unwrap_err();
        assert!(matches!(error, SecretsError::Id(SecretIdError::Characters)), "{error:?}");
    }
    let elsewhere = "arn:aws:secretsmanager:us-east-1:111122223333:secret:signer/key-1-AbCdEf";
    let error = secrets.stored_key(elsewhere, &credentials()).await.unwrap_err();
    assert!(matches!(error, SecretsError::Id(SecretIdError::Region { .. })), "{error:?}");
    assert!(stand_in.seen().is_empty());
}
