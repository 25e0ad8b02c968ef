//! Accepts the enclaves' connections. Each has a deadline for its first bytes, and then becomes a stream of the gateway.

use std::net::IpAddr;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tunnel::port::Cid;
use tunnel::preface::Role;
use tunnel::via::Via;
use tunnel::vsock::Stream;

use crate::accept::{self, Waiting};
use crate::config::Remote;
use crate::control;
use crate::enclave_id::EnclaveId;
use crate::gateway::Gateway;
use crate::ports::Ports;
use crate::preface::{self, within_deadline};
use crate::remote::Parents;

/// The listening sockets.
#[derive(Debug)]
pub(crate) enum Listener {
    /// For enclaves on this host.
    Enclaves(Ports),
    /// For parents elsewhere, which relay their enclaves' streams.
    Parents(Parents),
}

/// A connection whose first bytes have been read.
enum Connection {
    Data(Stream),
    Control(Stream),
    Remote(TcpStream),
}

impl Listener {
    pub(crate) async fn bind(remote: Option<&Remote>) -> Result<Self> {
        match remote {
            Some(remote) => Parents::bind(remote).await.map(Self::Parents),
            None => Ports::bind().map(Self::Enclaves),
        }
    }

    /// Serves enclaves until `stop`, and waits until their streams have ended.
    pub(crate) async fn serve(self, gateway: Gateway, stop: CancellationToken) {
        let here = |role| {
            let gateway = &gateway;
            move |stream, cid, waiting| serve_enclave(stream, cid, role, waiting, gateway.clone())
        };
        match self {
            Self::Enclaves(Ports { data, control }) => {
                tokio::join!(
                    accept::each(&data, Role::Data, &stop, here(Role::Data)),
                    accept::each(&control, Role::Control, &stop, here(Role::Control))
                );
            }
            Self::Parents(parents) => {
                let there = |stream, parent, waiting| serve_parent(stream, parent, waiting, gateway.clone());
                accept::each(&parents, Role::Control, &stop, there).await;
            }
        }
    }
}

async fn serve_enclave(mut stream: Stream, cid: Cid, role: Role, waiting: Waiting<Cid>, gateway: Gateway) {
    let id = EnclaveId::here(cid);
    let end = match within_deadline(preface::exchange(&mut stream, role)).await {
        Ok(()) => {
            let connection = match role {
                Role::Data => Connection::Data(stream),
                Role::Control => Connection::Control(stream),
            };
            serve(connection, id, waiting, &gateway).await
        }
        Err(error) => Err(error),
    };
    log_end(&id, role, end);
}

async fn serve_parent(mut stream: TcpStream, parent: IpAddr, waiting: Waiting<IpAddr>, gateway: Gateway) {
    match within_deadline(via(&mut stream)).await {
        Ok(Via { cid }) => {
            let id = EnclaveId::elsewhere(parent, cid);
            log_end(&id, Role::Control, serve(Connection::Remote(stream), id, waiting, &gateway).await);
        }
        Err(error) => log_end(&format!("of the parent {parent}"), Role::Control, Err(error)),
    }
}

async fn via(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Result<Via> {
    let via = Via::read(stream).await.context("read the parent's header")?;
    preface::exchange(stream, Role::Control).await.map(|()| via)
}

async fn serve<K: Ord + Copy>(
    connection: Connection,
    id: EnclaveId,
    waiting: Waiting<K>,
    gateway: &Gateway,
) -> Result<String> {
    let role = match &connection {
        Connection::Data(_) => Role::Data,
        Connection::Control(_) | Connection::Remote(_) => Role::Control,
    };
    let opened = match gateway.open(id, role).await? {
        Ok(opened) => opened,
        Err(refusal) => bail!("refused: {refusal}"),
    };
    drop(waiting);
    tracing::info!(enclave = %id, ?role, "stream open");
    let work = async {
        match (connection, &opened.relay) {
            (Connection::Data(stream), Some(relay)) => Ok(relay.carry(stream).await),
            (Connection::Data(_), None) => bail!("its parent relays its datagrams, not this host"),
            (Connection::Control(stream), _) => control::serve(stream, gateway, &opened).await,
            (Connection::Remote(stream), _) => control::serve(stream, gateway, &opened).await,
        }
    };
    let end = opened.stream.run(work).await;
    gateway.close(id, &opened.stream).await;
    end
}

fn log_end(enclave: &impl std::fmt::Display, role: Role, end: Result<String>) {
    match end {
        Ok(reason) => tracing::info!(%enclave, ?role, reason, "stream ended"),
        Err(error) => tracing::info!(%enclave, ?role, reason = format!("{error:#}"), "stream ended"),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tunnel::preface::Preface;

    use super::*;

    #[tokio::test]
    async fn a_parent_s_header_and_the_enclave_s_preface_say_whose_stream_it_is() {
        let (mut parent, mut gateway) = tokio::io::duplex(64);
        parent.write_all(&Via { cid: Cid(16) }.encode()).await.unwrap();
        parent.write_all(&Preface::new(Role::Control).encode()).await.unwrap();
        assert_eq!(via(&mut gateway).await.unwrap(), Via { cid: Cid(16) });
        let mut answer = [0; Preface::LEN];
        parent.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, Preface::new(Role::Control).encode(), "the header has no answer");
    }

    #[tokio::test]
    async fn a_stream_without_the_header_or_of_the_other_role_is_refused() {
        for (header, role, expected) in [
            (None, Role::Control, "read the parent's header: the connection starts with"),
            (Some(Via { cid: Cid(16) }), Role::Data, "expected a stream of role Control, the peer says Data"),
        ] {
            let (mut parent, mut gateway) = tokio::io::duplex(64);
            if let Some(header) = header {
                parent.write_all(&header.encode()).await.unwrap();
            }
            parent.write_all(&Preface::new(role).encode()).await.unwrap();
            let error = format!("{:#}", via(&mut gateway).await.unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_parent_that_says_half_of_it_is_not_waited_for() {
        let (mut parent, mut gateway) = tokio::io::duplex(64);
        parent.write_all(&Via { cid: Cid(16) }.encode()[..7]).await.unwrap();
        let error = format!("{:#}", within_deadline(via(&mut gateway)).await.unwrap_err());
        assert!(error.starts_with("wait for the preface: "), "{error}");
    }
}
