//! One request of a program: its body, its way to an enclave, and the answer.
//!
//! Path, query, headers and body are passed on as they are. The headers that are about the connection are not.

use home::headers::end_to_end;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_LENGTH, EXPECT, HOST};
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request, Response, StatusCode};
use signer_api::request::MAX_BODY;
use tokio::time::timeout;

use super::Pool;
use super::failure::Failure;
use super::queue::{Asked, Unanswered};

/// Has the request answered by an enclave.
pub(super) async fn pass_on(pool: &Pool, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let body = match read(pool, body).await {
        Ok(body) => body,
        Err(failure) => return failure.response(),
    };
    let target = parts.uri.into_parts().path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
    let mut headers = end_to_end(parts.headers);
    for name in [HOST, CONTENT_LENGTH, EXPECT] {
        headers.remove(name);
    }
    let is_head = parts.method == Method::HEAD;
    let asked = Asked { method: parts.method, target, headers, body };
    // The bytes are shared.
    let body = asked.body.clone();
    match pool.queue.ask(asked, pool.limits.wait).await {
        Ok(answer) => {
            let mut headers = end_to_end(answer.headers);
            if !is_head {
                headers.remove(CONTENT_LENGTH);
            }
            let mut response = Response::new(Full::new(Bytes::from_owner(answer.body)));
            *response.status_mut() = answer.status;
            *response.headers_mut() = headers;
            response
        }
        Err(error @ Unanswered::NoEnclave(_)) => {
            // Each names its URL.
            let problems = pool.table.problems().into_values().map(|problem| format!("; {problem}"));
            let message = format!("{error}{}", problems.collect::<String>());
            Failure::unavailable("no_enclave", message).answer(&body)
        }
        Err(error) => Failure::unavailable("enclave_unavailable", error.to_string()).answer(&body),
    }
}

async fn read(pool: &Pool, body: Incoming) -> Result<Bytes, Failure> {
    let limit = pool.limits.body;
    match timeout(limit, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let message = format!("the body is too long, expected at most {MAX_BODY} bytes");
            Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message))
        }
        Ok(Err(error)) => {
            Err(Failure::new(StatusCode::BAD_REQUEST, "bad_request", format!("{error}, expected a whole body")))
        }
        Err(_elapsed) => {
            let message = format!("the body did not arrive within {limit:?}");
            Err(Failure::new(StatusCode::REQUEST_TIMEOUT, "timeout", message))
        }
    }
}
