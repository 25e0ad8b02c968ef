//! The pauses between attempts to reach the parent, and the log lines about them.

use std::fmt::Display;
use std::time::{Duration, Instant};

use tokio::time::sleep;
use tunnel::backoff::Backoff;

use crate::sys;

/// How often an absent parent is logged again.
const REMINDER: Duration = Duration::from_mins(1);

/// One stream's attempts.
pub(super) struct Retry {
    stream: &'static str,
    backoff: Backoff,
    absence: Absence,
}

impl Retry {
    pub(super) fn new(stream: &'static str) -> Self {
        Self { stream, backoff: Backoff::new(), absence: Absence::default() }
    }

    /// Logs that the stream is up.
    pub(super) fn connected(&mut self, now: Instant) {
        match self.absence.ended(now) {
            Some(away) => tracing::info!(?away, "relay: the {} stream is up, the parent is back", self.stream),
            None => tracing::info!("relay: the {} stream is up", self.stream),
        }
    }

    /// Logs why the stream ended or could not be opened, and waits until the next attempt is due.
    pub(super) async fn pause(&mut self, reason: impl Display, lived: Option<Duration>) {
        if let Some(lived) = lived {
            self.backoff.ended(lived);
            tracing::warn!(?lived, "relay: the {} stream ended: {reason}", self.stream);
        } else if self.absence.is_due(Instant::now()) {
            tracing::warn!("relay: no {} stream to the parent yet: {reason}; dialling until it answers", self.stream);
        }
        let mut random = [0; 4];
        // Without random bytes there is no jitter, which is not worth an error.
        drop(sys::random(&mut random));
        sleep(self.backoff.next(u32::from_ne_bytes(random))).await;
    }
}

/// When to log that the parent is absent: at once, and then each [`REMINDER`].
#[derive(Debug, Default)]
struct Absence {
    since: Option<Instant>,
    last: Option<Instant>,
}

impl Absence {
    fn is_due(&mut self, now: Instant) -> bool {
        self.since.get_or_insert(now);
        let is_due = self.last.is_none_or(|last| now.saturating_duration_since(last) >= REMINDER);
        if is_due {
            self.last = Some(now);
        }
        is_due
    }

    /// Returns how long the parent was absent, if it was.
    fn ended(&mut self, now: Instant) -> Option<Duration> {
        self.last = None;
        self.since.take().map(|since| now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_parent_is_logged_once_and_then_each_minute() {
        let start = Instant::now();
        let mut absence = Absence::default();
        let said: Vec<_> = (0..180).filter(|second| absence.is_due(start + Duration::from_secs(*second))).collect();
        assert_eq!(said, [0, 60, 120]);
        assert_eq!(absence.ended(start + Duration::from_secs(180)), Some(Duration::from_secs(180)));
        assert_eq!(absence.ended(start), None);
        assert!(absence.is_due(start), "a new absence is logged at once");
    }
}
