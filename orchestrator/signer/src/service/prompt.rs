//! A connection whose writes make progress: a client that asks and does not read, or hardly, is not waited for.
//!
//! A long answer holds memory that others wait for until it has left, see [`super::budget`]. So a client may pause for a while, and over
//! the whole answer has to take [`RATE`].

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// Bytes a second. The longest answer, of 1 MiB, leaves in 74 seconds, and nobody's link is that slow.
const RATE: u64 = 16 * 1024;

/// A stream whose client takes something of what is written within `limit`, and of all that is written [`RATE`] with `limit` to spare,
/// or the write fails.
pub(super) struct Prompt<S> {
    stream: S,
    limit: Duration,
    /// From the first write that had to wait until all has left.
    behind: Option<Behind>,
    /// While a write waits for the client.
    waiting: Option<Pin<Box<Sleep>>>,
}

#[derive(Clone, Copy)]
struct Behind {
    since: Instant,
    /// Bytes that the client has taken meanwhile.
    taken: u64,
}

impl<S> Prompt<S> {
    pub(super) const fn new(stream: S, limit: Duration) -> Self {
        Self { stream, limit, behind: None, waiting: None }
    }

    /// What a write came to.
    fn judge(&mut self, context: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(result) = written {
            self.waiting = None;
            if let (Some(behind), Ok(bytes)) = (&mut self.behind, &result) {
                behind.taken += *bytes as u64;
            }
            return Poll::Ready(result);
        }
        let (limit, now) = (self.limit, Instant::now());
        let behind = *self.behind.get_or_insert(Behind { since: now, taken: 0 });
        let deadline = behind.deadline(limit).min(now + limit);
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        waiting.as_mut().poll(context).map(|()| {
            let (taken, elapsed) = (behind.taken, behind.since.elapsed());
            let text = format!(
                "the client took {taken} bytes of an answer in {elapsed:.1?}, expected {RATE} a second and no pause of {limit:?}"
            );
            Err(io::Error::new(io::ErrorKind::TimedOut, text))
        })
    }
}

impl Behind {
    /// When the client would have been too slow as a whole.
    fn deadline(&self, limit: Duration) -> Instant {
        self.since + limit + Duration::from_millis(self.taken.saturating_mul(1000) / RATE)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prompt<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, to)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prompt<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.judge(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.judge(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// TLS comes here when it has written all that it had.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        if flushed.is_ready() {
            self.behind = None;
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::sleep;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);
    const SECOND: Duration = Duration::from_secs(1);

    /// What comes of an answer of so many bytes whose client takes a piece after each pause, and how long it took.
    async fn written(len: usize, piece: usize, pause: Duration) -> (io::Result<()>, Duration) {
        let (server, mut client) = duplex(piece);
        let (mut server, start) = (Prompt::new(server, LIMIT), Instant::now());
        let reading = async {
            let mut bytes = vec![0; piece];
            loop {
                sleep(pause).await;
                client.read_exact(&mut bytes).await.unwrap();
            }
        };
        let writing = async {
            server.write_all(&vec![0; len]).await?;
            server.flush().await
        };
        tokio::select! {
            result = writing => (result, start.elapsed()),
            () = reading => unreachable!(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_ends_a_write() {
        let (result, elapsed) = written(17, 16, Duration::from_hours(1)).await;
        let error = result.unwrap_err();
        assert_eq!((error.kind(), elapsed), (io::ErrorKind::TimedOut, LIMIT));
        assert!(error.to_string().starts_with("the client took 0 bytes of an answer in 10.0s"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_a_byte_now_and_then_ends_a_write_as_soon() {
        let (result, elapsed) = written(1 << 20, 1, Duration::from_secs(9)).await;
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(elapsed <= LIMIT + SECOND, "{elapsed:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_at_half_the_rate_ends_a_write_after_twice_the_time() {
        let (result, elapsed) = written(1 << 20, 8 * 1024, SECOND).await;
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!((18..=22).contains(&elapsed.as_secs()), "{elapsed:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_at_the_rate_gets_the_longest_answer() {
        let (result, elapsed) = written(1 << 20, 16 * 1024, SECOND).await;
        result.unwrap();
        assert!((60..=66).contains(&elapsed.as_secs()), "{elapsed:?}");
        let (result, _) = written(1 << 20, 128 * 1024, 8 * SECOND).await;
        result.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_stops_in_the_middle_is_not_waited_for_longer() {
        let (server, mut client) = duplex(1 << 19);
        let (mut server, start) = (Prompt::new(server, LIMIT), Instant::now());
        let answer = vec![0; 2 << 20];
        let (result, ()) = tokio::join!(server.write_all(&answer), async {
            let mut bytes = vec![0; 1 << 20];
            client.read_exact(&mut bytes).await.unwrap();
        });
        assert_eq!((result.unwrap_err().kind(), start.elapsed()), (io::ErrorKind::TimedOut, LIMIT));
    }

    #[tokio::test(start_paused = true)]
    async fn each_answer_has_its_own_time() {
        let (server, mut client) = duplex(1);
        let mut server = Prompt::new(server, LIMIT);
        for _ in 0..5 {
            let (result, byte) = tokio::join!(
                async {
                    server.write_all(&[1, 2]).await?;
                    server.flush().await
                },
                async {
                    sleep(LIMIT - SECOND).await;
                    client.read_u8().await.unwrap();
                    client.read_u8().await
                }
            );
            result.unwrap();
            assert_eq!(byte.unwrap(), 2);
        }
    }
}
