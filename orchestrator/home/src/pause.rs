//! How long one who calls waits before the next attempt, and which failures are worth a line of the log.

use std::time::Duration;

use tokio::time::Instant;

/// How often a failure that goes on is logged again.
const REMINDER: Duration = Duration::from_mins(1);

/// Waits that double from the first to the longest, each shortened at random by up to a half: those who lost the
/// same server do not come back in step.
#[derive(Debug)]
pub struct Pauses {
    first: Duration,
    longest: Duration,
    attempts: u32,
}

/// What has gone wrong with one server, as the log has it.
#[derive(Debug, Default)]
pub struct Troubles {
    is_up: bool,
    last: Option<(String, Instant)>,
}

impl Pauses {
    /// Waits from `first` to `longest`.
    #[must_use]
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, attempts: 0 }
    }

    /// The wait after one more attempt. `random` is any uniformly distributed number.
    pub fn next(&mut self, random: u32) -> Duration {
        // More doublings than this would overflow, and no longest pause needs them.
        let longest = self.first.saturating_mul(1 << self.attempts.min(16)).min(self.longest);
        self.attempts = self.attempts.saturating_add(1);
        longest / 2 + (longest / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
    }

    /// A connection was a good one.
    pub const fn reset(&mut self) {
        self.attempts = 0;
    }
}

impl Troubles {
    /// Whether the failure is worth a line: another one than the last, or the same for a while.
    pub fn is_news(&mut self, reason: &str, now: Instant) -> bool {
        self.is_up = false;
        let is_known = |(last, at): &(String, Instant)| last == reason && now < *at + REMINDER;
        if self.last.as_ref().is_some_and(is_known) {
            return false;
        }
        self.last = Some((reason.to_owned(), now));
        true
    }

    /// A connection has succeeded. Whether that is news.
    pub fn ended(&mut self) -> bool {
        self.last = None;
        !std::mem::replace(&mut self.is_up, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses() -> Pauses {
        Pauses::new(Duration::from_millis(100), Duration::from_secs(30))
    }

    #[test]
    fn pauses_double_and_stay_at_the_longest() {
        let mut pauses = pauses();
        let waits: Vec<_> = (0..40).map(|_| pauses.next(u32::MAX).as_millis()).collect();
        assert_eq!(waits[..10], [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000]);
        assert!(waits[10..].iter().all(|wait| *wait == 30_000));
    }

    #[test]
    fn jitter_takes_at_most_a_half() {
        assert_eq!(pauses().next(0), Duration::from_millis(50));
    }

    #[test]
    fn after_a_good_connection_the_next_pause_is_the_first() {
        let mut pauses = pauses();
        let waits: Vec<_> = (0..9).map(|_| pauses.next(u32::MAX)).collect();
        assert!(waits[8] > waits[0]);
        pauses.reset();
        assert_eq!(pauses.next(u32::MAX), Duration::from_millis(100));
    }

    #[test]
    fn a_failure_is_logged_once_a_minute_and_another_one_at_once() {
        let (mut troubles, start) = (Troubles::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(troubles.is_news("refused", after(0)));
        assert!(!troubles.is_news("refused", after(59)));
        assert!(troubles.is_news("refused", after(60)));
        assert!(troubles.is_news("no nonce", after(61)));
        assert!(troubles.ended());
        assert!(!troubles.ended(), "a renewed connection is no news");
        assert!(troubles.is_news("no nonce", after(62)));
        assert!(troubles.ended());
    }
}
