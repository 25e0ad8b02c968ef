//! As many blocks as a direction takes: the measure of goodput.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

use crate::command::Goodput;

/// Bytes of a block, which is one write: the most that vsock may be given at once (larger packets are mis-assembled by
/// several hypervisors). Its first byte is [`MORE`] or [`LAST`].
const LEN: usize = 32_000;
const MORE: u8 = 0;
const LAST: u8 = 1;

/// Sends blocks for `duration`, the last one marked.
pub(super) async fn send(stream: &mut (impl AsyncWrite + Unpin), duration: Duration) -> Result<()> {
    let end = Instant::now() + duration;
    let mut block = [0x5a; LEN];
    loop {
        let [kind, ..] = &mut block;
        *kind = if Instant::now() < end { MORE } else { LAST };
        let is_last = *kind == LAST;
        stream.write_all(&block).await.context("send a block")?;
        if is_last {
            return Ok(stream.flush().await?);
        }
        // On a runtime with one thread, a stream that is always writable would let nothing else run.
        tokio::task::consume_budget().await;
    }
}

/// Receives blocks to the marked one.
pub(super) async fn receive(stream: &mut (impl AsyncRead + Unpin)) -> Result<Goodput> {
    let mut block = [0; LEN];
    let mut start = None;
    let mut bytes = 0;
    loop {
        stream.read_exact(&mut block).await.context("receive a block")?;
        bytes += 32_000;
        let start = *start.get_or_insert_with(Instant::now);
        let [kind, ..] = block;
        if kind != MORE {
            return Ok(Goodput { bytes, elapsed: start.elapsed() });
        }
    }
}
