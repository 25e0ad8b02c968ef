//! What an enclave knows of one window of one owner on one chain.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use ethereum::number::Uint;
use tokio::time::Instant;

use super::super::store::Version;

/// A slice is no more than this part of the limit, unless a signature alone is.
const PARTS_OF_LIMIT: u32 = 32;

/// See the module.
#[derive(Default)]
pub(super) struct Account {
    /// What is left of this enclave's leases, the oldest first.
    held: Vec<Lease>,
    /// For how much the last lease was, and until when.
    last: Option<Lease>,
    /// All leases that count, by name and version: when S3 got them, and for how much.
    counting: BTreeMap<(String, String), (SystemTime, Uint)>,
    /// S3's time, and when it was that.
    clock: Option<(SystemTime, Instant)>,
}

/// A part of the limit that this enclave may spend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) left: Uint,
    pub(super) until: Instant,
}

impl Account {
    /// What may be spent now.
    pub(super) fn left(&mut self, now: Instant) -> Uint {
        self.held.retain(|lease| now < lease.until);
        self.held.iter().fold(Uint::ZERO, |sum, lease| sum.saturating_add(lease.left))
    }

    /// How much to lease where so much is missing: twice the last lease if its time is not over, because all of it is spent.
    pub(super) fn next_slice(&self, missing: Uint, max: Uint, now: Instant) -> Uint {
        let last = self.last.filter(|last| now < last.until).map_or(Uint::ZERO, |last| last.left);
        last.saturating_add(last).min(max.divided_by(PARTS_OF_LIMIT)).max(missing)
    }

    /// Adds a new lease.
    pub(super) fn hold(&mut self, lease: Lease) {
        self.last = Some(lease);
        self.held.push(lease);
    }

    /// Adds what comes back of a lease.
    pub(super) fn take_back(&mut self, lease: Lease) {
        self.held.push(lease);
    }

    /// Takes so much of what [`Self::left`] has found. Its time is that of the lease that ends first.
    pub(super) fn draw(&mut self, amount: Uint) -> Lease {
        let (mut missing, mut until) = (amount, None);
        for lease in &mut self.held {
            if missing == Uint::ZERO {
                break;
            }
            let taken = lease.left.min(missing);
            (lease.left, missing) = (lease.left.saturating_sub(taken), missing.saturating_sub(taken));
            until = Some(until.map_or(lease.until, |until: Instant| until.min(lease.until)));
        }
        self.held.retain(|lease| lease.left > Uint::ZERO);
        Lease { left: amount, until: until.unwrap_or_else(Instant::now) }
    }

    /// The sum of all leases that count.
    pub(super) fn counted(&self) -> Uint {
        self.counting.values().fold(Uint::ZERO, |sum, (_, amount)| sum.saturating_add(*amount))
    }

    /// S3's time, as far as it is known.
    pub(super) fn now(&self, now: Instant) -> Option<SystemTime> {
        self.clock.map(|(time, at)| time + now.saturating_duration_since(at))
    }

    /// S3 says what time it is: drops what does not count any more.
    pub(super) fn pass(&mut self, time: SystemTime, counts_for: Duration) {
        self.clock = Some((time, Instant::now()));
        self.counting.retain(|_version, (modified, _)| *modified + counts_for > time);
    }

    /// Whether a version counts, and nobody knows yet for how much.
    pub(super) fn is_unknown(&self, version: &Version, time: SystemTime, counts_for: Duration) -> bool {
        let id = (version.name.clone(), version.id.clone());
        version.modified + counts_for > time && !self.counting.contains_key(&id)
    }

    /// Counts a lease.
    pub(super) fn count(&mut self, version: &Version, amount: Uint) {
        self.counting.insert((version.name.clone(), version.id.clone()), (version.modified, amount));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(number: u128) -> Uint {
        Uint::from(number)
    }

    #[tokio::test(start_paused = true)]
    async fn a_slice_doubles_while_the_last_is_used_up_in_its_time() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut account = Account::default();
        let max = number(3200);
        assert_eq!(account.next_slice(number(3), max, start), number(3));
        account.hold(Lease { left: number(3), until: start + second });
        assert_eq!(account.next_slice(number(1), max, start), number(6));
        assert_eq!(account.next_slice(number(7), max, start), number(7), "what is missing is always asked for");
        account.hold(Lease { left: number(80), until: start + second });
        assert_eq!(account.next_slice(number(1), max, start), number(100), "a part of the limit");
        assert_eq!(account.next_slice(number(1), max, start + second), number(1), "its time is over");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_held_is_spent_from_the_oldest_and_ends() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut account = Account::default();
        account.hold(Lease { left: number(3), until: start + second });
        account.hold(Lease { left: number(5), until: start + 2 * second });
        assert_eq!(account.draw(number(4)), Lease { left: number(4), until: start + second });
        assert_eq!(account.left(start), number(4));
        account.take_back(Lease { left: number(4), until: start + second });
        assert_eq!(account.left(start), number(8));
        assert_eq!(account.left(start + second), number(4));
        assert_eq!(account.left(start + 2 * second), number(0));
    }
}
