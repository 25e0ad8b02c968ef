//! PID 1's boot steps before the network. The first step that fails reboots the machine.

mod clock;
mod heartbeat;
mod mounts;
mod vsock;

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use tokio::runtime::Runtime;
use tunnel::port::Cid;

use crate::config::{CONFIG_DIR, CONFIG_PATH, Config};
use crate::console;
use crate::nsm::Nsm;

pub(crate) use clock::Clock;
pub(crate) use mounts::{EMPTY_DIR, seal_root};

/// The results of the boot steps.
pub(crate) struct Booted {
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) nsm: Nsm,
    pub(crate) cid: Cid,
    /// The relay's end of the log, unless the log stays in the enclave.
    pub(crate) log: Option<OwnedFd>,
}

/// Runs all boot steps in order.
///
/// # Errors
/// The step's name, its object, and the cause.
pub(crate) fn run(runtime: &Runtime) -> Result<Booted> {
    // Until the console step, standard error is the console that the kernel opened for init, if it has one.
    console::log();
    step("mounts", mounts::mount_all)?;
    let log = step("console", console::open)?;
    let nsm = step("nsm", || runtime.block_on(Nsm::open_and_seed()))?;
    let cid = step("vsock", vsock::check)?;
    step("heartbeat", || runtime.block_on(heartbeat::beat()))?;
    let config = step("config", || {
        let config = Config::load(Path::new(CONFIG_PATH))?;
        config.check_programs(Path::new(CONFIG_DIR))?;
        Ok(config)
    })?;
    let clock = step("clock", Clock::find)?;
    let log = config.logs.to_parent.then_some(log);
    Ok(Booted { config, clock, nsm, cid, log })
}

/// Runs one boot step and logs how long it took.
pub(crate) fn step<T>(name: &'static str, run: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let result = run().context(name).context("boot")?;
    tracing::info!(elapsed = ?start.elapsed(), "boot: {name}");
    Ok(result)
}
