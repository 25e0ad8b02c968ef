//! The pauses between attempts to reach the parent, and what the console hears about them.

use std::fmt::Display;
use std::time::{Duration, Instant};

use tokio::time::sleep;
use tunnel::backoff::Backoff;

use crate::sys;

/// How often a parent that stays away is mentioned again.
const RHYTHM: Duration = Duration::from_mins(1);

/// One stream's attempts.
pub(super) struct Retry {
    stream: &'static str,
    backoff: Backoff,
    complaints: Complaints,
}

impl Retry {
    pub(super) fn new(stream: &'static str) -> Self {
        Self { stream, backoff: Backoff::new(), complaints: Complaints::default() }
    }

    /// The stream is up.
    pub(super) fn connected(&mut self, now: Instant) {
        match self.complaints.over(now) {
            Some(away) => tracing::info!(?away, "relay: the {} stream is up, the parent is there again", self.stream),
            None => tracing::info!("relay: the {} stream is up", self.stream),
        }
    }

    /// The stream ended, or never was; waits until the next attempt is due.
    pub(super) async fn pause(&mut self, reason: impl Display, lived: Option<Duration>) {
        if let Some(lived) = lived {
            self.backoff.ended(lived);
            tracing::warn!(?lived, "relay: the {} stream ended: {reason}", self.stream);
        } else if self.complaints.is_due(Instant::now()) {
            tracing::warn!("relay: no {} stream to the parent yet: {reason}; trying until it is there", self.stream);
        }
        let mut random = [0; 4];
        // A generator that fails costs the jitter, nothing else.
        drop(sys::random(&mut random));
        sleep(self.backoff.next(u32::from_ne_bytes(random))).await;
    }
}

/// When to say that the parent is away: at once, and then at a slow rhythm.
#[derive(Debug, Default)]
struct Complaints {
    since: Option<Instant>,
    last: Option<Instant>,
}

impl Complaints {
    fn is_due(&mut self, now: Instant) -> bool {
        self.since.get_or_insert(now);
        let is_due = self.last.is_none_or(|last| now.saturating_duration_since(last) >= RHYTHM);
        if is_due {
            self.last = Some(now);
        }
        is_due
    }

    /// How long the parent was away, if it was.
    fn over(&mut self, now: Instant) -> Option<Duration> {
        self.last = None;
        self.since.take().map(|since| now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_parent_is_mentioned_once_and_then_each_minute() {
        let start = Instant::now();
        let mut complaints = Complaints::default();
        let said: Vec<_> = (0..180).filter(|second| complaints.is_due(start + Duration::from_secs(*second))).collect();
        assert_eq!(said, [0, 60, 120]);
        assert_eq!(complaints.over(start + Duration::from_secs(180)), Some(Duration::from_secs(180)));
        assert_eq!(complaints.over(start), None);
        assert!(complaints.is_due(start), "a new absence is mentioned at once");
    }
}
