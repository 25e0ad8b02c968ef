//! One client's connection, from its handshake to its end.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{Shared, route};
use crate::keys::{Attestor, Keys};
use crate::tls;

/// A head that is longer is refused with 431.
const MAX_HEAD: usize = 16 * 1024;

/// How long, and for how many bytes, a client that is still sending is listened to after its answer: closing on unread
/// bytes would reset the connection, and the answer with it.
const LINGER: Duration = Duration::from_secs(2);
const MAX_LINGER: u64 = 16 << 20;

pub(super) async fn serve<K: Keys, A: Attestor>(
    shared: Arc<Shared<K, A>>,
    acceptor: TlsAcceptor,
    stream: TcpStream,
    shutdown: CancellationToken,
) {
    let handshake = async {
        stream.set_nodelay(true)?;
        acceptor.accept(stream).await
    };
    let stream = match timeout(shared.limits.handshake, handshake).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            shared.metrics.handshake_failed();
            return debug!(%error, "handshake");
        }
        Err(_elapsed) => {
            shared.metrics.handshake_failed();
            return debug!("handshake: too slow");
        }
    };
    let grace = shared.limits.grace;
    if let Some(stream) = requests(shared, stream, shutdown).await {
        // Whoever does not close in time is cut off.
        let _cut_off = timeout(grace.min(LINGER), linger(stream)).await;
    }
}

/// Serves requests until the connection ends or is too old. Returns the stream for a last goodbye.
async fn requests<K: Keys, A: Attestor>(
    shared: Arc<Shared<K, A>>,
    stream: TlsStream<TcpStream>,
    shutdown: CancellationToken,
) -> Option<TlsStream<TcpStream>> {
    let caller = Arc::new(tls::caller(&shared.access, stream.get_ref().1.peer_certificates()));
    let limits = shared.limits.clone();
    let service = service_fn(|request: Request<Incoming>| {
        let (shared, caller) = (Arc::clone(&shared), Arc::clone(&caller));
        Box::pin(async move { Ok::<_, Infallible>(route::answer(&shared, &caller, request).await) })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut old = pin!(sleep(limits.age));
    let mut cut_off = pin!(sleep(limits.age + limits.grace));
    let mut is_ending = false;
    loop {
        tokio::select! {
            ended = poll_fn(|context| connection.poll_without_shutdown(context)) => {
                if let Err(error) = ended {
                    debug!(%error, client = caller.name(), "connection");
                }
                break;
            }
            () = shutdown.cancelled(), if !is_ending => is_ending = true,
            () = &mut old, if !is_ending => is_ending = true,
            () = &mut cut_off => return None,
        }
        if is_ending {
            Pin::new(&mut connection).graceful_shutdown();
        }
    }
    Some(connection.into_parts().io.into_inner())
}

async fn linger(mut stream: TlsStream<TcpStream>) -> std::io::Result<()> {
    stream.shutdown().await?;
    let (mut tcp, _session) = stream.into_inner();
    let mut rest = (&mut tcp).take(MAX_LINGER);
    tokio::io::copy(&mut rest, &mut tokio::io::sink()).await.map(|_bytes| ())
}
