//! named while it lives: a child of this process, or of `wg-server named`.

use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process;
use tokio::time::timeout;

use super::starter::Life;

/// From SIGTERM to SIGKILL.
pub(super) const GRACE: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(super) enum Child {
    Own(process::Child),
    Started(Life),
}

impl Child {
    pub(super) fn id(&self) -> Option<u32> {
        match self {
            Self::Own(child) => child.id(),
            Self::Started(life) => Some(life.pid()),
        }
    }

    /// Its end. May be dropped and called again.
    pub(super) async fn wait(&mut self) -> Result<ExitStatus> {
        match self {
            Self::Own(child) => child.wait().await.context("wait for named"),
            Self::Started(life) => life.wait().await,
        }
    }

    pub(super) async fn kill(&mut self) -> Result<()> {
        match self {
            Self::Own(child) => child.kill().await.context("kill named"),
            Self::Started(life) => life.kill().await,
        }
    }

    /// Has it end in order, and kills it when it does not.
    pub(super) async fn terminate(&mut self) -> Result<()> {
        match self {
            Self::Own(child) => terminate(child).await,
            Self::Started(life) => life.terminate().await,
        }
    }
}

/// As [`Child::terminate`], of a child of this process.
pub(super) async fn terminate(child: &mut process::Child) -> Result<()> {
    let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) else { return Ok(()) };
    kill(Pid::from_raw(pid), Signal::SIGTERM).context("signal named")?;
    if timeout(GRACE, child.wait()).await.is_err() {
        tracing::warn!(pid, "named did not end within its grace period and is killed");
        child.kill().await.context("kill named")?;
    }
    Ok(())
}
