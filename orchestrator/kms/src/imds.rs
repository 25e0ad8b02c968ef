//! The instance's role: credentials from the instance metadata service, version 2
//! (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html>).
//!
//! ```text
//! PUT /latest/api/token                                     -> a token for the next requests
//! GET /latest/meta-data/iam/security-credentials/           -> the role's name
//! GET /latest/meta-data/iam/security-credentials/ROLE       -> JSON: credentials and when they expire
//! ```
//!
//! The enclave is one hop behind the parent. So the instance needs `HttpPutResponseHopLimit` of at least 2: with 1, the
//! parent drops the response with the token instead of forwarding it, and the enclave gets no response.
//!
//! This is plain HTTP through the parent, which can read, drop or replace the credentials; root on the instance
//! can request them anyway. The credentials alone do not decrypt: the key policy requires attestation.
//!
//! Not the SDK's provider: its errors do not name the hop limit, which is the usual cause of a timeout here.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::config::ImdsSettings;
use crate::credentials::{Credentials, CredentialsError};
use crate::retry::{Attempt, retry};

const TOKEN_PATH: &str = "/latest/api/token";
const ROLES_PATH: &str = "/latest/meta-data/iam/security-credentials/";
const TTL_HEADER: &str = "x-aws-ec2-metadata-token-ttl-seconds";
const TOKEN_HEADER: &str = "x-aws-ec2-metadata-token";
/// A token is used at once, and only for the next two requests.
const TOKEN_TTL_SECONDS: &str = "60";
/// Answers are below 2 KiB.
const MAX_ANSWER_LEN: usize = 16 * 1024;
/// The service has new credentials at least five minutes before the old ones expire
/// (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-metadata-security-credentials.html>).
const REFRESH_BEFORE_EXPIRY: Duration = Duration::from_mins(5);
/// How often credentials are requested again because AWS denied access, at most: usually a permission is missing, and
/// clients can repeat a request that is always denied.
const DENIED_INTERVAL: Duration = Duration::from_mins(1);

/// The role's credentials, requested when there are none or they expire soon.
pub struct Imds {
    settings: ImdsSettings,
    held: Mutex<Option<Arc<Credentials>>>,
    /// The last request because AWS denied access.
    denied: Mutex<Option<Instant>>,
}

/// Why the instance has no credentials for us.
#[derive(Debug, Error)]
pub enum ImdsError {
    /// No connection, or one that broke.
    #[error("reach the instance metadata service at {0}")]
    Unreachable(SocketAddr, #[source] io::Error),
    /// Not HTTP.
    #[error("speak HTTP with the instance metadata service")]
    Http(#[from] hyper::Error),
    /// No response, as with a hop limit of 1.
    #[error("no response from the instance metadata service within {0:?}, expected a metadata hop limit of at least 2")]
    TimedOut(Duration),
    /// Another status than 200.
    #[error("the instance metadata service answers HTTP {status} to {path}: {}", hint(*status))]
    Status {
        /// The HTTP status.
        status: u16,
        /// The requested path.
        path: &'static str,
    },
    /// Longer than any answer, or truncated.
    #[error("read the instance metadata service's answer to {path}, at most {MAX_ANSWER_LEN} bytes")]
    Body {
        /// The requested path.
        path: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A token that is not a valid header value.
    #[error("the instance metadata service's token is not printable text")]
    Token,
    /// Not exactly one valid role name.
    #[error("the instance metadata service names no role: attach one to the instance")]
    Role,
    /// Not the documented JSON. The text is not shown, because it contains secrets.
    #[error("the role's credentials, at line {line}, column {column}, are not what the service documents")]
    Json {
        /// Where.
        line: usize,
        /// Where.
        column: usize,
    },
    /// The service has no credentials for the role.
    #[error("the instance metadata service has no credentials for the role but code {0:?}")]
    Code(String),
    /// Not a time.
    #[error("the role's credentials have an unreadable expiry time")]
    Expiration,
    /// Expired.
    #[error("the role's credentials have expired: compare the clocks")]
    Expired,
    /// Invalid credentials.
    #[error("the role's credentials")]
    Credentials(#[from] CredentialsError),
    /// The deadline came before an answer.
    #[error("gave up after {attempts} attempts")]
    GaveUp {
        /// The number of attempts.
        attempts: u32,
        /// The last attempt's error.
        #[source]
        last: Box<Self>,
    },
}

/// What can be done with credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Fresh,
    /// They work, and it is time for new ones.
    Due,
    Expired,
}

impl Imds {
    /// Makes no request yet.
    #[must_use]
    pub fn new(settings: ImdsSettings) -> Self {
        Self { settings, held: Mutex::new(None), denied: Mutex::new(None) }
    }

    /// Credentials that have not expired. Concurrent callers share one request.
    ///
    /// # Errors
    /// What is in [`ImdsError`], if the last credentials have expired or there were none.
    pub async fn credentials(&self) -> Result<Arc<Credentials>, ImdsError> {
        let held = self.held.lock().await;
        self.usable(held).await
    }

    /// Other credentials than `refused`, which AWS refuses. Concurrent callers share one request.
    pub(crate) async fn newer_than(&self, refused: &Arc<Credentials>) -> Result<Arc<Credentials>, ImdsError> {
        let mut held = self.held.lock().await;
        held.take_if(|held| Arc::ptr_eq(held, refused));
        self.usable(held).await
    }

    /// Other credentials than `denied`, to which AWS denies access. `None` if there are none, or if the last such
    /// request was a moment ago.
    pub(crate) async fn others_than(&self, denied: &Credentials) -> Result<Option<Arc<Credentials>>, ImdsError> {
        // Callers that are denied at the same time wait for one answer; other callers do not wait.
        let mut asked = self.denied.lock().await;
        let held = self.held.lock().await.clone();
        if let Some(others) = held.filter(|held| !held.are_those(denied)) {
            return Ok(Some(others));
        }
        if asked.is_some_and(|asked| asked.elapsed() < DENIED_INTERVAL) {
            return Ok(None);
        }
        *asked = Some(Instant::now());
        let fetched = Arc::new(retry(self.settings.retry_budget, || fetch(self.settings.endpoint)).await?);
        *self.held.lock().await = Some(Arc::clone(&fetched));
        Ok(Some(fetched).filter(|fetched| !fetched.are_those(denied)))
    }

    async fn usable(&self, mut held: MutexGuard<'_, Option<Arc<Credentials>>>) -> Result<Arc<Credentials>, ImdsError> {
        let usable = match held.as_ref().map(|held| (held, standing(held.expiry(), SystemTime::now()))) {
            Some((credentials, Standing::Fresh)) => return Ok(Arc::clone(credentials)),
            Some((credentials, Standing::Due)) => Some(Arc::clone(credentials)),
            Some((_, Standing::Expired)) | None => None,
        };
        match retry(self.settings.retry_budget, || fetch(self.settings.endpoint)).await {
            Ok(credentials) => {
                debug!(expiry = ?credentials.expiry(), "new credentials from the instance metadata service");
                let credentials = Arc::new(credentials);
                *held = Some(Arc::clone(&credentials));
                Ok(credentials)
            }
            Err(error) => match usable {
                Some(credentials) => {
                    warn!(%error, "no new credentials: the old ones are still good for minutes");
                    Ok(credentials)
                }
                None => Err(error),
            },
        }
    }
}

impl Attempt for ImdsError {
    fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(..) | Self::Http(_) | Self::TimedOut(_) | Self::Body { .. } => true,
            Self::Status { status, .. } => *status >= 500 || *status == 429,
            Self::Token
            | Self::Role
            | Self::Json { .. }
            | Self::Code(_)
            | Self::Expiration
            | Self::Expired
            | Self::Credentials(_)
            | Self::GaveUp { .. } => false,
        }
    }

    fn timed_out(after: Duration) -> Self {
        Self::TimedOut(after)
    }

    fn gave_up(attempts: u32, last: Self) -> Self {
        Self::GaveUp { attempts, last: Box::new(last) }
    }
}

fn hint(status: u16) -> &'static str {
    match status {
        401 => "the token was not taken",
        403 => "it is switched off for this instance",
        404 => "the instance has no role",
        _ => "it may be overloaded",
    }
}

fn standing(expiry: Option<SystemTime>, now: SystemTime) -> Standing {
    let left = expiry.map(|expiry| expiry.duration_since(now).unwrap_or_default());
    match left {
        None => Standing::Fresh,
        Some(Duration::ZERO) => Standing::Expired,
        Some(left) if left <= REFRESH_BEFORE_EXPIRY => Standing::Due,
        Some(_) => Standing::Fresh,
    }
}

async fn fetch(endpoint: SocketAddr) -> Result<Credentials, ImdsError> {
    let ttl = (TTL_HEADER, HeaderValue::from_static(TOKEN_TTL_SECONDS));
    let token = exchange(endpoint, Method::PUT, TOKEN_PATH, TOKEN_PATH, ttl).await?;
    let mut token = HeaderValue::from_bytes(&token).map_err(|_not_printable| ImdsError::Token)?;
    token.set_sensitive(true);

    let roles = exchange(endpoint, Method::GET, ROLES_PATH, ROLES_PATH, (TOKEN_HEADER, token.clone())).await?;
    let role = role(&roles).ok_or(ImdsError::Role)?;
    let path = format!("{ROLES_PATH}{role}");
    let answer = exchange(endpoint, Method::GET, &path, ROLES_PATH, (TOKEN_HEADER, token)).await?;
    let credentials = parse(role, &answer)?;
    match standing(credentials.expiry(), SystemTime::now()) {
        Standing::Fresh | Standing::Due => Ok(credentials),
        Standing::Expired => Err(ImdsError::Expired),
    }
}

/// One request on its own connection: it is needed every few hours.
async fn exchange(
    endpoint: SocketAddr,
    method: Method,
    path: &str,
    shown_path: &'static str,
    (name, value): (&'static str, HeaderValue),
) -> Result<Bytes, ImdsError> {
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().map_err(|_not_a_path| ImdsError::Role)?;
    let host = HeaderValue::from_str(&endpoint.to_string()).expect("a socket address is printable");
    request.headers_mut().extend([(HOST, host), (hyper::header::HeaderName::from_static(name), value)]);

    let stream = TcpStream::connect(endpoint).await.map_err(|error| ImdsError::Unreachable(endpoint, error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut answer = pin!(async {
        let response = sender.send_request(request).await?;
        if response.status() != StatusCode::OK {
            return Err(ImdsError::Status { status: response.status().as_u16(), path: shown_path });
        }
        let body = Limited::new(response.into_body(), MAX_ANSWER_LEN).collect().await;
        Ok(body.map_err(|source| ImdsError::Body { path: shown_path, source })?.to_bytes())
    });
    tokio::select! {
        answer = &mut answer => answer,
        // Its error, if it has one, is the answer's too.
        _ended = connection => answer.await,
    }
}

/// The only line of the list, if it is a name that IAM allows, which is also what a path may hold.
fn role(list: &[u8]) -> Option<&str> {
    let name = std::str::from_utf8(list).ok()?.trim_end();
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte);
    let is_name = (1..=64).contains(&name.len()) && name.bytes().all(is_allowed) && name != "." && name != "..";
    is_name.then_some(name)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    code: String,
    access_key_id: Option<String>,
    secret_access_key: Option<String>,
    token: Option<String>,
    expiration: Option<String>,
}

fn parse(role: &str, answer: &[u8]) -> Result<Credentials, ImdsError> {
    // serde's own message quotes what it read.
    let answer: Answer = serde_json::from_slice(answer)
        .map_err(|error| ImdsError::Json { line: error.line(), column: error.column() })?;
    if answer.code != "Success" {
        return Err(ImdsError::Code(answer.code.chars().filter(|char| !char.is_control()).take(64).collect()));
    }
    let expiration = answer.expiration.and_then(|text| DateTime::from_str(&text, Format::DateTime).ok());
    let expiry = expiration.and_then(|time| SystemTime::try_from(time).ok()).ok_or(ImdsError::Expiration)?;
    let credentials = Credentials::of_role(
        role,
        answer.access_key_id.unwrap_or_default(),
        answer.secret_access_key.unwrap_or_default(),
        answer.token.unwrap_or_default(),
        expiry,
    );
    Ok(credentials?)
}

#[cfg(test)]
mod tests;
