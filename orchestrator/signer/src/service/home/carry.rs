//! Carries a hub's requests to the port of a service in this enclave, and its answers back. Nothing of them reaches the
//! signer.
//!
//! Path, query, headers and body pass as they are, but for the headers that are about the connection. Each request has a
//! connection of its own to the service.

use std::net::Ipv4Addr;

use ::home::headers::end_to_end;
use anyhow::Chain;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_LENGTH, EXPECT, HOST, HeaderValue};
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::super::body::{self, Body, BodyError};
use super::super::budget::{MAX_HEAD, MAX_HEADERS, MAX_SERVICE_ANSWER};
use super::super::failure::Failure;
use super::super::{Shared, route};
use crate::home::Port;

/// As the metrics name it.
const ROUTE: &str = "service";

/// Answers one request, whatever it is, and counts it.
pub(super) async fn answer<K, A>(
    shared: &Shared<K, A>,
    port: &Port,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let start = Instant::now();
    let result = carry(shared, port, request).await;
    let outcome = match &result {
        Ok(_) => "ok",
        Err(failure) => failure.code,
    };
    shared.metrics.answered(ROUTE, outcome, start.elapsed());
    result.unwrap_or_else(|failure| {
        debug!(service = port.service, port = port.number, code = failure.code, message = failure.message, "home");
        route::refusal(&failure)
    })
}

async fn carry<K, A>(
    shared: &Shared<K, A>,
    port: &Port,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Failure> {
    let (parts, body) = request.into_parts();
    if matches!(parts.method, Method::CONNECT | Method::TRACE) {
        let message = format!("{} is not possible here, expected a request with an answer", parts.method);
        return Err(Failure::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message));
    }
    let Body { bytes, room } = body::read(body, &shared.bodies, shared.limits.body).await?;
    let is_head = parts.method == Method::HEAD;
    let mut request = Request::new(Full::new(Bytes::from_owner(bytes)));
    let target = parts.uri.into_parts().path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
    (*request.method_mut(), *request.uri_mut()) = (parts.method, Uri::from(target));
    *request.headers_mut() = end_to_end(parts.headers);
    for name in [CONTENT_LENGTH, EXPECT] {
        request.headers_mut().remove(name);
    }
    request.headers_mut().insert(HOST, HeaderValue::from_static("localhost"));
    let limit = shared.limits.service;
    let answered = timeout(limit, exchange(shared, port, request)).await;
    let late = |_elapsed| {
        let message = format!("the service {} did not answer within {limit:?}", port.service);
        Failure::new(StatusCode::GATEWAY_TIMEOUT, "service_timeout", message)
    };
    let (mut response, answer) = answered.map_err(late)??;
    drop(room);
    let Body { mut bytes, room } = answer;
    if !is_head {
        response.headers_mut().remove(CONTENT_LENGTH);
    }
    Ok(response.map(|()| Full::new(room.hold(std::mem::take(&mut *bytes)))))
}

async fn exchange<K, A>(
    shared: &Shared<K, A>,
    port: &Port,
    request: Request<Full<Bytes>>,
) -> Result<(Response<()>, Body), Failure> {
    let unavailable = |reason: String| {
        let message = format!("the service {} at port {}: {reason}", port.service, port.number);
        Failure::new(StatusCode::BAD_GATEWAY, "service_unavailable", message)
    };
    let broken =
        |error: hyper::Error| unavailable(Chain::new(&error).map(ToString::to_string).collect::<Vec<_>>().join(": "));
    let connecting = TcpStream::connect((Ipv4Addr::LOCALHOST, port.number));
    let stream = connecting.await.map_err(|error| unavailable(format!("connect: {error}")))?;
    stream.set_nodelay(true).map_err(|error| unavailable(error.to_string()))?;
    let mut client = http1::Builder::new();
    client.max_buf_size(MAX_HEAD).max_headers(MAX_HEADERS);
    let (mut sender, connection) = client.handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let answered = async {
        let (parts, mut incoming) = sender.send_request(request).await.map_err(broken)?.into_parts();
        let mut answer = Body::default();
        while let Some(frame) = incoming.frame().await {
            // A trailer is not passed on.
            let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
            answer.append(&data, &shared.bodies, MAX_SERVICE_ANSWER).map_err(|error| match error {
                BodyError::TooLong => {
                    unavailable(format!("an answer of more than {MAX_SERVICE_ANSWER} bytes, expected fewer"))
                }
                BodyError::Busy | BodyError::Late(_) | BodyError::Broken(_) => error.into(),
            })?;
        }
        let mut response = Response::from_parts(parts, ());
        *response.headers_mut() = end_to_end(std::mem::take(response.headers_mut()));
        Ok((response, answer))
    };
    tokio::select! {
        biased;
        answered = answered => answered,
        // It has told the request its error.
        never = async { drop(connection.await); std::future::pending().await } => never,
    }
}
