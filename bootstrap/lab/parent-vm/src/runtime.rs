//! The runtimes of the parent's programs.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::runtime::{Builder, Runtime};

/// For one exchange.
pub(crate) fn current_thread() -> Result<Runtime> {
    Builder::new_current_thread().enable_all().build().context("start the runtime")
}

/// For a server.
pub(crate) fn multi_thread() -> Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .thread_keep_alive(Duration::from_secs(1))
        .build()
        .context("start the runtime")
}
