//! The spent nonces of one account on one chain, exactly, as runs without a gap.
//!
//! Nonces that are signed in order, in whatever direction, are one run however many they are.

/// Whose memory a run takes: an index into the shares of [`super::Nonces`].
pub(super) type ShareIndex = u16;

/// Runs in ascending order; at least one nonce that is not spent lies between two of them.
#[derive(Debug, Default)]
pub(super) struct Runs(Vec<Run>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    first: u64,
    last: u64,
    share: ShareIndex,
}

/// Where a nonce lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In a run, so it is spent. The run's last nonce.
    Inside {
        /// The last nonce of this run.
        last: u64,
    },
    /// Next to a run: spending it takes no more memory.
    Beside,
    /// Alone: spending it makes a run.
    Apart,
}

impl Runs {
    /// Where `nonce` lies.
    pub(super) fn place(&self, nonce: u64) -> Place {
        let (before, after) = self.around(nonce);
        match before {
            Some(before) if nonce <= before.last => Place::Inside { last: before.last },
            _ if joins(before, nonce) || precedes(nonce, after) => Place::Beside,
            _ => Place::Apart,
        }
    }

    /// Adds a nonce that is not spent. Returns the share that gets a run back because two have become one.
    pub(super) fn insert(&mut self, nonce: u64, share: ShareIndex) -> Option<ShareIndex> {
        let (before, after) = self.around(nonce);
        let at = self.split(nonce);
        match (joins(before, nonce), precedes(nonce, after)) {
            (true, true) => {
                let after = self.0.remove(at);
                self.change(at - 1, |before| before.last = after.last);
                return Some(after.share);
            }
            (true, false) => self.change(at - 1, |before| before.last = nonce),
            (false, true) => self.change(at, |after| after.first = nonce),
            (false, false) => {
                // Most accounts stay with one run: a Vec that grows by itself starts with room for four.
                if self.0.is_empty() {
                    self.0.reserve_exact(1);
                }
                self.0.insert(at, Run { first: nonce, last: nonce, share });
            }
        }
        None
    }

    /// How many of the runs take memory of `share`.
    pub(super) fn of(&self, share: ShareIndex) -> usize {
        self.0.iter().filter(|run| run.share == share).count()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// A nonce near this one that takes no memory to spend; none if there is no run.
    pub(super) fn beside(&self, nonce: u64) -> Option<u64> {
        let (before, after) = self.around(nonce);
        before.and_then(|run| run.last.checked_add(1)).or_else(|| after?.first.checked_sub(1))
    }

    /// The last run that begins at or before `nonce`, and the first that begins behind it.
    fn around(&self, nonce: u64) -> (Option<Run>, Option<Run>) {
        let at = self.split(nonce);
        (at.checked_sub(1).and_then(|before| self.0.get(before)).copied(), self.0.get(at).copied())
    }

    fn split(&self, nonce: u64) -> usize {
        self.0.partition_point(|run| run.first <= nonce)
    }

    fn change(&mut self, at: usize, change: impl FnOnce(&mut Run)) {
        change(self.0.get_mut(at).expect("around() found a run there"));
    }
}

fn joins(before: Option<Run>, nonce: u64) -> bool {
    before.is_some_and(|run| run.last.checked_add(1) == Some(nonce))
}

fn precedes(nonce: u64, after: Option<Run>) -> bool {
    after.is_some_and(|run| nonce.checked_add(1) == Some(run.first))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nonces_in_order_are_one_run_in_either_direction() {
        for order in [(0..10_000).collect::<Vec<u64>>(), (0..10_000).rev().collect()] {
            let mut runs = Runs::default();
            for nonce in order {
                assert_eq!(runs.insert(nonce, 0), None);
            }
            assert_eq!(runs.0, [Run { first: 0, last: 9_999, share: 0 }]);
        }
    }

    #[test]
    fn a_gap_that_is_filled_gives_a_run_back_to_the_share_that_paid_for_it() {
        let mut runs = Runs::default();
        assert_eq!((runs.insert(5, 1), runs.insert(7, 2), runs.len()), (None, None, 2));
        assert_eq!(runs.place(6), Place::Beside);
        assert_eq!(runs.insert(6, 3), Some(2));
        assert_eq!(runs.0, [Run { first: 5, last: 7, share: 1 }]);
    }

    #[test]
    fn the_first_and_the_last_number_do_not_overflow() {
        let mut runs = Runs::default();
        for nonce in [u64::MAX, 0, u64::MAX - 1, 1] {
            assert_eq!(runs.insert(nonce, 0), None);
        }
        assert_eq!((runs.len(), runs.place(u64::MAX)), (2, Place::Inside { last: u64::MAX }));
        assert_eq!((runs.place(2), runs.place(3)), (Place::Beside, Place::Apart));
        assert_eq!((runs.beside(100), runs.beside(u64::MAX)), (Some(2), None));
    }

    proptest! {
        #[test]
        fn runs_are_the_set_of_what_was_inserted(nonces in vec(prop_oneof![0..64_u64, u64::MAX - 8..=u64::MAX], 0..200)) {
            let (mut runs, mut set) = (Runs::default(), BTreeSet::new());
            for nonce in nonces {
                if set.insert(nonce) {
                    runs.insert(nonce, 0);
                }
            }
            for nonce in (0..66).chain(u64::MAX - 10..=u64::MAX) {
                let has = |nonce: Option<u64>| nonce.is_some_and(|nonce| set.contains(&nonce));
                let place = runs.place(nonce);
                prop_assert_eq!(matches!(place, Place::Inside { .. }), has(Some(nonce)));
                let is_beside = has(nonce.checked_sub(1)) || has(nonce.checked_add(1));
                prop_assert_eq!(place == Place::Beside, !has(Some(nonce)) && is_beside);
            }
            let starts = set.iter().filter(|nonce| nonce.checked_sub(1).is_none_or(|before| !set.contains(&before)));
            prop_assert_eq!(runs.len(), starts.count());
        }
    }
}
