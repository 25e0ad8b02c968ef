//! Notifies systemd when this process is ready, and that it is still alive (sd_notify(3)). Does nothing without systemd.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};

use sd_notify::NotifyState;
use tokio::time::sleep;

/// How many notifications are sent in the time that systemd allows between two.
const PER_TIMEOUT: u32 = 3;

/// The loops that must keep running.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Loop {
    /// Repairs the host.
    Controller,
    /// Removes expired peers, which needs the state that all streams share.
    Expiry,
}

/// Which loops have completed a pass since the last notification.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    controller: AtomicBool,
    expiry: AtomicBool,
}

impl Pulse {
    /// Called by each loop after each pass.
    pub(crate) fn beat(&self, of: Loop) {
        let turned = match of {
            Loop::Controller => &self.controller,
            Loop::Expiry => &self.expiry,
        };
        turned.store(true, Ordering::Relaxed);
    }

    /// Whether every loop has completed a pass. If so, starts over.
    pub(crate) fn all_turned(&self) -> bool {
        let all = [&self.controller, &self.expiry];
        let have_turned = all.iter().all(|turned| turned.load(Ordering::Relaxed));
        if have_turned {
            all.iter().for_each(|turned| turned.store(false, Ordering::Relaxed));
        }
        have_turned
    }
}

/// Notifies systemd's watchdog while `has_turned` is true, if the unit has WatchdogSec.
pub(crate) async fn watch(has_turned: impl Fn() -> bool) -> Infallible {
    let Some(allowed) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    loop {
        sleep(allowed / PER_TIMEOUT).await;
        if has_turned() {
            tell(&[NotifyState::Watchdog]);
        }
    }
}

/// The same for a process with a single loop, after each pass.
pub(crate) fn alive() {
    if sd_notify::watchdog_enabled().is_some() {
        tell(&[NotifyState::Watchdog]);
    }
}

/// Reports that this process is ready.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready, NotifyState::Status("serving")]);
}

/// Reports what the start waits for, for `systemctl status`.
pub(crate) fn waiting_for(what: &str) {
    tell(&[NotifyState::Status(&format!("wg0 and its rules are there, waiting for {what}"))]);
}

pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!("tell systemd: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_loop_that_hangs_stops_the_notifications() {
        let pulse = Pulse::default();
        pulse.beat(Loop::Controller);
        pulse.beat(Loop::Controller);
        assert!(!pulse.all_turned());
        pulse.beat(Loop::Expiry);
        assert!(pulse.all_turned());
        pulse.beat(Loop::Expiry);
        assert!(!pulse.all_turned(), "an old pass counts again");
    }
}
