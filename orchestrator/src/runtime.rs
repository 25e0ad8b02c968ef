//! The runtime of each process of the enclave.

use anyhow::{Context, Result};
use tokio::runtime::{Builder, Runtime};

/// One thread, no more.
pub(crate) fn single_threaded() -> Result<Runtime> {
    Builder::new_current_thread().enable_all().build().context("start the runtime")
}
