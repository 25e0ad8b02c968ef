//! What systemd hears of this process: when it serves, and that it still does (sd_notify(3)).
//!
//! Started by anybody else, it tells nobody.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};

use sd_notify::NotifyState;
use tokio::time::sleep;

/// Of the time that systemd allows between two signs of life.
const PER_TIMEOUT: u32 = 3;

/// The loops that have to turn.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Loop {
    /// It puts back what others change on the host.
    Controller,
    /// It ends enclaves that have had their time, which needs what all their streams share.
    Expiry,
}

/// Which loops have turned since the last sign of life.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    controller: AtomicBool,
    expiry: AtomicBool,
}

impl Pulse {
    /// Called by each loop at each turn.
    pub(crate) fn beat(&self, of: Loop) {
        let turned = match of {
            Loop::Controller => &self.controller,
            Loop::Expiry => &self.expiry,
        };
        turned.store(true, Ordering::Relaxed);
    }

    /// Whether every loop has; the next answer is about the time from now on.
    pub(crate) fn all_turned(&self) -> bool {
        let all = [&self.controller, &self.expiry];
        let have_turned = all.iter().all(|turned| turned.load(Ordering::Relaxed));
        if have_turned {
            all.iter().for_each(|turned| turned.store(false, Ordering::Relaxed));
        }
        have_turned
    }
}

/// Gives systemd a sign of life again and again, while `has_turned`, if its unit has WatchdogSec.
pub(crate) async fn watch(has_turned: impl Fn() -> bool) -> Infallible {
    let Some(allowed) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    loop {
        sleep(allowed / PER_TIMEOUT).await;
        if has_turned() {
            tell(&[NotifyState::Watchdog]);
        }
    }
}

/// Everything that this process needs to serve is there.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready, NotifyState::Status("serving")]);
}

/// What is missing until then, for `systemctl status`.
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
    fn one_loop_that_stands_still_is_no_sign_of_life() {
        let pulse = Pulse::default();
        pulse.beat(Loop::Controller);
        pulse.beat(Loop::Controller);
        assert!(!pulse.all_turned());
        pulse.beat(Loop::Expiry);
        assert!(pulse.all_turned());
        pulse.beat(Loop::Expiry);
        assert!(!pulse.all_turned(), "an old turn counts again");
    }
}
