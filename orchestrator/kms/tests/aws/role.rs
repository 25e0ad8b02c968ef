//! Requests with the role's credentials, and what happens when AWS refuses those.

use std::error::Error as _;
use std::time::Duration;

use kms::{AwsError as _, CallError, Imds, KmsError, Reason, RoleError};
use serde_json::json;

use crate::imds::{Metadata, TOKEN};
use crate::stand_in::{EXPIRED_TOKEN, KNOWN_ID, REVOKED_ID, StandIn, Twist};
use crate::{aws, client, secret};

/// What comes of an Encrypt with the role's credentials against a stand-in that does these things, and how often it was asked.
async fn encrypted(
    imds: &Imds,
    twists: impl IntoIterator<Item = Twist>,
) -> (Result<Vec<u8>, RoleError<KmsError>>, usize) {
    let stand_in = StandIn::with(twists);
    let (_server, settings, _) = aws(&stand_in, "").await;
    let (client, secret) = (&client(settings), &secret("x"));
    let result = imds.lend(|credentials| async move { client.encrypt(secret, &credentials).await }).await;
    (result, stand_in.seen().len())
}

#[tokio::test]
async fn credentials_that_aws_refuses_are_fetched_again_and_the_request_is_made_again() {
    let metadata = Metadata::with_tokens(&[EXPIRED_TOKEN, TOKEN]);
    let (_server, imds) = metadata.start("").await;
    let (result, asked) = encrypted(&imds, []).await;
    assert!(result.is_ok(), "{result:?}");
    assert_eq!((asked, metadata.fetches()), (2, 2));
    let (again, asked) = encrypted(&imds, []).await;
    assert!(again.is_ok(), "{again:?}");
    assert_eq!((asked, metadata.fetches()), (1, 2), "the newer ones are kept");
}

#[tokio::test]
async fn every_way_to_refuse_credentials_is_tried_once_more() {
    for code in [
        "ExpiredTokenException",
        "ExpiredToken",
        "UnrecognizedClientException",
        "InvalidClientTokenId",
        "MissingAuthenticationToken",
        "InvalidSignatureException",
        "SignatureDoesNotMatch",
        "RequestExpired",
    ] {
        let metadata = Metadata::with(&[3600, 3600]);
        let (_server, imds) = metadata.start("").await;
        let (result, asked) = encrypted(&imds, [Twist::Error(400, code)]).await;
        assert!(result.is_ok(), "{code}: {result:?}");
        assert_eq!((asked, metadata.fetches()), (2, 2), "{code}");
    }
}

#[tokio::test]
async fn credentials_that_are_refused_twice_are_named_by_their_role() {
    let metadata = Metadata::with_tokens(&[EXPIRED_TOKEN, EXPIRED_TOKEN, TOKEN]);
    let (_server, imds) = metadata.start("").await;
    let (result, asked) = encrypted(&imds, []).await;
    let error = result.unwrap_err();
    assert_eq!((asked, metadata.fetches()), (2, 2), "no more than once");
    assert!(matches!(&error, RoleError::Refused { role, source } if role == "signer" && source.refuses_credentials()));
    let text = error.to_string();
    assert!(text.starts_with("AWS refuses the credentials of the instance's role signer, also after"), "{text}");
    assert!(error.source().is_some());
}

#[tokio::test]
async fn without_newer_credentials_both_reasons_are_named() {
    let metadata = Metadata::with_tokens(&[EXPIRED_TOKEN]);
    let (_server, imds) = metadata.start("deadline = \"2s\"\nattempt_timeout = \"1s\"").await;
    let (result, asked) = encrypted(&imds, []).await;
    let error = result.unwrap_err();
    assert_eq!(asked, 1);
    let RoleError::NoNewer { role, refusal, .. } = &error else { panic!("{error:?}") };
    assert_eq!(role, "signer");
    assert!(refusal.contains("ExpiredTokenException"), "{refusal}");
}

/// The reason of a refusal that is passed on as it is.
fn passed_on(result: Result<Vec<u8>, RoleError<KmsError>>) -> Reason {
    let Err(RoleError::Call(KmsError::Call(CallError::Refused(refusal)))) = result else { panic!("{result:?}") };
    refusal.reason
}

/// As if that time had passed.
async fn later(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_session_that_is_revoked_is_exchanged_for_the_one_that_the_instance_has_by_now() {
    let metadata = Metadata::with_ids(&[REVOKED_ID, KNOWN_ID]);
    let (_server, imds) = metadata.start("").await;
    let (result, asked) = encrypted(&imds, []).await;
    assert!(result.is_ok(), "{result:?}");
    assert_eq!((asked, metadata.fetches()), (2, 2));
    let (again, asked) = encrypted(&imds, []).await;
    assert!(again.is_ok(), "{again:?}");
    assert_eq!((asked, metadata.fetches()), (1, 2), "the other ones are kept");
}

#[tokio::test]
async fn access_that_is_denied_to_the_same_session_is_asked_for_once() {
    let metadata = Metadata::with(&[3600, 3600]);
    let (_server, imds) = metadata.start("").await;
    let (result, asked) = encrypted(&imds, [Twist::Error(400, "AccessDeniedException")]).await;
    assert_eq!((asked, metadata.fetches()), (1, 2));
    assert_eq!(passed_on(result), Reason::AccessDenied);
}

#[tokio::test]
async fn access_that_is_denied_to_the_new_session_too_is_denied() {
    let metadata = Metadata::with_ids(&[REVOKED_ID, KNOWN_ID]);
    let (_server, imds) = metadata.start("").await;
    let denied = || Twist::Error(400, "AccessDeniedException");
    let (result, asked) = encrypted(&imds, [denied(), denied()]).await;
    assert_eq!((asked, metadata.fetches()), (2, 2));
    assert_eq!(passed_on(result), Reason::AccessDenied);
}

#[tokio::test]
async fn however_often_access_is_denied_the_instance_is_asked_once_a_minute() {
    let metadata = Metadata::with_ids(&[REVOKED_ID, REVOKED_ID, KNOWN_ID]);
    let (_server, imds) = metadata.start("").await;
    for _ in 0..3 {
        let (result, asked) = encrypted(&imds, []).await;
        assert_eq!((passed_on(result), asked, metadata.fetches()), (Reason::AccessDenied, 1, 2));
    }
    later(Duration::from_secs(50)).await;
    assert_eq!((encrypted(&imds, []).await.1, metadata.fetches()), (1, 2));
    later(Duration::from_secs(10)).await;
    let (result, asked) = encrypted(&imds, []).await;
    assert!(result.is_ok(), "{result:?}");
    assert_eq!((asked, metadata.fetches()), (2, 3));
}

#[tokio::test]
async fn denied_credentials_are_kept_while_the_instance_has_none() {
    let metadata = Metadata::with_ids(&[REVOKED_ID]);
    let (_server, imds) = metadata.start("deadline = \"2s\"\nattempt_timeout = \"1s\"").await;
    let (result, asked) = encrypted(&imds, []).await;
    assert_eq!((passed_on(result), asked), (Reason::AccessDenied, 1));
    let fetches = metadata.fetches();
    assert_eq!((encrypted(&imds, []).await.1, metadata.fetches()), (1, fetches));
}

#[tokio::test]
async fn those_who_are_denied_at_the_same_time_ask_the_instance_once() {
    let metadata = Metadata::with_ids(&[REVOKED_ID, KNOWN_ID]);
    let (_server, imds) = metadata.start("").await;
    let stand_in = StandIn::default();
    let (_aws, settings, _) = aws(&stand_in, "").await;
    let (client, secret) = (&client(settings), &secret("x"));
    let one = || imds.lend(|credentials| async move { client.encrypt(secret, &credentials).await });
    let (first, second, third) = tokio::join!(one(), one(), one());
    assert!(first.is_ok() && second.is_ok() && third.is_ok(), "{first:?} {second:?} {third:?}");
    assert_eq!(metadata.fetches(), 2);
}

#[tokio::test]
async fn those_who_are_refused_at_the_same_time_fetch_once() {
    let metadata = Metadata::with_tokens(&[EXPIRED_TOKEN, TOKEN]);
    let (_server, imds) = metadata.start("").await;
    let stand_in = StandIn::default();
    stand_in.store(json!({}));
    let (_aws, settings, _) = aws(&stand_in, "").await;
    let (client, secret) = (&client(settings), &secret("x"));
    let one = || imds.lend(|credentials| async move { client.encrypt(secret, &credentials).await });
    let (first, second, third) = tokio::join!(one(), one(), one());
    assert!(first.is_ok() && second.is_ok() && third.is_ok(), "{first:?} {second:?} {third:?}");
    assert_eq!(metadata.fetches(), 2);
}
