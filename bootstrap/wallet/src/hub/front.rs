//! Plain HTTP for this host's programs. Everyone who reaches it may ask what the enclaves' `[[home]]` permits, so it is
//! on loopback or on a Unix socket.
//!
//! | request | answer |
//! |---|---|
//! | `GET /enclaves` | who is there, as JSON |
//! | `GET /metrics` | the hub's own metrics |
//! | anything else | an enclave's answer, see crate `signer`'s `service` |
//!
//! The hub's own errors have the shape of the signer's:
//!
//! | status | code | when |
//! |---|---|---|
//! | 403 | `forbidden` | a web page sends the request: it has an `Origin` |
//! | 408 | `timeout` | the body did not arrive in time |
//! | 413 | `too_large` | the body is longer than the signer takes |
//! | 503 | `no_enclave` | no proven enclave had a free connection; with `Retry-After` |
//! | 503 | `enclave_unavailable` | the connection failed before the answer; with `Retry-After` |

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, ORIGIN, RETRY_AFTER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use signer_api::answer::{ErrorAnswer, Refusal};
use signer_api::path;
use signer_api::request::MAX_BODY;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use super::Shared;
use super::queue::{Asked, MAX_WAITING, Unanswered};

const ENCLAVES: &str = "/enclaves";
const JSON: &str = "application/json";

/// For the head of the next request.
const HEAD: Duration = Duration::from_mins(1);
const BODY: Duration = Duration::from_secs(10);

/// Of an enclave's answer; the others are about the connection.
const PASSED_ON: [hyper::header::HeaderName; 4] = [ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER];

/// Where this host's programs connect to.
#[derive(Debug)]
pub enum Front {
    /// On loopback.
    Tcp(TcpListener),
    /// A socket in the file system, which its folder and mode protect.
    Unix(UnixListener),
}

impl Front {
    /// Listens on `127.0.0.1:PORT`, `[::1]:PORT`, or `unix:PATH`.
    ///
    /// # Errors
    /// Another address, or one that is taken.
    pub async fn listen(text: &str) -> Result<Self> {
        let expected = "expected an address on loopback such as 127.0.0.1:8080, or unix:/run/hub.socket";
        if let Some(path) = text.strip_prefix("unix:") {
            return socket(Path::new(path)).await.with_context(|| format!("listen on {text}")).map(Self::Unix);
        }
        let Ok(address) = text.parse::<SocketAddr>() else { bail!("`{text}`: {expected}") };
        ensure!(address.ip().is_loopback(), "`{text}`: reachable from other hosts without TLS, {expected}");
        Ok(Self::Tcp(TcpListener::bind(address).await.with_context(|| format!("listen on {text}"))?))
    }

    async fn accept(&self) -> std::io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Tcp(listener) => Box::new(listener.accept().await?.0),
            Self::Unix(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

impl fmt::Display for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(listener) => match listener.local_addr() {
                Ok(address) => write!(f, "http://{address}"),
                Err(error) => write!(f, "{error}"),
            },
            Self::Unix(listener) => {
                let path = listener.local_addr().ok().and_then(|address| address.as_pathname().map(PathBuf::from));
                write!(f, "unix:{}", path.unwrap_or_default().display())
            }
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A socket that a hub has left behind is replaced, one that somebody listens on is not.
async fn socket(path: &Path) -> Result<UnixListener> {
    use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    if is_socket && UnixStream::connect(path).await.is_err() {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

/// Serves until `shutdown`, then lets requests under way end.
pub(super) async fn serve(shared: Arc<Shared>, front: Front, shutdown: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = front.accept(), if connections.len() < MAX_WAITING => match accepted {
                Ok(stream) => {
                    connections.spawn(connection(Arc::clone(&shared), stream, shutdown.clone()));
                }
                Err(error) => {
                    warn!(%error, "accept on {front}");
                    sleep(Duration::from_millis(50)).await;
                }
            },
            Some(ended) = connections.join_next() => if let Err(error) = ended {
                error!(%error, "connection");
            },
        }
    }
    let ended = timeout(shared.limits.grace, async { while connections.join_next().await.is_some() {} }).await;
    if ended.is_err() {
        warn!(connections = connections.len(), "cut off after the grace period");
    }
    connections.shutdown().await;
}

async fn connection(shared: Arc<Shared>, stream: Box<dyn Stream>, shutdown: CancellationToken) {
    let service = service_fn(|request: Request<Incoming>| {
        let shared = &shared;
        Box::pin(async move { Ok::<_, Infallible>(answer(shared, request).await) })
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "connection of a client");
    }
}

async fn answer(shared: &Shared, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let start = Instant::now();
    let response = match (request.method(), request.uri().path()) {
        _ if request.headers().contains_key(ORIGIN) => {
            refusal(StatusCode::FORBIDDEN, "forbidden", "a request of a web page, expected one of a program")
        }
        (&Method::GET | &Method::HEAD, path::METRICS) => {
            return response(StatusCode::OK, prometheus::TEXT_FORMAT, shared.metrics.page(&shared.table).into());
        }
        (&Method::GET | &Method::HEAD, ENCLAVES) => {
            let trust = Arc::clone(&shared.credentials.borrow().trust);
            let body = json!({ "enclaves": shared.table.rows(), "trust_root": trust.root().to_string() });
            return response(StatusCode::OK, JSON, body.to_string().into());
        }
        _ => pass_on(shared, request).await,
    };
    shared.metrics.answered(response.status(), start.elapsed());
    response
}

async fn pass_on(shared: &Shared, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let body = match timeout(BODY, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let message = format!("the body is too long, expected at most {MAX_BODY} bytes");
            return refusal(StatusCode::PAYLOAD_TOO_LARGE, "too_large", &message);
        }
        Ok(Err(error)) => {
            return refusal(StatusCode::BAD_REQUEST, "bad_request", &format!("{error}, expected a whole body"));
        }
        Err(_elapsed) => {
            let message = format!("the body did not arrive within {BODY:?}");
            return refusal(StatusCode::REQUEST_TIMEOUT, "timeout", &message);
        }
    };
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let header = |name: hyper::header::HeaderName, text: &'static str| {
        let value = parts.headers.get(name)?.to_str().ok()?;
        Some((text, value.to_owned()))
    };
    let headers = [header(ACCEPT, "accept"), header(CONTENT_TYPE, "content-type")].into_iter().flatten().collect();
    let asked = Asked { method: parts.method, path, headers, body };
    match shared.queue.ask(asked, shared.limits.wait).await {
        Ok(answer) => {
            let mut response = Response::new(Full::new(Bytes::from_owner(answer.body)));
            *response.status_mut() = answer.status;
            for name in PASSED_ON {
                if let Some(value) = answer.headers.get(&name) {
                    response.headers_mut().insert(name, value.clone());
                }
            }
            response
        }
        Err(error @ Unanswered::NoEnclave(_)) => unavailable("no_enclave", &error.to_string()),
        Err(error @ (Unanswered::Ended | Unanswered::Broken(_))) => {
            unavailable("enclave_unavailable", &error.to_string())
        }
    }
}

fn unavailable(code: &str, message: &str) -> Response<Full<Bytes>> {
    let mut response = refusal(StatusCode::SERVICE_UNAVAILABLE, code, message);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

fn refusal(status: StatusCode, code: &str, message: &str) -> Response<Full<Bytes>> {
    let error = Refusal { code: code.to_owned(), message: message.to_owned(), field: None };
    let body = serde_json::to_string(&ErrorAnswer { error }).expect("strings become JSON");
    response(status, JSON, body.into())
}

fn response(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
