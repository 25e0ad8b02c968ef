//! Pseudo-random bytes both ways at once, hashed by sender and receiver.

use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::command::{Hashes, Transfer};
use crate::line;
use crate::pattern::{Pattern, hex};

const CHUNK: usize = 16_000;

/// The server's last line: SHA-256 of what it sent and of what it received.
#[derive(Debug, Serialize, Deserialize)]
struct Done {
    sent: String,
    received: String,
}

pub(super) async fn ask<S>(stream: &mut S, bytes: u64, seed: u64) -> Result<Transfer>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let start = Instant::now();
    let (ours, theirs) = exchange(stream, bytes, Pattern::new(seed)).await?;
    let done: Done = line::expect(stream).await.context("wait for the server's hashes")?;
    let elapsed = start.elapsed();
    let sent = Hashes { sender: ours, receiver: done.received };
    let received = Hashes { sender: done.sent, receiver: theirs };
    same(&sent).context("to the server")?;
    same(&received).context("from the server")?;
    ensure!(
        received.receiver == expected(bytes, Pattern::answer_to(seed)),
        "the server sent another stream than asked"
    );
    Ok(Transfer { bytes, sent, received, elapsed, datagrams: None })
}

pub(super) async fn answer<S>(stream: &mut S, bytes: u64, seed: u64) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (sent, received) = exchange(stream, bytes, Pattern::answer_to(seed)).await?;
    line::write(stream, &Done { sent, received }).await
}

/// Refuses a transfer whose two hashes differ.
pub(crate) fn same(hashes: &Hashes) -> Result<()> {
    if hashes.sender != hashes.receiver {
        bail!("the bytes changed on the way: SHA-256 {} sent, {} received", hashes.sender, hashes.receiver);
    }
    Ok(())
}

/// Sends `bytes` of the pattern while it receives as many; the hashes of both.
async fn exchange<S>(stream: &mut S, bytes: u64, pattern: Pattern) -> Result<(String, String)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut read, mut write) = tokio::io::split(stream);
    tokio::try_join!(send(&mut write, bytes, pattern), receive(&mut read, bytes))
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), bytes: u64, mut pattern: Pattern) -> Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = [0; CHUNK];
    let mut left = bytes;
    while left > 0 {
        let chunk = first(&mut buffer, left);
        pattern.fill(chunk);
        hash.update(&*chunk);
        stream.write_all(chunk).await.with_context(|| format!("send byte {} of {bytes}", bytes - left))?;
        left -= length(chunk);
    }
    stream.flush().await?;
    Ok(hex(hash))
}

async fn receive(stream: &mut (impl AsyncRead + Unpin), bytes: u64) -> Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = [0; CHUNK];
    let mut left = bytes;
    while left > 0 {
        let chunk = first(&mut buffer, left);
        let n = stream.read(chunk).await.with_context(|| format!("receive byte {} of {bytes}", bytes - left))?;
        if n == 0 {
            bail!("the stream ended {left} bytes early");
        }
        let chunk = chunk.get(..n).expect("read fills no more than the buffer");
        hash.update(chunk);
        left -= length(chunk);
    }
    Ok(hex(hash))
}

fn expected(bytes: u64, mut pattern: Pattern) -> String {
    let mut hash = Sha256::new();
    let mut buffer = [0; CHUNK];
    let mut left = bytes;
    while left > 0 {
        let chunk = first(&mut buffer, left);
        pattern.fill(chunk);
        hash.update(&*chunk);
        left -= length(chunk);
    }
    hex(hash)
}

/// The buffer, or as much of it as `left` needs.
fn first(buffer: &mut [u8], left: u64) -> &mut [u8] {
    let n = usize::try_from(left).expect("usize has 64 bits on x86_64").min(buffer.len());
    buffer.split_at_mut(n).0
}

fn length(chunk: &[u8]) -> u64 {
    u64::try_from(chunk.len()).expect("usize has 64 bits on x86_64")
}
