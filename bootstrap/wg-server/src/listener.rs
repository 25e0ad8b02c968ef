//! The two vsock ports: every connection gets a task, a deadline for its first bytes, and a bounded share of the gateway.

mod limit;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tunnel::port::{Cid, Port};
use tunnel::preface::{Preface, Role};
use tunnel::vsock::{self, Listener, Stream};

use crate::control;
use crate::gateway::Gateway;
use limit::Limit;

/// From the connection to the end of the peer's preface.
const PREFACE_DEADLINE: Duration = Duration::from_secs(5);
/// After an error of accept(2), such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The listening sockets. Having them is also the proof that no other wg-server runs.
#[derive(Debug)]
pub(crate) struct Ports {
    data: Listener,
    control: Listener,
}

impl Ports {
    pub(crate) fn bind() -> Result<Self> {
        Ok(Self { data: listen(Port::DATA)?, control: listen(Port::CONTROL)? })
    }

    /// Serves enclaves until told to stop, and waits for their streams' ends.
    pub(crate) async fn serve(self, gateway: Gateway, stop: CancellationToken) {
        tokio::join!(
            accept(&self.data, Role::Data, &gateway, &stop),
            accept(&self.control, Role::Control, &gateway, &stop)
        );
    }
}

fn listen(port: Port) -> Result<Listener> {
    vsock::listen(port).map_err(|error| {
        let errno = std::error::Error::source(&error)
            .and_then(|source| source.downcast_ref::<std::io::Error>())
            .and_then(std::io::Error::raw_os_error);
        let reason = match errno {
            Some(nix::libc::EADDRINUSE) => format!("vsock port {port} is in use: another wg-server runs"),
            Some(nix::libc::EAFNOSUPPORT) => "this kernel has no vsock: load the module `vsock`".to_owned(),
            Some(nix::libc::EACCES) => {
                format!("vsock port {port} needs CAP_NET_BIND_SERVICE in the first user namespace")
            }
            _ => format!("vsock port {port}"),
        };
        anyhow::Error::new(error).context(reason)
    })
}

async fn accept(listener: &Listener, role: Role, gateway: &Gateway, stop: &CancellationToken) {
    let limit = Arc::new(Limit::default());
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = streams.join_next() => log_panic(ended),
            accepted = listener.accept() => match accepted {
                Ok((stream, cid)) => match limit.admit(cid) {
                    Some(waiting) => {
                        streams.spawn(serve(stream, cid, role, waiting, gateway.clone()));
                    }
                    None => tracing::debug!(%cid, ?role, "too many connections that have said nothing: closed"),
                },
                Err(error) => {
                    tracing::warn!(?role, error = &error as &dyn std::error::Error, "accept");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    // Enclaves see the end of their streams and reconnect to whoever comes next.
    streams.shutdown().await;
}

fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a stream's task");
    }
}

async fn serve(mut stream: Stream, cid: Cid, role: Role, waiting: limit::Waiting, gateway: Gateway) {
    let end = match timeout(PREFACE_DEADLINE, Preface::first(role).exchange(&mut stream)).await {
        Ok(Ok(Preface { stream: 0, .. })) => admit(stream, cid, role, waiting, &gateway).await,
        Ok(Ok(Preface { stream: number, .. })) => Err(anyhow::anyhow!("stream number {number}, expected 0")),
        Ok(Err(error)) => Err(error).context("exchange prefaces"),
        Err(elapsed) => Err(elapsed).context("wait for the preface"),
    };
    match end {
        Ok(reason) => tracing::info!(%cid, ?role, reason, "stream ended"),
        Err(error) => tracing::info!(%cid, ?role, reason = format!("{error:#}"), "stream ended"),
    }
}

async fn admit(stream: Stream, cid: Cid, role: Role, waiting: limit::Waiting, gateway: &Gateway) -> Result<String> {
    let admitted = match gateway.open(cid, role).await? {
        Ok(admitted) => admitted,
        Err(refusal) => anyhow::bail!("refused: {refusal}"),
    };
    drop(waiting);
    tracing::info!(%cid, ?role, "stream open");
    let end = match role {
        Role::Data => Ok(admitted.relay.carry(stream, &admitted.replaced).await),
        Role::Control => control::serve(stream, cid, gateway, &admitted).await,
    };
    gateway.close(cid, role, admitted.admission.stream).await;
    end
}
