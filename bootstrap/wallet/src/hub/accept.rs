//! Calls, from TCP to the verdict on their document.
//!
//! Everyone who reaches the port can open connections. Of those without a proof there are [`MAX_UNPROVEN`] at most: a
//! further one ends the oldest. A crowd has to open them faster than an enclave proves itself to keep it out.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use home::ALPN;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::proof::{self, Proof};
use super::{Shared, tls};
use crate::http::Connection;
use crate::pool::metrics::Outcome;
use crate::pool::worker::{self, End};

/// Connections whose enclave has not been verified yet.
const MAX_UNPROVEN: usize = 128;

/// What a TLS session may hold of what it sends.
const TLS_OUT: usize = 64 << 10;

/// Held by a connection until its enclave is proven, or it ends.
type Unproven = Arc<()>;

/// Accepts calls until `shutdown`.
pub(super) async fn serve(shared: &Arc<Shared>, listener: TcpListener, shutdown: CancellationToken) {
    let mut connections = JoinSet::new();
    let mut unproven: VecDeque<(Unproven, AbortHandle)> = VecDeque::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    unproven.retain(|(held, _)| Arc::strong_count(held) > 1);
                    if unproven.len() >= MAX_UNPROVEN
                        && let Some((_, oldest)) = unproven.pop_front()
                    {
                        shared.pool.metrics.proof(Outcome::Displaced);
                        oldest.abort();
                    }
                    let held = Unproven::default();
                    let task = connection(Arc::clone(shared), stream, peer, Arc::clone(&held));
                    unproven.push_back((held, connections.spawn(task)));
                }
                Err(error) => {
                    // Out of descriptors, most likely: they come back as connections end.
                    warn!(%error, "accept");
                    sleep(Duration::from_millis(50)).await;
                }
            },
            Some(ended) = connections.join_next() => if let Err(error) = ended && !error.is_cancelled() {
                error!(%error, "connection");
            },
        }
    }
    connections.shutdown().await;
}

async fn connection(shared: Arc<Shared>, stream: TcpStream, peer: SocketAddr, unproven: Unproven) {
    let (limits, pool) = (&shared.limits, &shared.pool);
    let shaken = timeout(limits.handshake, handshake(&shared, stream)).await;
    let shaken = shaken.unwrap_or_else(|_elapsed| Err(anyhow!("nothing within {:?}", limits.handshake)));
    let mut stream = match shaken {
        Ok(stream) => stream,
        Err(error) => {
            pool.metrics.proof(Outcome::Handshake);
            return debug!(%peer, "handshake: {error:#}");
        }
    };
    if pool.table.connections() >= limits.proven {
        pool.metrics.proof(Outcome::Displaced);
        return warn!(%peer, "closed: {} connections of proven enclaves, expected fewer", limits.proven);
    }
    let trust = Arc::clone(&pool.trust.borrow());
    let proof = match timeout(limits.document, proof::verify(&mut stream, &trust)).await {
        Ok(Ok(proof)) => proof,
        Ok(Err(error)) => {
            pool.metrics.proof(Outcome::Refused);
            return warn!(%peer, "refused: {:#}", anyhow::Error::from(error));
        }
        Err(_elapsed) => {
            pool.metrics.proof(Outcome::Refused);
            return warn!(%peer, "refused: no attestation document within {:?}", limits.document);
        }
    };
    drop(unproven);
    pool.metrics.proof(Outcome::Accepted);
    let Proof { claims, binding } = proof;
    let seat = pool.table.enter(&claims, &binding.config, trust.image(&claims), peer.ip().to_string());
    let module = attestation::Printable(&claims.module_id);
    match seat.is_first() {
        true => info!(%peer, enclave = %module, image = seat.image(), "proven"),
        false => debug!(%peer, enclave = %module, image = seat.image(), "proven"),
    }
    let end = match Connection::new(stream, "signer").await {
        Ok(connection) => worker::work(pool, connection, &claims, &seat).await,
        Err(error) => End::Unhealthy(error.to_string()),
    };
    pool.metrics.ended(&end);
    match end {
        End::Renewed | End::Closed => debug!(%peer, enclave = %module, "{end}"),
        End::Unhealthy(_) | End::Untrusted(_) => warn!(%peer, enclave = %module, "{end}"),
    }
}

async fn handshake(shared: &Shared, stream: TcpStream) -> Result<TlsStream<TcpStream>> {
    stream.set_nodelay(true)?;
    let config = tls(&shared.identity.borrow())?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let bound = |session: &mut rustls::ServerConnection| session.set_buffer_limit(Some(TLS_OUT));
    let stream = acceptor.accept_with(stream, bound).await.context("TLS")?;
    let is_home = stream.get_ref().1.alpn_protocol() == Some(ALPN);
    ensure!(is_home, "a client without this protocol in ALPN, expected an enclave");
    Ok(stream)
}
