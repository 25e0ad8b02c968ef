//! Tests over one byte stream (TCP or vsock): a request line, then bytes.

mod blocks;
mod echo;
mod transfer;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::command::{Direction, Goodput, MAX_BYTES, MAX_MESSAGE, MAX_SECONDS, RoundTrips, Transfer};
use crate::line;

pub(crate) use echo::statistics;
pub(crate) use transfer::same;

/// The first line of every stream, from the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Request {
    /// Both sides send `bytes` at once; then the server sends its hashes in a line.
    Transfer { bytes: u64, seed: u64 },
    /// The client sends blocks; the server sends what it counted in a line.
    Receive,
    /// The server sends blocks for that long.
    Send { seconds: u64 },
    /// The server sends every `size` bytes back.
    Echo { size: u16 },
}

/// Client: the same number of bytes in both directions, hashed at both ends.
///
/// # Errors
/// The stream's own, and any byte that did not arrive as it was sent.
pub(crate) async fn transfer<S>(stream: &mut S, bytes: u64, seed: u64) -> Result<Transfer>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    line::write(stream, &Request::Transfer { bytes, seed }).await?;
    transfer::ask(stream, bytes, seed).await
}

/// Client: as many blocks as one direction takes in that time.
pub(crate) async fn goodput<S>(stream: &mut S, direction: Direction, seconds: u64) -> Result<Goodput>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match direction {
        Direction::Up => {
            line::write(stream, &Request::Receive).await?;
            blocks::send(stream, Duration::from_secs(seconds)).await?;
            line::expect(stream).await
        }
        Direction::Down => {
            line::write(stream, &Request::Send { seconds }).await?;
            blocks::receive(stream).await
        }
    }
}

/// Client: `count` round trips, one at a time.
pub(crate) async fn round_trips<S>(stream: &mut S, count: u32, size: u16) -> Result<RoundTrips>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    line::write(stream, &Request::Echo { size }).await?;
    echo::ask(stream, count, size).await
}

/// Server: one request, until it is done or the client leaves.
pub(crate) async fn serve<S>(stream: &mut S) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Some(request) = line::read(stream).await? else { return Ok(()) };
    answer(stream, request).await
}

/// Server: a request that has been read.
pub(crate) async fn answer<S>(stream: &mut S, request: Request) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match request {
        Request::Transfer { bytes, seed } => {
            ensure!(bytes <= MAX_BYTES, "a client asks for {bytes} bytes, at most {MAX_BYTES} are allowed");
            transfer::answer(stream, bytes, seed).await.context("transfer")
        }
        Request::Receive => {
            let goodput = blocks::receive(stream).await.context("receive blocks")?;
            line::write(stream, &goodput).await
        }
        Request::Send { seconds } => {
            ensure!(seconds <= MAX_SECONDS, "a client asks for {seconds} s, at most {MAX_SECONDS} are allowed");
            blocks::send(stream, Duration::from_secs(seconds)).await.context("send blocks")
        }
        Request::Echo { size } => {
            ensure!(
                size <= MAX_MESSAGE,
                "a client asks for messages of {size} bytes, at most {MAX_MESSAGE} are allowed"
            );
            echo::answer(stream, size).await.context("echo")
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    async fn with_server<T>(client: impl AsyncFnOnce(&mut tokio::io::DuplexStream) -> T) -> T {
        let (mut ours, mut theirs) = duplex(10_000);
        let client = async {
            let result = client(&mut ours).await;
            drop(ours);
            result
        };
        tokio::join!(client, serve(&mut theirs)).0
    }

    #[tokio::test]
    async fn a_transfer_has_equal_hashes_at_both_ends() {
        let transfer = with_server(async |s| transfer(s, 300_001, 5).await).await.unwrap();
        assert_eq!(transfer.sent.sender, transfer.sent.receiver);
        assert_eq!(transfer.received.sender, transfer.received.receiver);
        assert_ne!(transfer.sent, transfer.received);
    }

    /// Passes everything on, but flips one bit of byte `at` towards the server (`up`) or towards the client.
    async fn flipped(at: usize, up: bool) -> String {
        let ((mut client, mut near), (mut far, mut server)) = (duplex(10_000), duplex(10_000));
        let middle = async {
            let ((mut near_read, mut near_write), (mut far_read, mut far_write)) =
                (tokio::io::split(&mut near), tokio::io::split(&mut far));
            tokio::join!(
                forward(&mut near_read, &mut far_write, up.then_some(at)),
                forward(&mut far_read, &mut near_write, (!up).then_some(at))
            );
        };
        let client = async { transfer(&mut client, 100_000, 5).await };
        let server = async { serve(&mut server).await };
        tokio::select! {
            result = client => format!("{:#}", result.unwrap_err()),
            ((), _) = async { tokio::join!(middle, server) } => unreachable!("the client ends first"),
        }
    }

    async fn forward(
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        mut flip_at: Option<usize>,
    ) {
        let mut buffer = [0; 1000];
        while let Ok(n @ 1..) = from.read(&mut buffer).await {
            if let Some(at) = flip_at {
                if at < n {
                    buffer[at] ^= 1;
                    flip_at = None;
                } else {
                    flip_at = Some(at - n);
                }
            }
            if to.write_all(&buffer[..n]).await.is_err() {
                return;
            }
        }
    }

    #[tokio::test]
    async fn a_byte_changed_on_the_way_up_is_an_error() {
        let error = flipped(50_000, true).await;
        assert!(error.contains("to the server: the bytes changed on the way"), "{error}");
    }

    #[tokio::test]
    async fn a_byte_changed_on_the_way_down_is_an_error() {
        let error = flipped(50_000, false).await;
        assert!(error.contains("from the server: the bytes changed on the way"), "{error}");
    }

    #[tokio::test]
    async fn round_trips_are_counted_and_ordered() {
        let trips = with_server(async |s| round_trips(s, 50, 64).await).await.unwrap();
        assert_eq!((trips.count, trips.lost), (50, 0));
        assert!(trips.min <= trips.median && trips.median <= trips.p99);
    }

    #[tokio::test]
    async fn a_server_refuses_more_than_the_limits() {
        for request in [
            Request::Transfer { bytes: MAX_BYTES + 1, seed: 0 },
            Request::Send { seconds: MAX_SECONDS + 1 },
            Request::Echo { size: MAX_MESSAGE + 1 },
        ] {
            let (mut ours, mut theirs) = duplex(10_000);
            line::write(&mut ours, &request).await.unwrap();
            assert!(serve(&mut theirs).await.unwrap_err().to_string().contains("at most"), "{request:?}");
        }
    }
}
