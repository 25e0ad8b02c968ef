//! The node of a development chain in the lab's internet: TLS ends here, and the node runs on the host, at the other end
//! of a socket that ssh forwards.

use std::fs;
use std::net::SocketAddr;

use anyhow::{Context, Result};
use kms_stand_in::tls::server_config;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::aws::Server;
use crate::paths::{CHAIN_SOCKET_PATH, LAB};
use crate::units::{Unit, in_internet};

/// The service.
pub const SERVICE: &str = "internet-chain";
/// The node's address and name.
pub const SERVER: Server = Server { file_stem: "chain", address: "198.51.100.92", names: &["rpc.internet.example"] };

/// Starts when a test needs it.
pub(super) fn unit() -> Unit {
    Unit { is_enabled: false, ..in_internet(SERVICE, &format!("{LAB} parent-vm chain"), "") }
}

/// Serves until the listener fails.
pub(super) async fn serve() -> Result<()> {
    let read = |path: String| fs::read_to_string(&path).with_context(|| format!("read {path}"));
    let config = server_config(&read(SERVER.certificate_path())?, &read(SERVER.key_path())?)?;
    let (acceptor, address) = (TlsAcceptor::from(config), SocketAddr::new(SERVER.address.parse()?, 443));
    let listener = TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))?;
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (client, from) = accepted.context("accept a connection")?;
                let acceptor = acceptor.clone();
                connections.spawn(async move {
                    if let Err(error) = carry(&acceptor, client).await {
                        tracing::info!(%from, "a connection ended: {error:#}");
                    }
                });
            }
            Some(ended) = connections.join_next() => ended.context("a connection's task")?,
        }
    }
}

async fn carry(acceptor: &TlsAcceptor, client: TcpStream) -> Result<()> {
    let mut client = acceptor.accept(client).await.context("TLS")?;
    let node = UnixStream::connect(CHAIN_SOCKET_PATH).await;
    let mut node = node.with_context(|| format!("connect to {CHAIN_SOCKET_PATH}"))?;
    copy_bidirectional(&mut client, &mut node).await.map(drop).context("carry")
}
