//! One client's connection, from its handshake to its end.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::budget::{MAX_HEAD, MAX_HEADERS, TLS_OUT};
use super::closings::Closing;
use super::prompt::Prompt;
use super::seats::{Seat, Source};
use super::{Limits, Shared, route};
use crate::keys::{Attestor, Keys};
use crate::tls;

/// How long, and for how many bytes, a client that is still sending is listened to after its answer: closing on unread
/// bytes would reset the connection, and the answer with it.
const LINGER: Duration = Duration::from_secs(2);
const MAX_LINGER: u64 = 16 << 20;

/// A connection that has a seat.
pub(super) struct Guest {
    pub(super) stream: TcpStream,
    pub(super) source: Source,
    pub(super) seat: Seat,
}

/// Who is at the other end, and how long it may be silent and stay.
pub(super) struct Visit<'a> {
    pub(super) client: &'a str,
    pub(super) source: Source,
    /// For the head of the next request, from the end of the last.
    pub(super) head: Duration,
    /// For the connection as a whole.
    pub(super) age: Duration,
}

/// Serves a client until it has gone, has to go, or another has its seat.
pub(super) async fn serve<K: Keys, A: Attestor>(
    shared: Arc<Shared<K, A>>,
    acceptor: TlsAcceptor,
    guest: Guest,
    shutdown: CancellationToken,
) {
    let Guest { stream, source, seat } = guest;
    tokio::select! {
        () = seat.taken() => debug!(%source, "connection: closed for another one"),
        () = attend(&shared, acceptor, stream, source, &seat, shutdown) => {}
    }
}

async fn attend<K: Keys, A: Attestor>(
    shared: &Shared<K, A>,
    acceptor: TlsAcceptor,
    stream: TcpStream,
    source: Source,
    seat: &Seat,
    shutdown: CancellationToken,
) {
    let handshake = async {
        stream.set_nodelay(true)?;
        stream.readable().await?;
        seat.has_spoken();
        let stream = Prompt::new(stream, shared.limits.write);
        acceptor.accept_with(stream, |session| session.set_buffer_limit(Some(TLS_OUT))).await
    };
    let shaken = tokio::select! {
        shaken = timeout(shared.limits.handshake, handshake) => shaken,
        () = shutdown.cancelled() => return,
    };
    let stream = match shaken {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            shared.metrics.handshake_failed();
            return debug!(%source, %error, "handshake");
        }
        Err(_elapsed) => {
            shared.metrics.handshake_failed();
            shared.closings.note(Closing::Handshake, source);
            return debug!(%source, limit = ?shared.limits.handshake, "handshake: too slow");
        }
    };
    let caller = &tls::caller(&shared.access, stream.get_ref().1.peer_certificates());
    if caller.has_certificate().is_ok() {
        seat.is_proven();
    }
    let visit = Visit { client: caller.name(), source, head: shared.limits.head, age: shared.limits.age };
    let answer = |request| async move {
        let _busy = seat.busy();
        route::answer(shared, caller, source, request).await
    };
    if let Some(stream) = requests(&shared.limits, stream, visit, answer, shutdown).await {
        // Whoever does not close in time is cut off.
        let _cut_off = timeout(shared.limits.grace.min(LINGER), linger(stream)).await;
    }
}

/// Serves requests until the connection ends or is too old. Returns the stream for a last goodbye.
pub(super) async fn requests<S: AsyncRead + AsyncWrite + Unpin, F: Future<Output = Response<Full<Bytes>>>>(
    limits: &Limits,
    stream: S,
    visit: Visit<'_>,
    answer: impl Fn(Request<Incoming>) -> F,
    shutdown: CancellationToken,
) -> Option<S> {
    let (Visit { client, source, head, age }, answer) = (visit, &answer);
    let service =
        service_fn(|request: Request<Incoming>| Box::pin(async move { Ok::<_, Infallible>(answer(request).await) }));
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    let mut old = pin!(sleep(age));
    let mut cut_off = pin!(sleep(age + limits.grace));
    let mut is_ending = false;
    loop {
        tokio::select! {
            ended = poll_fn(|context| connection.poll_without_shutdown(context)) => {
                if let Err(error) = ended {
                    debug!(%source, error = sentence(&error), client, "connection");
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

/// hyper's error and its causes, which it leaves out of its own words.
fn sentence(error: &hyper::Error) -> String {
    anyhow::Chain::new(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

async fn linger(mut stream: TlsStream<Prompt<TcpStream>>) -> std::io::Result<()> {
    stream.shutdown().await?;
    let (mut tcp, _session) = stream.into_inner();
    let mut rest = (&mut tcp).take(MAX_LINGER);
    tokio::io::copy(&mut rest, &mut tokio::io::sink()).await.map(|_bytes| ())
}
