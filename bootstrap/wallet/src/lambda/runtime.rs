//! Lambda's runtime API (<https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>): plain HTTP to the host that the
//! function's environment names.
//!
//! ```text
//! GET  /2018-06-01/runtime/invocation/next          -> an event, its id and its deadline
//! POST /2018-06-01/runtime/invocation/ID/response   the answer
//! POST /2018-06-01/runtime/invocation/ID/error      {"errorType", "errorMessage", "stackTrace"}
//! POST /2018-06-01/runtime/init/error               the same, when the function cannot start
//! ```
//!
//! Not the crate `lambda_runtime`: it logs whole events at TRACE, secret keys included, keeps them in memory that is not zeroed, and does
//! not report that a function cannot start.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use hyper::Method;
use hyper::body::Bytes;
use hyper::header::HeaderMap;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::{info, warn};
use zeroize::Zeroizing;

use super::{Environment, Failure, answer};
use crate::http::{Answer, Connection, Question};

const VERSION: &str = "/2018-06-01/runtime";
const ID_HEADER: &str = "lambda-runtime-aws-request-id";
const DEADLINE_HEADER: &str = "lambda-runtime-deadline-ms";
/// Lambda's own limit is 6 MiB (<https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html>).
const MAX_EVENT_LEN: usize = 7 << 20;
/// The time that is kept to report that the deadline has passed.
const RESERVE: Duration = Duration::from_millis(500);
/// For requests that get a response at once.
const API_TIMEOUT: Duration = Duration::from_secs(10);

/// An event to handle.
struct Invocation {
    id: String,
    event: Zeroizing<Vec<u8>>,
    deadline: SystemTime,
}

/// Handles events until the runtime API is gone.
///
/// # Errors
/// Wrong variables, which are reported to the runtime API too; and an unexpected response of the runtime API.
pub async fn run(api: &str, environment: Result<Environment>) -> Result<()> {
    let mut environment = match environment {
        Ok(environment) => environment,
        Err(error) => {
            let error = error.context("environment");
            let body = failure("InvalidEnvironment", &format!("{error:#}"));
            report(api, "/init/error", body, Some("Runtime.InvalidEnvironment")).await?;
            return Err(error);
        }
    };
    info!(trust_root = %environment.trust().root(), url = %environment.url, "ready");
    loop {
        let Invocation { id, event, deadline } = next(api).await.context("get the next event")?;
        let left = deadline.duration_since(SystemTime::now()).unwrap_or_default().saturating_sub(RESERVE);
        let result = timeout(left, answer(&mut environment, &event)).await.unwrap_or(Err(Failure::Deadline));
        match result {
            Ok(body) => {
                info!(id, "answered");
                report(api, &format!("/invocation/{id}/response"), body, None).await?;
            }
            Err(error) => {
                warn!(id, kind = error.name(), %error, "failed");
                let body = failure(error.name(), &error.to_string());
                report(api, &format!("/invocation/{id}/error"), body, Some(error.name())).await?;
            }
        }
    }
}

async fn next(api: &str) -> Result<Invocation> {
    let question = Question {
        method: Method::GET,
        path: &format!("{VERSION}/invocation/next"),
        headers: &[],
        body: Bytes::new(),
        max_answer: MAX_EVENT_LEN,
    };
    // Without a deadline: the next event may be hours away, and Lambda freezes the function meanwhile.
    let answer = connect(api).await?.ask(question).await?;
    ensure!(answer.status.is_success(), "HTTP {}", answer.status.as_u16());
    let id = header(&answer.headers, ID_HEADER)?.to_owned();
    let is_id = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    ensure!(
        !id.is_empty() && id.bytes().all(is_id),
        "header {ID_HEADER} is {id:?}, expected letters, digits and hyphens"
    );
    let deadline = header(&answer.headers, DEADLINE_HEADER)?;
    let deadline: u64 =
        deadline.parse().with_context(|| format!("header {DEADLINE_HEADER} is {deadline:?}, expected milliseconds"))?;
    let deadline =
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(deadline)).context("a deadline without end")?;
    Ok(Invocation { id, event: answer.body, deadline })
}

async fn report(api: &str, path: &str, body: Zeroizing<Vec<u8>>, error_type: Option<&str>) -> Result<()> {
    let doing = || format!("post to {path} of the runtime API");
    let error_type = error_type.map(|name| ("lambda-runtime-function-error-type", name));
    let headers: Vec<_> = [("content-type", "application/json")].into_iter().chain(error_type).collect();
    let path = &format!("{VERSION}{path}");
    let body = Bytes::from_owner(body);
    let question = Question { method: Method::POST, path, headers: &headers, body, max_answer: MAX_EVENT_LEN };
    let exchange = async { anyhow::Ok(connect(api).await?.ask(question).await?) };
    let answer: Answer = timeout(API_TIMEOUT, exchange).await.with_context(doing)?.with_context(doing)?;
    // 413 is about this one response. Any other status means that the runtime API is gone.
    let status = answer.status;
    ensure!(status.is_success() || status.as_u16() == 413, "{}: HTTP {}", doing(), status.as_u16());
    Ok(())
}

async fn connect(api: &str) -> Result<Connection> {
    let stream = TcpStream::connect(api).await.with_context(|| format!("connect to the runtime API at {api}"))?;
    Ok(Connection::new(stream, api).await?)
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str> {
    let value = headers.get(name).with_context(|| format!("header {name} is missing"))?;
    value.to_str().with_context(|| format!("header {name}"))
}

fn failure(error_type: &str, message: &str) -> Zeroizing<Vec<u8>> {
    let body = json!({ "errorType": error_type, "errorMessage": message, "stackTrace": [] });
    Zeroizing::new(body.to_string().into_bytes())
}
