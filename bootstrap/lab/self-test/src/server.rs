//! The side in the lab's internet: answers the tests of agents over TCP, UDP and vsock.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_vsock::{VMADDR_CID_ANY, VsockAddr, VsockListener};

use crate::command::MAX_DURATION;
use crate::{stream, udp};

/// Streams served at once on one port; a further one is closed.
const MAX_STREAMS: usize = 16;

/// Serves TCP and UDP on all `addresses` until a socket fails; drop the future to stop.
///
/// # Errors
/// An address that cannot be bound, or a socket that fails.
pub async fn run(addresses: &[SocketAddr]) -> Result<()> {
    let mut sockets = Vec::new();
    for address in addresses {
        let tcp = TcpListener::bind(address).await.with_context(|| format!("listen on TCP {address}"))?;
        let udp = UdpSocket::bind(address).await.with_context(|| format!("bind UDP {address}"))?;
        sockets.push((tcp, udp));
    }
    run_on(sockets).await
}

/// As [`run`], on sockets that are already bound.
///
/// # Errors
/// A socket that fails.
pub async fn run_on(sockets: Vec<(TcpListener, UdpSocket)>) -> Result<()> {
    let mut serving = JoinSet::new();
    for (tcp, udp) in sockets {
        serving.spawn(accept_tcp(tcp));
        serving.spawn(async move { udp::serve(&udp).await });
    }
    match serving.join_next().await {
        Some(ended) => ended.context("a server's task")?,
        None => bail!("no address to serve"),
    }
}

/// Serves `vsock` streams on a port of any context id until the listener fails.
///
/// # Errors
/// A port that cannot be bound, or a listener that fails.
pub async fn run_vsock(port: u32) -> Result<()> {
    let listener = VsockListener::bind(VsockAddr::new(VMADDR_CID_ANY, port))
        .with_context(|| format!("listen on vsock port {port}"))?;
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (socket, from) = accepted.context("accept a vsock stream")?;
                serve(&mut streams, socket, from.to_string());
            }
            Some(ended) = streams.join_next() => ended.context("a stream's task")?,
        }
    }
}

async fn accept_tcp(listener: TcpListener) -> Result<()> {
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (socket, from) = accepted.context("accept a stream")?;
                socket.set_nodelay(true)?;
                serve(&mut streams, socket, from.to_string());
            }
            Some(ended) = streams.join_next() => ended.context("a stream's task")?,
        }
    }
}

fn serve<S>(streams: &mut JoinSet<()>, mut socket: S, from: String)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    if streams.len() >= MAX_STREAMS {
        tracing::warn!(from, "refused: {MAX_STREAMS} streams are open");
        return;
    }
    streams.spawn(async move {
        match timeout(MAX_DURATION, stream::serve(&mut socket)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::info!(from, "a stream ended: {error:#}"),
            Err(_) => tracing::warn!(from, "a stream was not done after {} s", MAX_DURATION.as_secs()),
        }
    });
}
