//! named as a child process: started, watched, restarted with a growing pause, stopped.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tunnel::backoff::Backoff;

use super::probe;

/// From start to the first answer.
const STARTS_WITHIN: Duration = Duration::from_secs(15);
const PROBE_EVERY: Duration = Duration::from_secs(5);
const PROBE_DEADLINE: Duration = Duration::from_secs(2);
/// One lost probe is load; three are a server that hangs.
const PROBES_LOST: u32 = 3;
/// From SIGTERM to SIGKILL.
const GRACE: Duration = Duration::from_secs(3);

/// How named is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Started, has not answered yet.
    Starting,
    /// Answers.
    Running,
    /// Ended or hung; the next start is due.
    Restarting,
    /// Ended with wg-server.
    Stopped,
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Restarting => "restarting",
            Self::Stopped => "stopped",
        })
    }
}

/// The child to be.
#[derive(Debug)]
pub(crate) struct Named {
    named_path: PathBuf,
    conf_path: PathBuf,
    server: IpAddr,
    state: watch::Sender<State>,
}

/// Why one life of named ended.
enum End {
    Exited(ExitStatus),
    Silent,
    Told,
}

impl Named {
    pub(crate) fn new(named_path: PathBuf, conf_path: PathBuf, server: IpAddr) -> Self {
        Self { named_path, conf_path, server, state: watch::Sender::new(State::Starting) }
    }

    /// How it is doing now. By value: who holds a `watch::Ref` while waiting blocks the sender for ever.
    pub(crate) fn state(&self) -> State {
        *self.state.borrow()
    }

    #[cfg(test)]
    pub(super) fn states(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Keeps named running until told to stop, and stops it.
    ///
    /// To be polled by the main thread only: named gets SIGTERM when the *thread* that started it dies (prctl(2),
    /// PR_SET_PDEATHSIG), which has to mean wg-server.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        let mut backoff = Backoff::new();
        while !stop.is_cancelled() {
            let started = Instant::now();
            self.state.send_replace(State::Starting);
            match self.live(&stop).await {
                Ok(End::Told) => break,
                Ok(End::Exited(status)) => tracing::warn!(%status, "named ended"),
                Ok(End::Silent) => tracing::warn!("named does not answer and was killed"),
                Err(error) => tracing::warn!("{error:#}"),
            }
            self.state.send_replace(State::Restarting);
            backoff.ended(started.elapsed());
            let pause = backoff.next(rand::random());
            tracing::info!(?pause, "named restarts");
            tokio::select! {
                () = stop.cancelled() => break,
                () = sleep(pause) => {}
            }
        }
        self.state.send_replace(State::Stopped);
    }

    async fn live(&self, stop: &CancellationToken) -> Result<End> {
        let mut command = Command::new(&self.named_path);
        // -f: in the foreground, and with the configured logs (-g would send them all to stderr).
        command.arg("-f").arg("-c").arg(&self.conf_path).stdin(Stdio::null()).stdout(Stdio::null());
        crate::sys::bind_to_parent(&mut command);
        let mut child = command.spawn().with_context(|| format!("start {}", self.named_path.display()))?;
        tracing::info!(pid = child.id(), "named started");
        let end = tokio::select! {
            status = child.wait() => End::Exited(status.context("wait for named")?),
            () = self.watch() => End::Silent,
            () = stop.cancelled() => End::Told,
        };
        if !matches!(end, End::Exited(_)) {
            terminate(&mut child).await?;
        }
        Ok(end)
    }

    /// Ends when named has stopped answering.
    async fn watch(&self) {
        let started = Instant::now();
        while !probe::answers(self.server, PROBE_DEADLINE).await {
            if started.elapsed() > STARTS_WITHIN {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
        self.state.send_replace(State::Running);
        tracing::info!(server = %self.server, after = ?started.elapsed(), "named answers");
        let mut lost = 0;
        while lost < PROBES_LOST {
            sleep(PROBE_EVERY).await;
            lost = if probe::answers(self.server, PROBE_DEADLINE).await { 0 } else { lost + 1 };
        }
    }
}

async fn terminate(child: &mut Child) -> Result<()> {
    let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) else { return Ok(()) };
    kill(Pid::from_raw(pid), Signal::SIGTERM).context("signal named")?;
    if timeout(GRACE, child.wait()).await.is_err() {
        tracing::warn!(pid, "named did not end within its grace period and is killed");
        child.kill().await.context("kill named")?;
    }
    Ok(())
}
