//! `lab parent-vm serve`: raw vsock streams for the benchmark, and nitro-cli's streams to the host.

use std::fs;

use anyhow::{Context, Result};
use tokio::task::JoinSet;

use crate::hypervisor;
use crate::internet::VSOCK_PORT;

/// The line on the parent's console that `lab up` waits for.
pub const READY: &str = "lab: parent ready";

/// Serves until one of the two fails.
pub(crate) async fn run() -> Result<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(hypervisor::serve());
    tasks.spawn(self_test::server::run_vsock(VSOCK_PORT));
    announce()?;
    match tasks.join_next().await {
        Some(ended) => ended.context("a task of the parent")?,
        None => Ok(()),
    }
}

/// Announces on the console that the parent is ready, except for wg-server, which reports its own state.
fn announce() -> Result<()> {
    let uptime = fs::read_to_string("/proc/uptime").context("read /proc/uptime")?;
    let (seconds, _) = uptime.split_once(' ').context("read /proc/uptime: expected two numbers")?;
    // A new line first: systemd leaves the console in the middle of one.
    fs::write("/dev/console", format!("\n{READY} after {seconds} s\n")).context("write /dev/console")
}
