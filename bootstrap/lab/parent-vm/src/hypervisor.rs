//! Forwards nitro-cli's streams to the host, where QEMU passes them to `lab hypervisor`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result};
use nitro_cli::hypervisor::SOCKET_PATH;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::task::JoinSet;

/// The host's address in the parent's network to it.
pub const ADDRESS: &str = "10.0.2.100:16";

/// Forwards streams until the listener fails.
pub(super) async fn serve() -> Result<()> {
    let listener = UnixListener::bind(SOCKET_PATH).with_context(|| format!("listen on {SOCKET_PATH}"))?;
    // For the enclaves' user.
    fs::set_permissions(SOCKET_PATH, fs::Permissions::from_mode(0o666))
        .with_context(|| format!("open {SOCKET_PATH} to all users"))?;
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted.with_context(|| format!("accept on {SOCKET_PATH}"))?;
                streams.spawn(forward(stream));
            }
            Some(ended) = streams.join_next() => {
                if let Err(error) = ended.context("a stream of nitro-cli").flatten() {
                    tracing::warn!("hypervisor: {error:#}");
                }
            }
        }
    }
}

async fn forward(mut stream: UnixStream) -> Result<()> {
    let mut host = TcpStream::connect(ADDRESS).await.with_context(|| format!("connect to {ADDRESS}"))?;
    copy_bidirectional(&mut stream, &mut host).await.context("forward a stream of nitro-cli")?;
    Ok(())
}
