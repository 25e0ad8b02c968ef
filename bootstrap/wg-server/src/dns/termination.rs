//! The end of a named that is a child of this process.

use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Child;
use tokio::time::timeout;

/// From SIGTERM to SIGKILL.
pub(super) const GRACE: Duration = Duration::from_secs(3);

/// Sends SIGTERM, and kills a child that has not ended within [`GRACE`].
pub(super) async fn terminate(child: &mut Child) -> Result<()> {
    // `None`: it has ended already.
    let Some(pid) = child.id() else { return Ok(()) };
    let raw = i32::try_from(pid).expect("the kernel's PIDs fit in pid_t");
    kill(Pid::from_raw(raw), Signal::SIGTERM).context("signal named")?;
    if timeout(GRACE, child.wait()).await.is_err() {
        tracing::warn!(pid, "named did not end within its grace period and is killed");
        child.kill().await.context("kill named")?;
    }
    Ok(())
}
