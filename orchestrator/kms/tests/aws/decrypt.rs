//! Encrypt and Decrypt.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kms::cms::{CmsError, EnvelopedData};
use kms::seal::{Form, encode, wrap};
use kms::{CallError, Client, Https, KmsError, MAX_CIPHERTEXT_LEN, Reason, Recipient};
use serde_json::{Value, json};

use crate::stand_in::{DOCUMENT, EXPIRED_TOKEN, KEY, KNOWN_ID, KNOWN_SECRET, OTHER_KEY, StandIn, Twist};
use crate::{Loopback, RECIPIENT_KEY, TestAttestor, aws, client, credentials, credentials_of, secret};

/// A ciphertext as the stand-in makes it.
fn ciphertext(key: &str, context: &Value) -> Vec<u8> {
    json!([key, context, STANDARD.encode("the secret")]).to_string().into_bytes()
}

fn good() -> Vec<u8> {
    ciphertext(KEY, &json!({ "purpose": "test" }))
}

/// What comes of one decryption in which the stand-in does these things, and how often it was asked.
async fn decrypted(twists: impl IntoIterator<Item = Twist>) -> (Result<Vec<u8>, KmsError>, usize) {
    let stand_in = StandIn::with(twists);
    let (_server, settings, _) = aws(&stand_in, "").await;
    let result = client(settings).decrypt(&good(), &credentials()).await;
    (result.map(|plaintext| plaintext.expose().to_vec()), stand_in.seen().len())
}

async fn refused(twist: Twist) -> KmsError {
    let (result, count) = decrypted([twist]).await;
    assert_eq!(count, 1, "it was asked again");
    result.unwrap_err()
}

fn reason(error: &KmsError) -> Option<Reason> {
    match error {
        KmsError::Call(CallError::Refused(refusal)) => Some(refusal.reason),
        _ => None,
    }
}

#[tokio::test]
async fn what_was_encrypted_here_is_decrypted_here() {
    let stand_in = StandIn::default();
    let (_server, settings, _) = aws(&stand_in, "").await;
    let client = client(settings);
    let ciphertext = client.encrypt(&secret("born here"), &credentials()).await.unwrap();
    let plaintext = client.decrypt(&ciphertext, &credentials()).await.unwrap();
    assert_eq!(plaintext.expose(), b"born here");
}

#[tokio::test]
async fn a_request_says_key_context_and_document_and_is_signed_for_the_keys_region() {
    let stand_in = StandIn::default();
    let (_server, settings, _) = aws(&stand_in, "").await;
    client(settings).decrypt(&good(), &credentials()).await.unwrap();
    let request = stand_in.seen().pop().unwrap();
    assert_eq!(request.headers()["x-amz-target"], "TrentService.Decrypt");
    assert_eq!(request.headers()["x-amz-security-token"], "example+session+token");
    let authorization = request.headers()["authorization"].to_str().unwrap();
    assert!(authorization.contains(&format!("Credential={KNOWN_ID}/")), "{authorization}");
    assert!(authorization.contains("/eu-central-1/kms/aws4_request"), "{authorization}");
    assert_eq!(request.body()["KeyId"], KEY);
    assert_eq!(request.body()["EncryptionContext"], json!({ "purpose": "test" }));
    let document = STANDARD.decode(request.body()["Recipient"]["AttestationDocument"].as_str().unwrap()).unwrap();
    let recipient = Recipient::from_pkcs8(&RECIPIENT_KEY).unwrap();
    assert_eq!(document, [DOCUMENT, &[0], recipient.public_key()].concat());
}

#[tokio::test]
async fn throttling_and_broken_servers_are_asked_again_each_time_with_a_new_document() {
    for (status, code) in [(400, "ThrottlingException"), (500, "KMSInternalException"), (503, ""), (429, "")] {
        let stand_in = StandIn::with([Twist::Error(status, code), Twist::Error(status, code)]);
        let (_server, settings, _) = aws(&stand_in, "").await;
        let plaintext = client(settings).decrypt(&good(), &credentials()).await.unwrap();
        assert_eq!(plaintext.expose(), b"the secret");
        let documents: Vec<_> = stand_in.seen().iter().map(|request| request.body()["Recipient"].to_string()).collect();
        assert_eq!(documents.len(), 3, "{status} {code}");
        assert!(documents[0] != documents[1] && documents[1] != documents[2], "a document was used twice");
    }
}

#[tokio::test]
async fn what_kms_refuses_is_final_and_named() {
    for (code, expected) in [
        ("AccessDeniedException", Reason::AccessDenied),
        ("DisabledException", Reason::Disabled),
        ("IncorrectKeyException", Reason::IncorrectKey),
        ("InvalidCiphertextException", Reason::InvalidCiphertext),
        ("KMSInvalidStateException", Reason::InvalidState),
        ("NotFoundException", Reason::NotFound),
        ("SomethingNewException", Reason::Other),
    ] {
        let error = refused(Twist::Error(400, code)).await;
        assert_eq!(reason(&error), Some(expected), "{error:?}");
        let KmsError::Call(call) = error else { panic!("{code}") };
        assert!(call.to_string().starts_with(&format!("{code} (HTTP 400), \"the stand-in says no\"; ")), "{call}");
    }
}

#[tokio::test]
async fn a_ciphertext_of_another_key_or_context_is_refused_by_kms() {
    let stand_in = StandIn::default();
    let (_server, settings, _) = aws(&stand_in, "").await;
    let client = client(settings);
    for (ciphertext, expected) in [
        (ciphertext(OTHER_KEY, &json!({ "purpose": "test" })), Reason::IncorrectKey),
        (ciphertext(KEY, &json!({ "purpose": "other" })), Reason::InvalidCiphertext),
        (b"no ciphertext".to_vec(), Reason::InvalidCiphertext),
    ] {
        let error = client.decrypt(&ciphertext, &credentials()).await.err().unwrap();
        assert_eq!(reason(&error), Some(expected), "{error:?}");
    }
}

#[tokio::test]
async fn foreign_and_expired_credentials_are_named() {
    let stand_in = StandIn::default();
    let (_server, settings, _) = aws(&stand_in, "").await;
    let client = client(settings);
    for (id, secret, token, expected) in [
        ("ASIAEXAMPLE0FOREIGN0", KNOWN_SECRET, "example+session+token", Reason::UnknownCredentials),
        (KNOWN_ID, "another+secret/than/that/of/this/identity", "example+session+token", Reason::Signature),
        (KNOWN_ID, KNOWN_SECRET, EXPIRED_TOKEN, Reason::ExpiredCredentials),
    ] {
        let error = client.decrypt(&good(), &credentials_of(id, secret, token)).await.err().unwrap();
        assert_eq!(reason(&error), Some(expected), "{error:?}");
    }
}

#[tokio::test]
async fn silence_ends_with_the_deadline() {
    let stand_in = StandIn::with((0..20).map(|_| Twist::Silence));
    let (_server, settings, _) = aws(&stand_in, "deadline = \"500ms\"\nattempt_timeout = \"200ms\"").await;
    let error = client(settings).decrypt(&good(), &credentials()).await.err().unwrap();
    let KmsError::Call(CallError::GaveUp { attempts, last }) = error else { panic!("{error:?}") };
    assert!((2..=4).contains(&attempts), "{attempts}");
    assert!(matches!(*last, CallError::TimedOut(_)), "{last:?}");
}

#[tokio::test]
async fn nobody_at_the_endpoint_is_tried_until_the_deadline() {
    let stand_in = StandIn::default();
    let (server, settings, _) = aws(&stand_in, "deadline = \"500ms\"\nattempt_timeout = \"400ms\"").await;
    drop(server);
    let error = client(settings).decrypt(&good(), &credentials()).await.err().unwrap();
    let KmsError::Call(CallError::GaveUp { attempts: 2.., last }) = error else { panic!("{error:?}") };
    assert!(matches!(*last, CallError::Unreachable(_) | CallError::TimedOut(_)), "{last:?}");
}

#[tokio::test]
async fn an_answer_about_another_key_is_refused() {
    for key in [json!(OTHER_KEY), json!(KEY.to_uppercase()), json!("1234abcd-12ab-34cd-56ef-1234567890ab"), Value::Null]
    {
        let error = refused(Twist::Field("KeyId", key)).await;
        assert!(matches!(error, KmsError::OtherKey { .. }), "{error:?}");
    }
    let stand_in = StandIn::with([Twist::Field("KeyId", json!(OTHER_KEY))]);
    let (_server, settings, _) = aws(&stand_in, "").await;
    let error = client(settings).encrypt(&secret("x"), &credentials()).await.unwrap_err();
    assert!(matches!(error, KmsError::OtherKey { .. }), "{error:?}");
}

#[tokio::test]
async fn an_answer_with_a_plaintext_is_refused() {
    let error = refused(Twist::Field("Plaintext", json!(STANDARD.encode("the secret")))).await;
    assert!(matches!(error, KmsError::Plaintext), "{error:?}");
    assert!(!format!("{error:?} {error}").contains("secret"), "{error:?}");
}

#[tokio::test]
async fn an_answer_without_a_ciphertext_is_refused() {
    let error = refused(Twist::Field("CiphertextForRecipient", Value::Null)).await;
    assert!(matches!(error, KmsError::Missing("CiphertextForRecipient")), "{error:?}");
    let stand_in = StandIn::with([Twist::Field("CiphertextBlob", Value::Null)]);
    let (_server, settings, _) = aws(&stand_in, "").await;
    let error = client(settings).encrypt(&secret("x"), &credentials()).await.unwrap_err();
    assert!(matches!(error, KmsError::Missing("CiphertextBlob")), "{error:?}");
}

#[tokio::test]
async fn an_answer_that_is_no_json_is_refused() {
    for text in ["{", "<html>", "{\"CiphertextForRecipient\": \"not base64!\"}", "{\"KeyId\": 7}"] {
        let error = refused(Twist::Text(text)).await;
        assert!(matches!(error, KmsError::Call(CallError::Malformed)), "{text}: {error:?}");
        let shown = format!("{error:?}");
        assert!(!shown.contains("base64!") && !shown.contains("html") && !shown.contains('!'), "{shown}");
    }
}

fn cut(message: &EnvelopedData) -> Vec<u8> {
    let mut bytes = encode(message, Form::Indefinite);
    bytes.truncate(bytes.len() - 1);
    bytes
}

fn other_type(message: &EnvelopedData) -> Vec<u8> {
    let mut bytes = encode(message, Form::Indefinite);
    bytes[12] ^= 1;
    bytes
}

fn bad_padding(message: &EnvelopedData) -> Vec<u8> {
    let mut message = message.clone();
    // CBC: a bit of the vector is a bit of the only block, whose last byte is its padding's length.
    message.initialisation_vector[15] ^= 0x80;
    encode(&message, Form::Indefinite)
}

fn other_content_key(message: &EnvelopedData) -> Vec<u8> {
    let recipient = Recipient::from_pkcs8(&RECIPIENT_KEY).unwrap();
    let encrypted_key = wrap(recipient.public_key(), &[7; 16]).unwrap();
    encode(&EnvelopedData { encrypted_key, ..message.clone() }, Form::Indefinite)
}

#[tokio::test]
async fn a_message_that_does_not_open_is_refused() {
    let open = async |twist| match refused(twist).await {
        KmsError::Open(error) => error,
        other => panic!("{other:?}"),
    };
    assert!(matches!(open(Twist::Message(cut)).await, CmsError::Malformed { field: "ContentInfo", .. }));
    assert!(matches!(open(Twist::Message(other_type)).await, CmsError::ObjectIdentifier { field: "contentType", .. }));
    assert_eq!(open(Twist::Message(bad_padding)).await, CmsError::Undecryptable);
    assert_eq!(open(Twist::Message(other_content_key)).await, CmsError::Undecryptable);
    let other = Recipient::generate().unwrap().public_key().to_vec();
    assert_eq!(open(Twist::Recipient(other)).await, CmsError::OtherRecipient);
}

#[tokio::test]
async fn without_a_document_kms_is_not_asked() {
    let stand_in = StandIn::default();
    let (_server, settings, _) = aws(&stand_in, "").await;
    let https = Https::new(&settings.roots, Loopback).unwrap();
    let attestor = TestAttestor { is_broken: true, ..TestAttestor::default() };
    let client = Client::new(settings, https, Recipient::from_pkcs8(&RECIPIENT_KEY).unwrap(), attestor);
    let error = client.decrypt(&good(), &credentials()).await.err().unwrap();
    assert!(matches!(error, KmsError::Attest(_)), "{error:?}");
    assert!(stand_in.seen().is_empty());
}

#[tokio::test]
async fn what_kms_would_not_take_is_not_sent() {
    let stand_in = StandIn::default();
    let (_server, settings, _) = aws(&stand_in, "").await;
    let client = client(settings);
    for length in [0, MAX_CIPHERTEXT_LEN + 1] {
        let error = client.decrypt(&vec![1; length], &credentials()).await.err().unwrap();
        assert!(matches!(error, KmsError::Length { found, .. } if found == length), "{error:?}");
    }
    let error = client.encrypt(&secret(""), &credentials()).await.unwrap_err();
    assert!(matches!(error, KmsError::Length { found: 0, .. }), "{error:?}");
    assert!(stand_in.seen().is_empty());
}

/// A task of a server has to be able to own it.
#[test]
fn a_decryption_may_move_between_threads() {
    fn is_send<T: Send>(_: &T) {}
    let (kms, ..) = crate::settings("https://localhost:1", &crate::Authority::new().pem, "");
    assert_eq!(kms.encryption_context, BTreeMap::from([("purpose".to_owned(), "test".to_owned())]));
    let (client, credentials) = (client(kms), credentials());
    is_send(&client.decrypt(&[1], &credentials));
}
