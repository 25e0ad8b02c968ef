//! Answers that say no, of a hub or a proxy itself.
//!
//! | status | code | when |
//! |---|---|---|
//! | 400 | `bad_request` | the body broke off |
//! | 403 | `forbidden` | a web page sends the request, see [`super::guard`] |
//! | 405 | `method_not_allowed` | CONNECT or TRACE |
//! | 408 | `timeout` | the body did not arrive in time |
//! | 413 | `too_large` | the body is longer than the signer takes |
//! | 503 | `busy` | too many programs are connected; with `Retry-After` |
//! | 503 | `no_enclave` | no proven enclave had a free connection; with `Retry-After` |
//! | 503 | `enclave_unavailable` | the connection failed before the answer; with `Retry-After` |
//!
//! They have the shape of the signer's. The last two also answer whole requests: one of JSON-RPC gets JSON-RPC's error
//! object with [`UNAVAILABLE`], and HTTP's 200, because its clients show no text of another status.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use signer_api::answer::{ErrorAnswer, Refusal};

pub(super) const JSON: &str = "application/json";

/// JSON-RPC's code for a resource that is not available (EIP-1474).
const UNAVAILABLE: i32 = -32002;

/// Calls in one request that get an error each; a longer list gets one.
const MAX_CALLS: usize = 1024;

/// One row of the table above.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    code: &'static str,
    message: String,
}

/// What a request of JSON-RPC has, as far as it matters here.
#[derive(Deserialize)]
struct Call<'a> {
    #[serde(borrow, rename = "jsonrpc")]
    _version: &'a RawValue,
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    method: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct CallError<'a> {
    jsonrpc: &'static str,
    id: Option<&'a RawValue>,
    error: ErrorObject<'a>,
}

#[derive(Clone, Copy, Serialize)]
struct ErrorObject<'a> {
    code: i32,
    message: &'a str,
    data: Data<'a>,
}

#[derive(Clone, Copy, Serialize)]
struct Data<'a> {
    code: &'a str,
}

impl Failure {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    pub(super) fn unavailable(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
    }

    /// As the signer says it.
    pub(super) fn response(self) -> Response<Full<Bytes>> {
        let Self { status, code, message } = self;
        let error = Refusal { code: code.to_owned(), message, field: None };
        let body = serde_json::to_string(&ErrorAnswer { error }).expect("strings become JSON");
        let mut response = response(status, JSON, body.into());
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }

    /// As whoever sent this body expects it.
    pub(super) fn answer(self, body: &[u8]) -> Response<Full<Bytes>> {
        let error = ErrorObject { code: UNAVAILABLE, message: &self.message, data: Data { code: self.code } };
        let text = match calls(body) {
            None => return self.response(),
            Some(Calls::One(call)) => to_json(&CallError::new(call.id, error)),
            Some(Calls::Many(calls)) if calls.len() > MAX_CALLS => to_json(&CallError::new(None, error)),
            Some(Calls::Many(calls)) => {
                to_json(&calls.into_iter().map(|call| CallError::new(call.id, error)).collect::<Vec<_>>())
            }
        };
        response(StatusCode::OK, JSON, text.into())
    }
}

impl<'a> CallError<'a> {
    fn new(id: Option<&'a RawValue>, error: ErrorObject<'a>) -> Self {
        // A string, a number or null; of anything else JSON-RPC answers null.
        let id =
            id.filter(|id| id.get().starts_with(|first: char| first == '"' || first == '-' || first.is_ascii_digit()));
        Self { jsonrpc: "2.0", id, error }
    }
}

enum Calls<'a> {
    One(Call<'a>),
    Many(Vec<Call<'a>>),
}

/// Whether a body has the same answer when it comes again: the signer's own form, and calls of JSON-RPC that send nothing.
pub(super) fn is_repeatable(body: &[u8]) -> bool {
    // With an escape in it, it may be any.
    let is_harmless = |method: &RawValue| !method.get().starts_with("\"eth_send") && !method.get().contains('\\');
    let sends_nothing = |call: &Call<'_>| call.method.is_some_and(is_harmless);
    match calls(body) {
        None => true,
        Some(Calls::One(call)) => sends_nothing(&call),
        Some(Calls::Many(calls)) => calls.iter().all(sends_nothing),
    }
}

fn calls(body: &[u8]) -> Option<Calls<'_>> {
    match body.iter().find(|byte| !byte.is_ascii_whitespace())? {
        b'{' => serde_json::from_slice(body).ok().map(Calls::One),
        b'[' => serde_json::from_slice(body).ok().filter(|calls: &Vec<_>| !calls.is_empty()).map(Calls::Many),
        _ => None,
    }
}

fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("strings and numbers become JSON")
}

pub(super) fn response(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    async fn answer(body: &str) -> (u16, String) {
        let response = Failure::unavailable("no_enclave", "none").answer(body.as_bytes());
        let status = response.status().as_u16();
        (status, String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap())
    }

    fn error(id: &str) -> String {
        let error = r#"{"code":-32002,"message":"none","data":{"code":"no_enclave"}}"#;
        format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#)
    }

    #[tokio::test]
    async fn a_call_gets_its_own_id_back() {
        for id in ["1", "-1", "\"a\"", "null", "123456789012345678901234567890"] {
            let body = format!(r#" {{"jsonrpc":"2.0","method":"eth_accounts","id":{id}}}"#);
            assert_eq!(answer(&body).await, (200, error(id)));
        }
        for body in [r#"{"jsonrpc":"2.0"}"#, r#"{"jsonrpc":"2.0","id":{}}"#, r#"{"jsonrpc":"2.0","id":true}"#] {
            assert_eq!(answer(body).await, (200, error("null")));
        }
    }

    #[tokio::test]
    async fn each_call_of_a_list_gets_one() {
        let body = r#"[{"jsonrpc":"2.0","id":1},{"id":"2","jsonrpc":"2.0"}]"#;
        assert_eq!(answer(body).await, (200, format!("[{},{}]", error("1"), error("\"2\""))));
        let body = format!("[{}1]", r#"{"jsonrpc":"2.0","id":1},"#.repeat(MAX_CALLS));
        assert_eq!(answer(&body).await.0, 503, "not a list of calls");
        let body = format!("[{}{}]", r#"{"jsonrpc":"2.0","id":1},"#.repeat(MAX_CALLS), r#"{"jsonrpc":"2.0"}"#);
        assert_eq!(answer(&body).await, (200, error("null")));
    }

    #[tokio::test]
    async fn anything_else_gets_the_signers() {
        for body in ["", "{}", "[]", "[1]", "not JSON", r#""jsonrpc""#, r#"{"transaction_payload":{"jsonrpc":1}}"#] {
            assert_eq!(answer(body).await, (503, r#"{"error":{"code":"no_enclave","message":"none"}}"#.to_owned()));
        }
    }
}
