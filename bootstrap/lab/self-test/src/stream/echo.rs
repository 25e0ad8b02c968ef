//! Round trips over a stream, and the statistics of any round trips.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::command::RoundTrips;
use crate::pattern::Pattern;

pub(super) async fn ask<S>(stream: &mut S, count: u32, size: u16) -> Result<RoundTrips>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut message = vec![0; size.into()];
    let mut answer = message.clone();
    let mut times = Vec::new();
    for index in 0..count {
        Pattern::new(0).at(index).fill(&mut message);
        let start = Instant::now();
        stream.write_all(&message).await.context("send a request")?;
        stream.flush().await?;
        stream.read_exact(&mut answer).await.context("receive an answer")?;
        times.push(start.elapsed());
        ensure!(message == answer, "answer {index} is not what was sent");
    }
    Ok(statistics(times, 0))
}

pub(super) async fn answer<S>(stream: &mut S, size: u16) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut message = vec![0; size.into()];
    loop {
        match stream.read_exact(&mut message).await {
            Ok(_) => stream.write_all(&message).await?,
            Err(end) if end.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        stream.flush().await?;
    }
}

/// Orders times and picks; all zero if there are none.
pub(crate) fn statistics(mut times: Vec<Duration>, lost: u32) -> RoundTrips {
    times.sort_unstable();
    let at = |percent: usize| {
        let index = (times.len() * percent).div_ceil(100).saturating_sub(1);
        times.get(index).copied().unwrap_or_default()
    };
    RoundTrips { count: u32::try_from(times.len()).unwrap_or(u32::MAX), lost, min: at(0), median: at(50), p99: at(99) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_and_the_99th_of_a_hundred_are_the_50th_and_the_99th() {
        let times = (1..=100).rev().map(Duration::from_millis).collect();
        let trips = statistics(times, 2);
        let milliseconds = [trips.min, trips.median, trips.p99].map(|time| time.as_millis());
        assert_eq!((milliseconds, trips.count, trips.lost), ([1, 50, 99], 100, 2));
        assert_eq!(statistics(Vec::new(), 0).median, Duration::ZERO);
    }
}
