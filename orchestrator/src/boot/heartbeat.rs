//! The heartbeat: one byte to the parent and back. `nitro-cli run-enclave` waits for it.
//!
//! The only boot step that may fail: a parent that does not answer only denies service, which the threat model allows.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tunnel::port::{Cid, Port};

/// The byte that both sides send (aws-nitro-enclaves-cli, enclave_proc).
const BEAT: u8 = 0xB7;

/// For connecting and both transfers. nitro-cli listens before it starts the enclave.
const DEADLINE: Duration = Duration::from_secs(1);

/// Exchanges the byte; warns if that fails.
pub(super) async fn beat() -> Result<()> {
    match timeout(DEADLINE, exchange()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!("heartbeat: {error:#}; going on without"),
        Err(_) => tracing::warn!("heartbeat: no answer within {DEADLINE:?}; going on without"),
    }
    Ok(())
}

async fn exchange() -> Result<()> {
    let mut stream = tunnel::vsock::connect(Cid::PARENT, Port::HEARTBEAT, DEADLINE).await?;
    stream.write_all(&[BEAT]).await.context("write")?;
    let mut answer = [0];
    stream.read_exact(&mut answer).await.context("read")?;
    ensure!(answer == [BEAT], "the answer is {answer:02x?}, expected [{BEAT:02x}]");
    Ok(())
}
