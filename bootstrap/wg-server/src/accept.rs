//! Accepts connections: each gets an owned task, and a slot among the few that have not yet identified themselves.

mod limit;

use std::fmt::{Debug, Display};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tunnel::port::Cid;
use tunnel::vsock::{Listener, Stream};

use limit::Limit;
pub(crate) use limit::Waiting;

/// After an error of accept(2), such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listening socket.
pub(crate) trait Acceptor {
    /// A connection.
    type Stream;
    /// The peer, as far as the connection itself identifies it.
    type From: Ord + Copy + Debug + Display;
    /// How many connections of one peer may be unidentified at a time.
    const MAX_SILENT: usize;

    /// Waits for the next connection. Cancel safe.
    fn accept(&self) -> impl Future<Output = Result<(Self::Stream, Self::From)>>;
}

impl Acceptor for Listener {
    type Stream = Stream;
    type From = Cid;
    /// An enclave that reconnects has one, or two if the older has not ended yet.
    const MAX_SILENT: usize = 4;

    async fn accept(&self) -> Result<(Stream, Cid)> {
        Ok(Self::accept(self).await?)
    }
}

/// Serves every connection until `stop`, and then ends those that are left.
/// `role` says for the log what they carry.
pub(crate) async fn each<A, S, F>(acceptor: &A, role: impl Debug, stop: &CancellationToken, serve: S)
where
    A: Acceptor,
    S: Fn(A::Stream, A::From, Waiting<A::From>) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let limit = Arc::new(Limit::new(A::MAX_SILENT));
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = streams.join_next() => log_panic(ended),
            accepted = acceptor.accept() => match accepted {
                Ok((stream, from)) => match limit.reserve(from) {
                    Some(waiting) => {
                        streams.spawn(serve(stream, from, waiting));
                    }
                    None => tracing::debug!(%from, ?role, "too many unidentified connections: closed"),
                },
                Err(error) => {
                    tracing::warn!(?role, "accept: {error:#}");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    // Enclaves see the end of their streams and reconnect to the next wg-server.
    streams.shutdown().await;
}

fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a stream's task");
    }
}
