//! Decides from what was seen of an enclave whether a restart would mend it. No I/O; `now` is the host's monotonic clock.
//!
//! A restart mends an enclave that has stopped working. It does not mend the network, AWS, this host, or an image that
//! wg-server refuses: whatever these explain counts as no fault. A signer that says that it is not ready has answered.

use std::fmt::{self, Display};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::Watchdog;

/// What was seen of the enclave in one look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// It is not to be judged now, and why not.
    Excused(Excuse),
    /// Its unit runs.
    Signs(Signs),
}

/// What explains a missing enclave better than the enclave itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Excuse {
    /// An operator has stopped the unit, or stops or starts it.
    Stopped(String),
    /// systemd starts it again, because the enclave ended.
    Restarting(u32),
    /// There is no answer from wg-server, or from systemd.
    Unknown(String),
    /// A problem of this host that wg-server reports.
    Host(String),
    /// wg-server refuses the image's document, and would refuse the next one.
    Refused(String),
}

/// What a running enclave shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signs {
    /// The unit's life: systemd's invocation ID.
    pub(crate) life: String,
    /// How often systemd has started the unit again since somebody started it.
    pub(crate) ends: u32,
    pub(crate) has_control: bool,
    pub(crate) has_data: bool,
    /// Its key is proved, and has had a handshake.
    pub(crate) is_peer: bool,
    /// Changes with each handshake.
    pub(crate) handshake: Option<u64>,
    pub(crate) ready: Ready,
}

/// What the signer answered to `GET /ready`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ready {
    /// It was not asked: there is no signer, no tunnel, or no way to it.
    NotAsked,
    /// With any status. A signer that waits for KMS is not hung.
    Answered(u16),
    /// With the error.
    Silent(String),
}

/// Why an enclave is restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fault {
    Control,
    Proof,
    Data,
    Handshake,
    Ready,
    Ends,
}

/// What has to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Nothing,
    Restart(Fault),
    /// Restarts do not mend it.
    GiveUp(Fault),
}

/// What the watchdog knows and did. Times are those of the monotonic clock, so that it is the same after a restart of the watchdog.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Judge {
    life: Option<Life>,
    /// Since when the tunnel lacks something.
    broken: Option<(Duration, Fault)>,
    /// The latest handshake, and when it was first seen.
    handshake: Option<(u64, Duration)>,
    pub(crate) ready: Option<Ready>,
    ready_failures: u32,
    pub(crate) excuse: Option<Excuse>,
    /// Since when there was no look without a fault.
    unwell: Option<Duration>,
    /// A restart was asked for, and its life has not begun.
    is_ours: bool,
    /// Restarts by the watchdog.
    pub(crate) restarts: Vec<(Duration, Fault)>,
    /// When the enclave ended by itself.
    ended: Vec<Duration>,
    pub(crate) gave_up: Option<(Duration, Fault)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Life {
    id: String,
    ends: u32,
}

impl Judge {
    /// One look. A restart that it asks for counts as made.
    pub(crate) fn judge(&mut self, look: Look, settings: &Watchdog, now: Duration) -> Step {
        let is_recent = |at: Duration| now.saturating_sub(at) < settings.restarts_within;
        self.restarts.retain(|(at, _)| is_recent(*at));
        self.ended.retain(|at| is_recent(*at));
        let signs = match look {
            Look::Excused(excuse) => return self.excused(excuse, settings, now),
            Look::Signs(signs) => signs,
        };
        self.excuse = None;
        self.begin_life(&signs, now);
        let fault = self.fault(&signs, settings, now);
        self.ready = Some(signs.ready);
        if self.broken.is_none() && self.ready_failures == 0 && fault.is_none() {
            (self.unwell, self.gave_up) = (None, None);
            return Step::Nothing;
        }
        self.unwell.get_or_insert(now);
        match fault {
            Some(fault) => self.act(fault, settings, now),
            None => self.give_up_on_ends(settings, now),
        }
    }

    fn excused(&mut self, excuse: Excuse, settings: &Watchdog, now: Duration) -> Step {
        self.forget();
        let step = match &excuse {
            Excuse::Restarting(ends) => {
                self.count_ends(*ends, now);
                self.unwell.get_or_insert(now);
                self.give_up_on_ends(settings, now)
            }
            Excuse::Stopped(_) => {
                self.unwell = None;
                Step::Nothing
            }
            Excuse::Unknown(_) | Excuse::Host(_) | Excuse::Refused(_) => Step::Nothing,
        };
        self.excuse = Some(excuse);
        step
    }

    /// What an earlier look saw says nothing about the present.
    fn forget(&mut self) {
        (self.broken, self.handshake, self.ready, self.ready_failures) = (None, None, None, 0);
    }

    fn begin_life(&mut self, signs: &Signs, now: Duration) {
        let Some(before) = self.life.clone() else {
            self.life = Some(Life { id: signs.life.clone(), ends: signs.ends });
            return;
        };
        if before.id == signs.life {
            return;
        }
        self.forget();
        if std::mem::take(&mut self.is_ours) || signs.ends > 0 {
            self.count_ends(signs.ends, now);
        } else {
            // Somebody has started it. What was before is theirs to know.
            (self.restarts, self.ended, self.gave_up, self.unwell) = (Vec::new(), Vec::new(), None, None);
        }
        self.life = Some(Life { id: signs.life.clone(), ends: signs.ends });
    }

    fn count_ends(&mut self, ends: u32, now: Duration) {
        let Some(life) = &mut self.life else { return };
        // systemd counts from zero when somebody starts the unit.
        let new = ends.checked_sub(life.ends).unwrap_or(ends);
        life.ends = ends;
        self.ended.extend((0..new).map(|_| now));
    }

    fn fault(&mut self, signs: &Signs, settings: &Watchdog, now: Duration) -> Option<Fault> {
        let missing = match (signs.has_control, signs.is_peer, signs.has_data) {
            (false, ..) => Some(Fault::Control),
            (true, false, _) => Some(Fault::Proof),
            (true, true, false) => Some(Fault::Data),
            (true, true, true) => None,
        };
        // One time for all of them: an enclave that cannot prove itself loses one stream after the other.
        self.broken = missing.map(|fault| (self.broken.map_or(now, |(since, _)| since), fault));
        if self.handshake.map(|(of, _)| of) != signs.handshake {
            self.handshake = signs.handshake.map(|of| (of, now));
        }
        self.ready_failures = match signs.ready {
            Ready::Silent(_) => self.ready_failures.saturating_add(1),
            Ready::NotAsked | Ready::Answered(_) => 0,
        };
        if let Some((_, fault)) = self.broken.filter(|(since, _)| is_over(*since, settings.tunnel_within, now)) {
            return Some(fault);
        }
        if self.handshake.is_some_and(|(_, since)| is_over(since, settings.handshake_within, now)) {
            return Some(Fault::Handshake);
        }
        (self.ready_failures >= settings.ready_failures).then_some(Fault::Ready)
    }

    fn act(&mut self, fault: Fault, settings: &Watchdog, now: Duration) -> Step {
        if self.gave_up.is_some() {
            return Step::Nothing;
        }
        let made = self.restarts.len();
        if made + self.ended.len() >= count(settings.restarts) {
            self.gave_up = Some((now, fault));
            return Step::GiveUp(fault);
        }
        if self.restarts.last().is_some_and(|(last, _)| !is_over(*last, backoff(settings, made), now)) {
            return Step::Nothing;
        }
        self.restarts.push((now, fault));
        self.is_ours = true;
        self.forget();
        Step::Restart(fault)
    }

    /// systemd itself restarts an enclave that ends. Here this only has a limit.
    fn give_up_on_ends(&mut self, settings: &Watchdog, now: Duration) -> Step {
        let is_unwell = self.unwell.is_some_and(|since| is_over(since, settings.tunnel_within, now));
        let made = self.restarts.len() + self.ended.len();
        if self.gave_up.is_some() || !is_unwell || self.ended.is_empty() || made < count(settings.restarts) {
            return Step::Nothing;
        }
        self.gave_up = Some((now, Fault::Ends));
        Step::GiveUp(Fault::Ends)
    }

    /// A fault that is there, but not for long enough, or not yet due: since when, and which.
    pub(crate) fn suspicion(&self) -> Option<(Fault, Option<Duration>)> {
        let broken = self.broken.map(|(since, fault)| (fault, Some(since)));
        broken.or_else(|| (self.ready_failures > 0).then_some((Fault::Ready, None)))
    }

    /// How often the enclave ended by itself lately.
    pub(crate) fn ends(&self) -> usize {
        self.ended.len()
    }
}

/// Before the next restart, after `made` of them.
fn backoff(settings: &Watchdog, made: usize) -> Duration {
    let doublings = u32::try_from(made).unwrap_or(u32::MAX).saturating_sub(1);
    2_u32.checked_pow(doublings).and_then(|times| settings.backoff.checked_mul(times)).unwrap_or(Duration::MAX)
}

fn is_over(since: Duration, limit: Duration, now: Duration) -> bool {
    now.saturating_sub(since) >= limit
}

fn count(number: u32) -> usize {
    usize::try_from(number).expect("at most 100")
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Control => "no control stream (watchdog.tunnel_within)",
            Self::Proof => "no proof of its key (watchdog.tunnel_within)",
            Self::Data => "its relay has no data stream (watchdog.tunnel_within)",
            Self::Handshake => "no handshake (watchdog.handshake_within)",
            Self::Ready => "its signer does not answer /ready (watchdog.ready_failures)",
            Self::Ends => "it ends again and again (watchdog.restarts)",
        })
    }
}

impl Display for Excuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped(state) => write!(f, "not watched while the unit is {state}"),
            Self::Restarting(_) => write!(f, "the enclave ended, and systemd starts it again"),
            Self::Unknown(why) => write!(f, "not judged: {why}"),
            Self::Host(problem) => write!(f, "not judged because of a problem of this host: {problem}"),
            Self::Refused(reason) => write!(f, "not restarted, because wg-server would refuse it again: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests;
