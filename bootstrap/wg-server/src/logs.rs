//! `wg-server logs`: writes the enclaves' console lines to this host's journal.
//!
//! A process of its own: a flood of lines costs wg-server no time, and a program that breaks it has not broken wg-server. It works
//! beside `wg-server run` and beside `wg-server relay`.

mod journal;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::runtime;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tunnel::control::{self, ControlError};
use tunnel::log::{self, Line, MAX_TEXT};
use tunnel::port::{Cid, Port};
use tunnel::vsock::Stream;

use crate::accept::{self, Waiting};
use crate::{ports, service_manager, signals};
use journal::Journal;

/// Of one stream. An orchestrator sends half of it at most; what sends more waits.
const LINES_PER_SECOND: usize = 200;
const BYTES_PER_SECOND: usize = 256 << 10;
const SECOND: Duration = Duration::from_secs(1);
/// From the connection to the end of the header.
const DEADLINE: Duration = Duration::from_secs(5);

/// Serves until SIGTERM or SIGINT.
pub(crate) fn run() -> Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(signals::run_until_signal(serve))
}

async fn serve(stop: CancellationToken) -> Result<()> {
    Journal::check()?;
    let listener = ports::listen(Port::LOG)?;
    tracing::info!("writing what enclaves send to vsock port {} to the journal, as enclave@CID", Port::LOG);
    service_manager::ready();
    accept::each(&listener, "log", &stop, serve_enclave).await;
    Ok(())
}

/// A stream counts as one that has not identified itself for as long as it lives, so there are few of each enclave.
async fn serve_enclave(mut stream: Stream, cid: Cid, _waiting: Waiting<Cid>) {
    let end = match timeout(DEADLINE, header(&mut stream)).await.context("wait for the header").flatten() {
        Ok(()) => {
            tracing::info!(enclave = %cid, "log stream open");
            let journal = Journal::of(cid);
            read(&mut stream, |line| journal.write(&line)).await
        }
        Err(error) => Err(error),
    };
    let reason = end.map_or_else(|error| format!("{error:#}"), |()| "the enclave closed it".to_owned());
    tracing::info!(enclave = %cid, reason, "log stream ended");
    // A new stream starts with a new second, so this one keeps its place for as long.
    sleep(SECOND).await;
}

async fn header(stream: &mut (impl AsyncRead + Unpin)) -> Result<()> {
    let mut header = [0; 8];
    stream.read_exact(&mut header).await.context("read the header")?;
    Ok(log::check(header)?)
}

/// Reads lines until the enclave closes the stream.
async fn read(stream: &mut (impl AsyncRead + Unpin), write: impl Fn(Line) -> Result<()>) -> Result<()> {
    let (mut begin, mut lines, mut bytes) = (Instant::now(), 0, 0);
    loop {
        let line: Line = match control::read(stream).await {
            Ok(line) => line,
            Err(ControlError::Closed) => return Ok(()),
            Err(ControlError::Stream(error)) => return Err(error).context("read a line"),
            Err(ControlError::Message(error)) => return Err(error).context("read a line"),
        };
        ensure!(line.text.len() <= MAX_TEXT, "a line of {} bytes, expected at most {MAX_TEXT}", line.text.len());
        lines += 1;
        bytes += line.text.len();
        write(line)?;
        if lines >= LINES_PER_SECOND || bytes >= BYTES_PER_SECOND {
            sleep_until(begin + SECOND).await;
            (begin, lines, bytes) = (Instant::now(), 0, 0);
        }
    }
}

#[cfg(test)]
mod tests;
