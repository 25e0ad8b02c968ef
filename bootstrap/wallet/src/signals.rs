//! What happens to a verb that serves when a signal comes, and what systemd hears of it.

use anyhow::{Context as _, Result};
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// The signals that are waited for, instead of what they do otherwise.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    pub(crate) fn watch() -> Result<Self> {
        let watch = |kind, name: &'static str| signal(kind).with_context(|| format!("watch {name}"));
        Ok(Self {
            terminate: watch(SignalKind::terminate(), "SIGTERM")?,
            interrupt: watch(SignalKind::interrupt(), "SIGINT")?,
            hang_up: watch(SignalKind::hangup(), "SIGHUP")?,
        })
    }

    /// Serves until SIGTERM or SIGINT. SIGHUP reads the files again. What serves is ready when this is called.
    pub(crate) async fn run<F: Future<Output = Result<()>>>(
        mut self,
        reload: impl Fn() -> Result<()>,
        serve: impl FnOnce(CancellationToken) -> F,
    ) -> Result<()> {
        let stop = CancellationToken::new();
        tell(NotifyState::Ready);
        // `reload` has the senders, whose end would look like a change: it lives until all has ended.
        let signals = async {
            loop {
                tokio::select! {
                    _ = self.terminate.recv() => break,
                    _ = self.interrupt.recv() => break,
                    _ = self.hang_up.recv() => match reload() {
                        Ok(()) => info!("read the certificate and the list of images again"),
                        Err(error) => error!("read the files again: {error:#}; everything stays as it was"),
                    },
                }
            }
            info!("ending");
            tell(NotifyState::Stopping);
            stop.cancel();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            served = serve(stop.clone()) => served,
            () = signals => unreachable!("it is pending"),
        }
    }
}

/// Without systemd there is nobody to tell.
fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        warn!(%error, "notify systemd");
    }
}
