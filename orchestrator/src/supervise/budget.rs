//! How much of PID 1's time the relay may have.

use std::time::{Duration, Instant};

/// Messages from the relay that are served in a second: it speaks for the parent, who may flood.
const MESSAGES_PER_SECOND: u32 = 20;

/// How many messages may still be served in this second.
#[derive(Debug, Default)]
pub(super) struct Budget {
    second: Option<Instant>,
    spent: u32,
}

impl Budget {
    pub(super) fn spend(&mut self, now: Instant) {
        match self.second {
            Some(start) if now.saturating_duration_since(start) < Duration::from_secs(1) => self.spent += 1,
            _ => (self.second, self.spent) = (Some(now), 1),
        }
    }

    /// When the next may be served; none: at once.
    pub(super) fn open_at(&self) -> Option<Instant> {
        self.second.filter(|_| self.spent >= MESSAGES_PER_SECOND).map(|start| start + Duration::from_secs(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_waits_for_the_next_second() {
        let mut budget = Budget::default();
        let start = Instant::now();
        for _ in 0..MESSAGES_PER_SECOND {
            assert_eq!(budget.open_at(), None);
            budget.spend(start);
        }
        assert_eq!(budget.open_at(), Some(start + Duration::from_secs(1)));
        budget.spend(start + Duration::from_secs(1));
        assert_eq!(budget.open_at(), None);
    }
}
