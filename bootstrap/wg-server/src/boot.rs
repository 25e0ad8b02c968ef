//! A moment of this boot, on a clock that nobody can set. What is in the kernel does not outlive the boot.

use anyhow::{Context, Result};
use nix::time::{ClockId, clock_gettime};

/// Now.
#[derive(Debug)]
pub(crate) struct Boot {
    pub(crate) id: String,
    /// Seconds.
    pub(crate) now: i64,
}

impl Boot {
    pub(crate) fn this() -> Result<Self> {
        let path = "/proc/sys/kernel/random/boot_id";
        let id = std::fs::read_to_string(path).with_context(|| format!("read {path}"))?;
        let now = clock_gettime(ClockId::CLOCK_BOOTTIME).context("read the time since boot")?;
        Ok(Self { id: id.trim().to_owned(), now: now.tv_sec() })
    }
}
