//! Credentials from the instance metadata service.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use hyper::body::Bytes;
use hyper::{Method, Request};
use kms::{Imds, ImdsError};
use serde_json::json;

use crate::certificates::Authority;
use crate::server::{Answer, Server};
use crate::settings;
use crate::stand_in::KNOWN_ID;

/// One that the stand-in of KMS takes.
pub(crate) const TOKEN: &str = "example+session+token";
const ROLE_PATH: &str = "/latest/meta-data/iam/security-credentials/signer";

/// How the service is to behave, and what it was asked.
#[derive(Clone)]
pub(crate) struct Metadata {
    lifetimes: Arc<Mutex<Vec<i64>>>,
    /// The session tokens, in turn; then the stand-in's.
    tokens: Arc<Mutex<Vec<&'static str>>>,
    /// The access key ids, in turn; then the stand-in's.
    ids: Arc<Mutex<Vec<&'static str>>>,
    seen: Arc<Mutex<Vec<String>>>,
    replaced: Option<(&'static str, u16, String)>,
    is_silent: bool,
}

impl Metadata {
    /// Credentials that live so many seconds, in turn; then none.
    pub(crate) fn with(lifetimes: &[i64]) -> Self {
        let lifetimes = Arc::new(Mutex::new(lifetimes.iter().rev().copied().collect()));
        let (tokens, ids, seen) = (Arc::default(), Arc::default(), Arc::default());
        Self { lifetimes, tokens, ids, seen, replaced: None, is_silent: false }
    }

    /// Credentials that live for an hour, with these access key ids in turn; then none.
    pub(crate) fn with_ids(ids: &[&'static str]) -> Self {
        let metadata = Self::with(&vec![3600; ids.len()]);
        metadata.ids.lock().unwrap().extend(ids.iter().rev());
        metadata
    }

    /// Credentials that live for an hour, with these session tokens in turn; then none.
    pub(crate) fn with_tokens(tokens: &[&'static str]) -> Self {
        let metadata = Self::with(&vec![3600; tokens.len()]);
        metadata.tokens.lock().unwrap().extend(tokens.iter().rev());
        metadata
    }

    fn answer(&self, request: &Request<Bytes>) -> Answer {
        let path = request.uri().path();
        self.seen.lock().unwrap().push(path.to_owned());
        if self.is_silent {
            return None;
        }
        if let Some((_, status, text)) = self.replaced.as_ref().filter(|(replaced, ..)| *replaced == path) {
            return Some((*status, text.clone()));
        }
        if path == "/latest/api/token" {
            let has_ttl = request.headers().get("x-aws-ec2-metadata-token-ttl-seconds").is_some();
            assert!(request.method() == Method::PUT && has_ttl);
            return Some((200, "token==".to_owned()));
        }
        if request.headers().get("x-aws-ec2-metadata-token").is_none_or(|token| token != "token==") {
            return Some((401, String::new()));
        }
        match path {
            "/latest/meta-data/iam/security-credentials/" => Some((200, "signer".to_owned())),
            ROLE_PATH => {
                let token = self.tokens.lock().unwrap().pop().unwrap_or(TOKEN);
                let id = self.ids.lock().unwrap().pop().unwrap_or(KNOWN_ID);
                let lifetime = self.lifetimes.lock().unwrap().pop();
                Some(lifetime.map_or((503, String::new()), |lifetime| (200, role(lifetime, id, token))))
            }
            _ => Some((404, String::new())),
        }
    }

    pub(crate) async fn start(&self, times: &str) -> (Server, Imds) {
        let metadata = self.clone();
        let server = Server::start(None, move |request| metadata.answer(&request)).await;
        let (.., imds) = settings(&server.https(), &Authority::new().pem, times);
        (server, Imds::new(imds))
    }

    /// How often the role's credentials were asked for.
    pub(crate) fn fetches(&self) -> usize {
        self.count(ROLE_PATH)
    }

    fn count(&self, path: &str) -> usize {
        self.seen.lock().unwrap().iter().filter(|seen| *seen == path).count()
    }
}

fn role(lifetime: i64, id: &str, token: &str) -> String {
    let now = i64::try_from(SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap();
    let expiration = DateTime::from_secs(now + lifetime).fmt(Format::DateTime).unwrap();
    json!({
        "Code": "Success", "Type": "AWS-HMAC", "Expiration": expiration, "AccessKeyId": id,
        "SecretAccessKey": "not+a+secret/but/an+example/of/forty/chars", "Token": token,
    })
    .to_string()
}

#[tokio::test]
async fn fresh_credentials_are_asked_for_once_by_any_number() {
    let metadata = Metadata::with(&[3600]);
    let (_server, imds) = metadata.start("").await;
    let (first, second) = tokio::join!(imds.credentials(), imds.credentials());
    assert!(first.is_ok() && second.is_ok() && imds.credentials().await.is_ok());
    assert_eq!(metadata.count(ROLE_PATH), 1);
    assert_eq!(metadata.count("/latest/api/token"), 1);
}

#[tokio::test]
async fn credentials_that_expire_soon_are_renewed_and_still_good_if_that_fails() {
    let metadata = Metadata::with(&[200, 250]);
    let (_server, imds) = metadata.start("deadline = \"2s\"\nattempt_timeout = \"1s\"").await;
    assert!(imds.credentials().await.is_ok());
    assert!(imds.credentials().await.is_ok());
    assert_eq!(metadata.count(ROLE_PATH), 2);
    assert!(imds.credentials().await.is_ok(), "the service has none now, and the old ones are good for minutes");
}

#[tokio::test]
async fn a_service_that_has_no_credentials_is_asked_until_the_deadline() {
    let metadata = Metadata::with(&[]);
    let (_server, imds) = metadata.start("deadline = \"2s\"\nattempt_timeout = \"1s\"").await;
    let error = imds.credentials().await.unwrap_err();
    let ImdsError::GaveUp { last, .. } = error else { panic!("{error:?}") };
    assert!(matches!(*last, ImdsError::Status { status: 503, .. } | ImdsError::TimedOut(_)), "{last:?}");
}

#[tokio::test]
async fn expired_credentials_are_refused() {
    let metadata = Metadata::with(&[-5]);
    let (_server, imds) = metadata.start("").await;
    let error = imds.credentials().await.unwrap_err();
    assert!(matches!(error, ImdsError::Expired), "{error:?}");
}

#[tokio::test]
async fn each_answer_that_is_wrong_is_named() {
    let roles = "/latest/meta-data/iam/security-credentials/";
    let refused = async |path, status, text: &str| {
        let metadata = Metadata { replaced: Some((path, status, text.to_owned())), ..Metadata::with(&[3600]) };
        let (_server, imds) = metadata.start("").await;
        imds.credentials().await.unwrap_err()
    };
    let no_token = refused("/latest/api/token", 403, "").await;
    assert!(matches!(no_token, ImdsError::Status { status: 403, path: "/latest/api/token" }), "{no_token:?}");
    assert!(matches!(refused("/latest/api/token", 200, "a\nb").await, ImdsError::Token));
    assert!(matches!(refused("/latest/api/token", 200, "other").await, ImdsError::Status { status: 401, .. }));
    assert!(matches!(refused(roles, 404, "").await, ImdsError::Status { status: 404, .. }));
    assert!(matches!(refused(roles, 200, "../../api/token").await, ImdsError::Role));
    assert!(matches!(refused(ROLE_PATH, 200, "no JSON").await, ImdsError::Json { .. }));
    let no_role = r#"{"Code": "AssumeRoleUnauthorizedAccess"}"#;
    assert!(matches!(refused(ROLE_PATH, 200, no_role).await, ImdsError::Code(_)));
}

#[tokio::test]
async fn an_endless_answer_is_not_read() {
    let long = "x".repeat(16 * 1024 + 1);
    let metadata = Metadata { replaced: Some((ROLE_PATH, 200, long)), ..Metadata::with(&[]) };
    let (_server, imds) = metadata.start("deadline = \"300ms\"\nattempt_timeout = \"250ms\"").await;
    let error = imds.credentials().await.unwrap_err();
    let ImdsError::GaveUp { last, .. } = error else { panic!("{error:?}") };
    assert!(matches!(*last, ImdsError::Body { .. }), "{last:?}");
}

#[tokio::test]
async fn silence_ends_with_the_deadline_and_hints_at_the_hop_limit() {
    let metadata = Metadata { is_silent: true, ..Metadata::with(&[]) };
    let (_server, imds) = metadata.start("deadline = \"400ms\"\nattempt_timeout = \"150ms\"").await;
    let start = std::time::Instant::now();
    let error = imds.credentials().await.unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(10));
    let ImdsError::GaveUp { last, .. } = error else { panic!("{error:?}") };
    assert!(last.to_string().contains("hop limit"), "{last}");
}
