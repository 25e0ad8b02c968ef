//! How long to wait before the next attempt to connect.

use std::time::Duration;

/// Waits that double from 50 ms to 5 s, each shortened at random by up to a half, so that enclaves that lost the same
/// parent do not come back in step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The longest the first wait can be.
    pub const FIRST: Duration = Duration::from_millis(50);
    /// The longest any wait can be.
    pub const LONGEST: Duration = Duration::from_secs(5);
    /// A connection that lived so long was a good one: what comes after it starts from [`Backoff::FIRST`].
    pub const LIVED: Duration = Duration::from_secs(10);

    /// A backoff before its first attempt has failed.
    pub const fn new() -> Self {
        Self { failures: 0 }
    }

    /// How long to wait now, after one more attempt that failed or connection that ended.
    ///
    /// `random` is any uniformly distributed number.
    pub fn next(&mut self, random: u32) -> Duration {
        // 50 ms doubled seven times is over 5 s already; more doublings would only overflow.
        let longest = (Self::FIRST * 2_u32.pow(self.failures.min(7))).min(Self::LONGEST);
        self.failures = self.failures.saturating_add(1);
        longest / 2 + (longest / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
    }

    /// A connection ended after it `lived` so long.
    pub fn ended(&mut self, lived: Duration) {
        if lived >= Self::LIVED {
            self.failures = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_from_50_ms_to_5_s_and_stay_there() {
        let mut backoff = Backoff::new();
        let waits: Vec<_> = (0..10).map(|_| backoff.next(u32::MAX).as_millis()).collect();
        assert_eq!(waits, [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
    }

    #[test]
    fn jitter_takes_at_most_a_half() {
        let mut backoff = Backoff::new();
        assert_eq!(backoff.next(0), Backoff::FIRST / 2);
        let mut backoff = Backoff { failures: u32::MAX };
        assert_eq!(backoff.next(0), Backoff::LONGEST / 2);
    }

    #[test]
    fn a_connection_that_lived_starts_again_from_the_shortest_wait() {
        let mut backoff = Backoff { failures: 9 };
        backoff.ended(Backoff::LIVED);
        assert_eq!(backoff.next(u32::MAX), Backoff::FIRST);
    }

    #[test]
    fn a_connection_that_died_at_once_changes_nothing() {
        let mut backoff = Backoff { failures: 9 };
        backoff.ended(Backoff::LIVED - Duration::from_millis(1));
        assert_eq!(backoff.next(u32::MAX), Backoff::LONGEST);
    }
}
