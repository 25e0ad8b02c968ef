//! nitro-cli's way to the lab: what comes to the socket goes on to the host, which QEMU answers for.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result};
use nitro_cli::hypervisor::SOCKET_PATH;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::task::JoinSet;

/// The host, in the parent's network to it.
pub const ADDRESS: &str = "10.0.2.100:16";

/// Carries until the listener fails.
pub(super) async fn serve() -> Result<()> {
    let listener = UnixListener::bind(SOCKET_PATH).with_context(|| format!("listen on {SOCKET_PATH}"))?;
    // For the enclave's own user.
    fs::set_permissions(SOCKET_PATH, fs::Permissions::from_mode(0o666))
        .with_context(|| format!("open {SOCKET_PATH} to all"))?;
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted.with_context(|| format!("accept on {SOCKET_PATH}"))?;
                streams.spawn(carry(stream));
            }
            Some(ended) = streams.join_next() => {
                if let Err(error) = ended.context("a stream of nitro-cli's").flatten() {
                    tracing::warn!("hypervisor: {error:#}");
                }
            }
        }
    }
}

async fn carry(mut stream: UnixStream) -> Result<()> {
    let mut host = TcpStream::connect(ADDRESS).await.with_context(|| format!("connect to {ADDRESS}"))?;
    copy_bidirectional(&mut stream, &mut host).await.context("carry")?;
    Ok(())
}
