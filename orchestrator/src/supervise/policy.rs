//! How long to wait before a process is restarted, and when it has ended too often.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The first wait. Each further end within [`WINDOW`] doubles it.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// This many ends within [`WINDOW`] are too many.
const MAX_ENDS: usize = 10;
const WINDOW: Duration = Duration::from_mins(5);

/// What to do about a process that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    RestartAfter(Duration),
    /// It ended this often within this time: reboot the machine.
    GiveUp {
        ends: usize,
        within: Duration,
    },
}

/// The times at which one process ended, within [`WINDOW`].
#[derive(Clone, Debug, Default)]
pub(crate) struct RestartPolicy {
    ends: VecDeque<Instant>,
}

impl RestartPolicy {
    /// Records an end at `now`.
    pub(crate) fn ended(&mut self, now: Instant) -> Verdict {
        while self.ends.front().is_some_and(|end| now.saturating_duration_since(*end) > WINDOW) {
            self.ends.pop_front();
        }
        self.ends.push_back(now);
        if self.ends.len() >= MAX_ENDS {
            return Verdict::GiveUp { ends: self.ends.len(), within: WINDOW };
        }
        let doublings = u32::try_from(self.ends.len() - 1).expect("fewer than MAX_ENDS");
        Verdict::RestartAfter((FIRST * 2_u32.pow(doublings)).min(LONGEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_five_seconds_and_then_it_is_given_up() {
        let mut policy = RestartPolicy::default();
        let now = Instant::now();
        let waits: Vec<_> = (0..9)
            .map(|_| match policy.ended(now) {
                Verdict::RestartAfter(wait) => wait.as_millis(),
                Verdict::GiveUp { .. } => panic!("too early"),
            })
            .collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
        assert_eq!(policy.ended(now), Verdict::GiveUp { ends: 10, within: WINDOW });
    }

    #[test]
    fn ends_that_are_long_ago_are_forgotten() {
        let mut policy = RestartPolicy::default();
        let mut now = Instant::now();
        for _ in 0..100 {
            assert!(matches!(policy.ended(now), Verdict::RestartAfter(_)));
            now += WINDOW / 8;
        }
        now += WINDOW * 2;
        assert_eq!(policy.ended(now), Verdict::RestartAfter(FIRST));
    }
}
