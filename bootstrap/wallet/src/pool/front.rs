//! Plain HTTP for this host's programs. Everyone who reaches it may ask what the enclaves allow whoever serves it, so it
//! is on loopback or on a Unix socket.
//!
//! | request | answer |
//! |---|---|
//! | `GET /enclaves` | who is there, as JSON |
//! | `GET /hub/metrics`, `GET /proxy/metrics` | the hub's or the proxy's own metrics |
//! | anything else | an enclave's answer, see crate `signer`'s `service` |
//!
//! Errors of its own are in [`super::failure`].

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use super::Pool;
use super::exchange::pass_on;
use super::failure::{Failure, JSON, response};
use super::guard::{self, Names};

const ENCLAVES: &str = "/enclaves";

/// Programs beyond the limit that are told so; the others wait to be accepted.
const SPARE: usize = 32;

/// What the signer takes.
const MAX_HEAD: usize = 16 << 10;
const MAX_HEADERS: usize = 100;

/// Where this host's programs connect to.
#[derive(Debug)]
pub struct Front {
    listener: Listener,
    names: Names,
}

/// Who may connect.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The mode of a Unix socket.
    pub socket_mode: u32,
    /// Whether other hosts may.
    pub is_any_address: bool,
    /// Names of this host in `Host`, beside `localhost`.
    pub hosts: Vec<String>,
}

impl Default for Rules {
    fn default() -> Self {
        Self { socket_mode: 0o660, is_any_address: false, hosts: Vec::new() }
    }
}

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    /// In the file system, where its folder and mode protect it.
    Unix(UnixListener),
}

impl Front {
    /// Listens on `127.0.0.1:PORT`, `[::1]:PORT`, or `unix:PATH`.
    ///
    /// # Errors
    /// Another address, unless the rules allow it, or one that is taken.
    pub async fn listen(text: &str, rules: Rules) -> Result<Self> {
        let expected = "expected an address on loopback, no name, such as 127.0.0.1:8080, or unix:/run/wallet/socket";
        let Rules { socket_mode, is_any_address, hosts } = rules;
        let listening = || format!("listen on {text}");
        if let Some(path) = text.strip_prefix("unix:") {
            let listener = socket(Path::new(path), socket_mode).await.with_context(listening)?;
            return Ok(Self { listener: Listener::Unix(listener), names: Names::Any });
        }
        let Ok(address) = text.parse::<SocketAddr>() else { bail!("`{text}`: {expected}") };
        if !address.ip().is_loopback() {
            ensure!(is_any_address, "`{text}`: reachable from other hosts without TLS, {expected}; or --any-address");
            warn!(%address, "programs on other hosts can ask for signatures here, and the network can read them");
        }
        let listener = TcpListener::bind(address).await.with_context(listening)?;
        Ok(Self { listener: Listener::Tcp(listener), names: Names::Listed(hosts) })
    }

    async fn accept(&self) -> std::io::Result<Box<dyn Stream>> {
        Ok(match &self.listener {
            Listener::Tcp(listener) => {
                let (stream, _peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
            Listener::Unix(listener) => Box::new(listener.accept().await?.0),
        })
    }

    /// A command that asks for `path` here.
    #[must_use]
    pub fn curl(&self, path: &str) -> String {
        match &self.listener {
            Listener::Tcp(_) => format!("curl {self}{path}"),
            Listener::Unix(_) => {
                let socket = self.to_string();
                format!("curl --unix-socket {} http://localhost{path}", socket.trim_start_matches("unix:"))
            }
        }
    }
}

impl fmt::Display for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.listener {
            Listener::Tcp(listener) => match listener.local_addr() {
                Ok(address) => write!(f, "http://{address}"),
                Err(error) => write!(f, "{error}"),
            },
            Listener::Unix(listener) => {
                let path = listener.local_addr().ok().and_then(|address| address.as_pathname().map(PathBuf::from));
                write!(f, "unix:{}", path.unwrap_or_default().display())
            }
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A socket that was left behind is replaced, one that somebody listens on is not.
async fn socket(path: &Path, mode: u32) -> Result<UnixListener> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    if is_socket && UnixStream::connect(path).await.is_err() {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok(listener)
}

/// Serves until `shutdown`, then lets requests under way end.
pub(crate) async fn serve(pool: Arc<Pool>, front: Front, shutdown: CancellationToken) {
    let mut connections = JoinSet::new();
    let names = Arc::new(front.names.clone());
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = front.accept(), if connections.len() < pool.limits.clients + SPARE => match accepted {
                Ok(stream) => {
                    let is_spare = connections.len() >= pool.limits.clients;
                    let client = Client { pool: Arc::clone(&pool), names: Arc::clone(&names), is_spare };
                    connections.spawn(client.serve(stream, shutdown.clone()));
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
    drop(front);
    let ended = timeout(pool.limits.grace, async { while connections.join_next().await.is_some() {} }).await;
    if ended.is_err() {
        warn!(connections = connections.len(), "cut off after the grace period");
    }
    connections.shutdown().await;
}

/// A program that is connected.
struct Client {
    pool: Arc<Pool>,
    names: Arc<Names>,
    /// One of [`SPARE`].
    is_spare: bool,
}

impl Client {
    async fn serve(self, stream: Box<dyn Stream>, shutdown: CancellationToken) {
        let limits = &self.pool.limits;
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(limits.write));
        let client = &self;
        let service = service_fn(|request: Request<Incoming>| {
            Box::pin(async move { Ok::<_, Infallible>(client.answer(request).await) })
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head)
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_HEADERS)
            .serve_connection(TokioIo::new(Box::pin(stream)), service);
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            debug!(%error, "connection of a program");
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (pool, start) = (&self.pool, Instant::now());
        let response = match self.admit(&request) {
            Err(failure) => failure.response(),
            Ok(()) if self.is_spare => {
                let message = format!("{} programs are connected; expected fewer, retry", pool.limits.clients);
                let mut response = Failure::unavailable("busy", message).response();
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                response
            }
            Ok(()) => match page(pool, &request) {
                Some(page) => return page,
                None => pass_on(pool, request).await,
            },
        };
        pool.metrics.answered(response.status(), start.elapsed());
        response
    }

    fn admit(&self, request: &Request<Incoming>) -> Result<(), Failure> {
        guard::check(&self.names, request.method(), request.uri(), request.headers())
    }
}

/// A page of its own.
fn page(pool: &Pool, request: &Request<Incoming>) -> Option<Response<Full<Bytes>>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return None;
    }
    let path = request.uri().path();
    if path == ENCLAVES {
        let root = pool.trust.borrow().root().to_string();
        let body = json!({ "enclaves": pool.table.rows(), "problems": pool.table.problems(), "trust_root": root });
        return Some(response(StatusCode::OK, JSON, body.to_string().into()));
    }
    let is_metrics = path.strip_prefix('/').and_then(|path| path.strip_prefix(pool.name)) == Some("/metrics");
    is_metrics.then(|| response(StatusCode::OK, prometheus::TEXT_FORMAT, pool.metrics.page(&pool.table).into()))
}
