//! The wall clock: follows the hypervisor's clock, never the tunnel, and never steps backwards.
//!
//! A WireGuard handshake carries the wall-clock time. A peer ignores a handshake that is older than the last one.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime, clock_settime};

use crate::sys;

const PTP_PATH: &str = "/dev/ptp0";
const SOURCE_PATH: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";

/// Smaller offsets are not corrected.
const TOLERANCE: Duration = Duration::from_micros(100);

/// At boot, before the first handshake, a clock that is at least this far behind steps forward.
const STEP: Duration = Duration::from_secs(1);

/// The hypervisor's clock, if the machine has one.
pub(crate) struct Clock {
    hypervisor: Option<File>,
}

/// How far the wall clock is behind or ahead of the hypervisor's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Offset {
    Behind(Duration),
    Ahead(Duration),
}

impl Clock {
    /// How often to call [`Clock::correct`]. Slewing corrects at most 500 µs in each second.
    pub(crate) const INTERVAL: Duration = Duration::from_secs(64);

    /// Opens the hypervisor's clock, and steps the wall clock forward if it is at least [`STEP`] behind.
    pub(super) fn find() -> Result<Self> {
        let source = fs::read_to_string(SOURCE_PATH).unwrap_or_else(|_| "unknown".into());
        let source = source.trim();
        let hypervisor = match File::open(PTP_PATH) {
            Ok(clock) => Some(clock),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).context(PTP_PATH),
        };
        let clock = Self { hypervisor };
        match clock.offset().context(PTP_PATH)? {
            None => tracing::info!(source, "clock: no {PTP_PATH}; the time at power-on is not corrected"),
            Some(Offset::Behind(by)) if by >= STEP => {
                let now = clock_gettime(ClockId::CLOCK_REALTIME).map_err(io::Error::from)?;
                clock_settime(ClockId::CLOCK_REALTIME, now + TimeSpec::from(by)).map_err(io::Error::from)?;
                tracing::info!(source, ?by, "clock: stepped forward to {PTP_PATH}");
            }
            Some(offset) => tracing::info!(source, ?offset, "clock: follows {PTP_PATH}"),
        }
        Ok(clock)
    }

    /// Slews the wall clock towards the hypervisor's.
    pub(crate) fn correct(&self) {
        let result = match self.offset() {
            Ok(Some(Offset::Behind(by))) if by > TOLERANCE => sys::slew_clock(by, false),
            Ok(Some(Offset::Ahead(by))) if by > TOLERANCE => sys::slew_clock(by, true),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            tracing::warn!("clock: {PTP_PATH}: {error}");
        }
    }

    fn offset(&self) -> io::Result<Option<Offset>> {
        let Some(hypervisor) = &self.hypervisor else { return Ok(None) };
        // FD_TO_CLOCKID (include/linux/posix-timers.h): a clock's descriptor, inverted, with CLOCKFD in its low bits.
        let clock = ClockId::from_raw((!hypervisor.as_raw_fd() << 3) | 3);
        let theirs = Duration::from(clock_gettime(clock)?);
        let ours = Duration::from(clock_gettime(ClockId::CLOCK_REALTIME)?);
        Ok(Some(compare(ours, theirs)))
    }
}

fn compare(ours: Duration, theirs: Duration) -> Offset {
    theirs.checked_sub(ours).map_or_else(|| Offset::Ahead(ours.abs_diff(theirs)), Offset::Behind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_ahead_or_behind_by_the_difference() {
        let (early, late) = (Duration::from_secs(10), Duration::from_secs(12));
        assert_eq!(compare(early, late), Offset::Behind(Duration::from_secs(2)));
        assert_eq!(compare(late, early), Offset::Ahead(Duration::from_secs(2)));
    }
}
