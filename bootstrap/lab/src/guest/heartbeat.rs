//! nitro-cli's part: answers the byte that a booting enclave sends.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_vsock::{VMADDR_CID_ANY, VsockAddr, VsockListener, VsockStream};
use tunnel::port::Port;

/// aws-nitro-enclaves-cli, enclave_proc: the byte that both sides send.
const HEARTBEAT: u8 = 0xb7;

/// Answers until the listener fails.
pub(super) async fn serve() -> Result<()> {
    let address = VsockAddr::new(VMADDR_CID_ANY, Port::HEARTBEAT.0);
    let listener = VsockListener::bind(address).with_context(|| format!("listen on vsock port {}", Port::HEARTBEAT))?;
    loop {
        let (stream, from) = listener.accept().await.context("accept a heartbeat")?;
        match timeout(Duration::from_secs(5), answer(stream)).await {
            Ok(Ok(())) => tracing::info!(cid = from.cid(), "heartbeat answered"),
            Ok(Err(error)) => tracing::warn!(cid = from.cid(), "heartbeat: {error:#}"),
            Err(_) => tracing::warn!(cid = from.cid(), "heartbeat: connected, but nothing came"),
        }
    }
}

async fn answer(mut stream: VsockStream) -> Result<()> {
    let mut byte = [0];
    AsyncReadExt::read_exact(&mut stream, &mut byte).await?;
    ensure!(byte == [HEARTBEAT], "the enclave sent {byte:02x?}, expected [{HEARTBEAT:02x}]");
    AsyncWriteExt::write_all(&mut stream, &byte).await?;
    Ok(())
}
