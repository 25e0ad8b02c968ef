//! Asks nodes. Answers are bounded in size and time, and a client has one question under way: it can neither fill the
//! memory nor keep others from asking.

mod connection;
mod reply;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::{io, iter};

use anyhow::{Context, Result, anyhow};
use rustls::ClientConfig;
use thiserror::Error;
use tokio::time::{Duration, timeout};
use tracing::debug;

use super::trust;
use super::turns::Turns;
use crate::keys::Resolve;
use crate::metrics::{Collect, Snapshot};
use crate::upstream::Upstream;
use connection::Connection;
use reply::Reply;

pub(super) use reply::Answered;

/// The longest answer.
pub(super) const MAX_ANSWER: usize = 512 * 1024;

/// Connections to one node that are kept for the next question.
pub(super) const IDLE: usize = 2;

/// The nodes of the configuration.
pub(super) struct Upstreams {
    nodes: BTreeMap<u64, Node>,
    names: OnceLock<Names>,
    pub(super) turns: Turns,
}

/// One node.
pub(super) struct Node {
    upstream: Upstream,
    tls: Arc<ClientConfig>,
    idle: Mutex<Vec<Connection>>,
    failures: AtomicU64,
    limit: Duration,
}

/// Why a node has not answered.
#[derive(Debug, Error)]
pub(super) enum UpstreamError {
    /// The same question may be answered in a moment.
    #[error("{0:#}")]
    Unavailable(anyhow::Error),
    /// What it said is not an answer.
    #[error("{0}")]
    Answer(String),
}

type Resolving<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send + 'a>>;

/// Any [`Resolve`].
trait AnyResolver: Send + Sync {
    fn find<'a>(&'a self, name: &'a str) -> Resolving<'a>;
}

impl<R: Resolve> AnyResolver for R {
    fn find<'a>(&'a self, name: &'a str) -> Resolving<'a> {
        Box::pin(self.addresses(name))
    }
}

struct Names(Box<dyn AnyResolver>);

impl Resolve for Names {
    async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        self.0.find(name).await
    }
}

impl Upstreams {
    /// `limit` is for each question.
    pub(super) fn new(upstreams: BTreeMap<u64, Upstream>, limit: Duration) -> Result<Self> {
        let node = |(chain, upstream): (u64, Upstream)| {
            let tls = trust::config(upstream.identity.as_ref(), b"http/1.1");
            let tls = Arc::new(tls.with_context(|| format!("TLS to {}", upstream.url))?);
            Ok((chain, Node { upstream, tls, idle: Mutex::default(), failures: AtomicU64::new(0), limit }))
        };
        let nodes = upstreams.into_iter().map(node).collect::<Result<_>>()?;
        Ok(Self { nodes, names: OnceLock::new(), turns: Turns::new() })
    }

    /// Finds the nodes' addresses with this from now on. A second one changes nothing.
    pub(super) fn resolve_with<R: Resolve>(&self, resolver: R) {
        drop(self.names.set(Names(Box::new(resolver))));
    }

    pub(super) fn of(&self, chain: u64) -> Option<&Node> {
        self.nodes.get(&chain)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Whether any node may be asked this.
    pub(super) fn allow(&self, method: &str) -> bool {
        self.nodes.values().any(|node| node.allows(method))
    }

    /// Asks one question. `params` is JSON.
    pub(super) async fn ask(&self, node: &Node, method: &str, params: &str) -> Result<Answered, UpstreamError> {
        let question = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
        let asked = timeout(node.limit, node.exchange(question, self.names.get())).await;
        let late = || Err(UpstreamError::Unavailable(anyhow!("no answer within {:?}", node.limit)));
        let answered = asked.unwrap_or_else(|_elapsed| late());
        answered.inspect_err(|error| {
            node.failures.fetch_add(1, Ordering::Relaxed);
            debug!(upstream = %node.upstream.url, method, %error, "upstream");
        })
    }
}

impl Node {
    pub(super) fn allows(&self, method: &str) -> bool {
        self.upstream.methods.contains(method)
    }

    async fn exchange(&self, question: String, names: Option<&Names>) -> Result<Answered, UpstreamError> {
        // A kept connection may have ended since: then a new one is asked the same, which changes nothing there.
        let kept = self.idle().pop();
        for kept in iter::once(kept).filter(Option::is_some).chain(iter::once(None)) {
            let is_kept = kept.is_some();
            let mut connection = match kept {
                Some(connection) => connection,
                None => self.connect(names).await.map_err(UpstreamError::Unavailable)?,
            };
            match connection.post(&self.upstream.url, question.clone()).await {
                Ok(Reply { body, status }) => {
                    self.keep(connection);
                    return reply::read(status, &body);
                }
                Err(error) if is_kept => debug!(upstream = %self.upstream.url, "a kept connection: {error:#}"),
                Err(error) => return Err(UpstreamError::Unavailable(error)),
            }
        }
        Err(UpstreamError::Unavailable(anyhow!("no connection")))
    }

    async fn connect(&self, names: Option<&Names>) -> Result<Connection> {
        let names = names.context("no resolver")?;
        Connection::open(&self.upstream.url, Arc::clone(&self.tls), names).await
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.idle();
        if idle.len() < IDLE && connection.is_open() {
            idle.push(connection);
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collect for Upstreams {
    fn collect(&self, snapshot: &Snapshot) {
        let chains: Vec<_> = self.nodes.keys().map(u64::to_string).collect();
        let failures = self.nodes.values().map(|node| node.failures.load(Ordering::Relaxed));
        snapshot.counters(
            "signer_upstream_failures_total",
            "Questions that an upstream has not answered.",
            "chain",
            chains.iter().map(String::as_str).zip(failures),
        );
    }
}
