//! Who is believed to be KMS.

use kms::{CallError, KmsError};
use rustls::version::{TLS12, TLS13};
use rustls::{CertificateError, Error};
use serde_json::json;

use crate::certificates::{Authority, Flaw};
use crate::server::Server;
use crate::stand_in::StandIn;
use crate::{client, credentials, secret, settings};

/// What comes of an Encrypt, which says as much of TLS as a Decrypt, and whether the server saw a request.
async fn encrypted(
    authority: &Authority,
    roots_pem: &str,
    flaw: Flaw,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> (Result<Vec<u8>, KmsError>, bool) {
    let stand_in = StandIn::default();
    let answering = stand_in.clone();
    let tls = (!versions.is_empty()).then(|| authority.server(flaw, versions));
    let server = Server::start(tls, move |request| answering.answer(request)).await;
    let (kms, ..) = settings(&server.https(), roots_pem, "");
    let result = client(kms).encrypt(&secret("x"), &credentials()).await;
    (result, !stand_in.seen().is_empty())
}

async fn refused(authority: &Authority, roots_pem: &str, flaw: Flaw) -> CertificateError {
    let (result, was_asked) = encrypted(authority, roots_pem, flaw, &[&TLS13]).await;
    assert!(!was_asked);
    match result.unwrap_err() {
        KmsError::Call(CallError::Tls(Error::InvalidCertificate(error))) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn tls_1_3_and_1_2_are_both_spoken() {
    let authority = Authority::new();
    for version in [&TLS13, &TLS12] {
        let (result, _) = encrypted(&authority, &authority.pem, Flaw::None, &[version]).await;
        assert!(result.is_ok(), "{version:?}: {result:?}");
    }
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let authority = Authority::new();
    let error = refused(&authority, &authority.pem, Flaw::OtherName).await;
    assert!(matches!(error, CertificateError::NotValidForNameContext { .. }), "{error:?}");
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let authority = Authority::new();
    let error = refused(&authority, &authority.pem, Flaw::Expired).await;
    assert!(matches!(error, CertificateError::ExpiredContext { .. }), "{error:?}");
}

#[tokio::test]
async fn an_authority_of_somebody_else_is_refused() {
    let error = refused(&Authority::new(), &Authority::new().pem, Flaw::None).await;
    assert!(matches!(error, CertificateError::UnknownIssuer | CertificateError::BadSignature), "{error:?}");
}

#[tokio::test]
async fn amazons_roots_vouch_for_no_stand_in() {
    let authority = Authority::new();
    let amazons = include_str!("../../src/amazon-roots.pem");
    assert_eq!(refused(&authority, amazons, Flaw::None).await, CertificateError::UnknownIssuer);
}

#[tokio::test]
async fn a_server_without_tls_is_refused_and_told_nothing() {
    let authority = Authority::new();
    let (result, was_asked) = encrypted(&authority, &authority.pem, Flaw::None, &[]).await;
    let error = result.unwrap_err();
    assert!(matches!(error, KmsError::Call(CallError::Tls(Error::InvalidMessage(_)))), "{error:?}");
    assert!(!was_asked);
}

#[tokio::test]
async fn a_plain_endpoint_is_no_configuration() {
    let table: kms::config::KmsTable = serde_json::from_value(json!({
        "key_arn": crate::KEY, "encryption_context": { "purpose": "test" }, "endpoint": "http://localhost",
        "deadline": "20s", "attempt_timeout": "5s",
    }))
    .unwrap();
    let error = table.check(std::path::Path::new("/")).unwrap_err();
    assert!(
        error.to_string().starts_with("kms.endpoint: `http://localhost` is not a server, expected https://HOST"),
        "{error}"
    );
}
