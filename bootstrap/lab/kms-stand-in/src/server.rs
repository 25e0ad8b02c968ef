//! The HTTPS server of the service.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::service::{self, Answer, StandIn};

/// Twice the longest request of an enclave: ciphertext and attestation document in Base64.
const MAX_BODY: usize = 64 * 1024;
const MAX_CONNECTIONS: usize = 256;
/// Deadline of a handshake, of headers and of a body, each.
const DEADLINE: Duration = Duration::from_secs(10);
/// Pause after accept(2) has failed, as it does while the process is out of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// One listening socket.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    tls: TlsAcceptor,
    stand_in: Arc<StandIn>,
}

/// Ends the connection without an answer.
#[derive(Debug)]
struct HangUp;

impl Server {
    /// Listens on `address`; port 0 selects a free port.
    ///
    /// # Errors
    /// If the address is in use, or not local.
    pub async fn bind(address: SocketAddr, tls: Arc<ServerConfig>, stand_in: Arc<StandIn>) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self { address: listener.local_addr()?, listener, tls: tls.into(), stand_in })
    }

    /// The address that it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the future is dropped, which also closes its connections.
    ///
    /// # Errors
    /// None at present: a failed connection does not end the server.
    pub async fn run(self) -> io::Result<Infallible> {
        let mut connections = JoinSet::new();
        loop {
            let has_room = connections.len() < MAX_CONNECTIONS;
            tokio::select! {
                accepted = self.listener.accept(), if has_room => match accepted {
                    Ok((stream, peer)) => {
                        let (tls, stand_in) = (self.tls.clone(), Arc::clone(&self.stand_in));
                        connections.spawn(async move {
                            if let Err(error) = serve(stream, tls, &stand_in).await {
                                tracing::debug!(%peer, error, "a connection ended");
                            }
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "accept");
                        sleep(PAUSE).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

async fn serve(stream: TcpStream, tls: TlsAcceptor, stand_in: &StandIn) -> Result<(), String> {
    let handshake = timeout(DEADLINE, tls.accept(stream)).await;
    let stream = handshake
        .map_err(|_elapsed| "TLS: no handshake in time".to_owned())?
        .map_err(|error| format!("TLS: {error}"))?;
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(DEADLINE)
        .serve_connection(TokioIo::new(stream), service_fn(|request| respond(request, stand_in)))
        .await
        .map_err(|error| format!("HTTP: {error}"))
}

async fn respond(request: Request<Incoming>, stand_in: &StandIn) -> Result<Response<Full<Bytes>>, HangUp> {
    let (parts, body) = request.into_parts();
    let body = match timeout(DEADLINE, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => return Ok(service::too_large().map(Full::new)),
        Ok(Err(_)) | Err(_) => return Err(HangUp),
    };
    match stand_in.answer(&parts, &body, SystemTime::now()) {
        Answer::Response(response) => Ok(response.map(Full::new)),
        Answer::Stall => std::future::pending().await,
        Answer::HangUp => Err(HangUp),
    }
}

impl fmt::Display for HangUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("hung up")
    }
}

impl std::error::Error for HangUp {}

#[cfg(test)]
mod tests;
