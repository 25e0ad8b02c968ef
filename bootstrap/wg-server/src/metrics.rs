//! `wg-server metrics`: the report of the running wg-server as a page for Prometheus, over HTTP or once.
//!
//! A process of its own, which needs no capability: whoever breaks it has not broken wg-server.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use ipnet::IpNet;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::{service_manager, signals, status};

const PATH: &str = "/metrics";
const MAX_CLIENTS: usize = 16;
const MAX_HEAD: usize = 16 << 10;
const HEAD_DEADLINE: Duration = Duration::from_secs(5);
/// Of one connection. Prometheus then opens another one.
const LIFETIME: Duration = Duration::from_mins(10);
/// After an error of accept(2), such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Which wg-server.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Configuration file of the running wg-server, with the table [metrics].
    #[arg(long, default_value = "/etc/wg-server/parent.toml")]
    config: PathBuf,
    /// Print the page instead of serving it: for node_exporter's textfile collector.
    #[arg(long)]
    once: bool,
}

/// Serves until SIGTERM or SIGINT, or prints.
pub(crate) fn run(options: &Options, print: impl Fn(&str) -> Result<()>) -> Result<()> {
    let config = Config::load(&options.config)?;
    let socket_path = status::socket_path(&config.runtime_dir);
    if options.once {
        return print(&status::ask(&socket_path)?.page());
    }
    let runtime = runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(signals::run_until_signal(|stop| serve(config, socket_path, stop)))
}

async fn serve(config: Config, socket_path: PathBuf, stop: CancellationToken) -> Result<()> {
    let listen = config.metrics.listen;
    let listener = TcpListener::bind(listen).await.with_context(|| format!("metrics.listen: bind {listen}"))?;
    tracing::info!("serving http://{listen}{PATH}");
    service_manager::ready();
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            Some(ended) = clients.join_next() => if let Err(error) = ended {
                tracing::error!(%error, "a client's task");
            },
            accepted = listener.accept(), if clients.len() < MAX_CLIENTS => match accepted {
                Ok((stream, from)) => {
                    let client = Client { from, is_enclave: is_enclave(&config.wireguard.addresses, from.ip()) };
                    clients.spawn(client.serve(stream, socket_path.clone()));
                }
                Err(error) => {
                    tracing::warn!("accept: {error}");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

/// Whether this is an address of the enclaves' network.
fn is_enclave(networks: &[IpNet], address: IpAddr) -> bool {
    // A socket for both versions shows IPv4's addresses as IPv6's.
    networks.iter().any(|network| network.contains(&address.to_canonical()))
}

#[derive(Clone, Copy)]
struct Client {
    from: SocketAddr,
    is_enclave: bool,
}

impl Client {
    async fn serve(self, stream: TcpStream, socket_path: PathBuf) {
        let service = service_fn(|request: Request<Incoming>| {
            let socket_path = socket_path.clone();
            async move { Ok::<_, Infallible>(self.answer(&request, &socket_path).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_DEADLINE)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(stream), service);
        match timeout(LIFETIME, connection).await {
            Ok(Ok(())) | Err(_) => {}
            Ok(Err(error)) => tracing::debug!(from = %self.from, %error, "a client's connection"),
        }
    }

    async fn answer(self, request: &Request<Incoming>, socket_path: &Path) -> Response<Full<Bytes>> {
        if self.is_enclave {
            tracing::warn!(from = %self.from, "refused: an enclave asks for metrics");
            return text(
                StatusCode::FORBIDDEN,
                "enclaves get no metrics; expected a client outside of their network\n",
            );
        }
        if request.uri().path() != PATH {
            return text(StatusCode::NOT_FOUND, "expected GET /metrics\n");
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "expected GET /metrics\n");
        }
        let socket_path = socket_path.to_owned();
        let asked = spawn_blocking(move || status::ask(&socket_path)).await.map_err(anyhow::Error::new);
        let page = asked.and_then(|asked| asked).map(|report| report.page()).unwrap_or_else(|error| {
            tracing::warn!("wg-server does not answer: {error:#}");
            status::down()
        });
        let mut response = text(StatusCode::OK, page);
        response
            .headers_mut()
            .insert(CONTENT_TYPE, const { hyper::header::HeaderValue::from_static(prometheus::TEXT_FORMAT) });
        response
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests;
