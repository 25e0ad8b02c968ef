//! How a daemon is told to end.

use std::convert::Infallible;

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Runs a daemon until it has ended. SIGTERM or SIGINT cancels its token.
pub(crate) async fn run_until_signal<F: Future<Output = Result<()>>>(
    daemon: impl FnOnce(CancellationToken) -> F,
) -> Result<()> {
    let stop = CancellationToken::new();
    tokio::select! {
        result = daemon(stop.clone()) => result,
        error = cancel_on_signal(&stop) => error.map(|never| match never {}),
    }
}

/// The first signal cancels the token. The orderly end takes its time, and a further signal does not cut it short.
async fn cancel_on_signal(stop: &CancellationToken) -> Result<Infallible> {
    let mut terminate = signal(SignalKind::terminate()).context("watch SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("watch SIGINT")?;
    loop {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
            _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
        }
        stop.cancel();
    }
}
