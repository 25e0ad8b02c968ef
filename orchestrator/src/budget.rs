//! A rate limit for messages and lines that can flood PID 1 or the console.

use std::time::{Duration, Instant};

/// A limit per second.
#[derive(Debug)]
pub(crate) struct Budget {
    per_second: u32,
    second: Option<Instant>,
    spent: u32,
}

impl Budget {
    pub(crate) const fn new(per_second: u32) -> Self {
        Self { per_second, second: None, spent: 0 }
    }

    pub(crate) fn spend(&mut self, now: Instant) {
        match self.second {
            Some(start) if now.saturating_duration_since(start) < Duration::from_secs(1) => self.spent += 1,
            _ => (self.second, self.spent) = (Some(now), 1),
        }
    }

    /// When the next is allowed. None: now.
    pub(crate) fn open_at(&self) -> Option<Instant> {
        self.second.filter(|_| self.spent >= self.per_second).map(|start| start + Duration::from_secs(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_waits_for_the_next_second() {
        let mut budget = Budget::new(20);
        let start = Instant::now();
        for _ in 0..20 {
            assert_eq!(budget.open_at(), None);
            budget.spend(start);
        }
        assert_eq!(budget.open_at(), Some(start + Duration::from_secs(1)));
        budget.spend(start + Duration::from_secs(1));
        assert_eq!(budget.open_at(), None);
    }
}
