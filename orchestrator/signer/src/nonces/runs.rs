//! The spent nonces of one account on one chain, exactly, as runs without a gap.
//!
//! Nonces that are signed in order, in whatever direction, are one run however many they are.

use std::ops::{Range, RangeInclusive};

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

/// What became of nonces that were added.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Inserted {
    /// They are a run of their own.
    pub(super) is_run_made: bool,
    /// The shares that get a run back because several have become one.
    pub(super) freed: Vec<ShareIndex>,
}

impl Runs {
    /// The run that `nonce` is in.
    pub(super) fn run_with(&self, nonce: u64) -> Option<RangeInclusive<u64>> {
        let run = self.0.get(self.split(nonce).checked_sub(1)?)?;
        (nonce <= run.last).then_some(run.first..=run.last)
    }

    /// Whether any of `nonces` is in a run or next to one.
    pub(super) fn touches(&self, nonces: &RangeInclusive<u64>) -> bool {
        !self.touched(nonces).is_empty()
    }

    /// Adds nonces, which `share` pays for if they are a run of their own.
    pub(super) fn insert(&mut self, nonces: RangeInclusive<u64>, share: ShareIndex) -> Inserted {
        let touched = self.touched(&nonces);
        let (mut first, mut last) = nonces.into_inner();
        let Some((oldest, others)) = self.0.get(touched.clone()).and_then(<[Run]>::split_first) else {
            // Most accounts stay with one run: a Vec that grows by itself starts with room for four.
            if self.0.is_empty() {
                self.0.reserve_exact(1);
            }
            self.0.insert(touched.start, Run { first, last, share });
            return Inserted { is_run_made: true, freed: Vec::new() };
        };
        first = first.min(oldest.first);
        last = last.max(others.last().unwrap_or(oldest).last);
        let freed = others.iter().map(|run| run.share).collect();
        let joined = Run { first, last, share: oldest.share };
        self.0.splice(touched, [joined]);
        Inserted { is_run_made: false, freed }
    }

    /// How many of the runs take memory of `share`.
    pub(super) fn of(&self, share: ShareIndex) -> usize {
        self.0.iter().filter(|run| run.share == share).count()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The last nonce of the run that begins at or before `nonce`, and the first of the next run.
    pub(super) fn around(&self, nonce: u64) -> (Option<u64>, Option<u64>) {
        let at = self.split(nonce);
        let before = at.checked_sub(1).and_then(|before| self.0.get(before));
        (before.map(|run| run.last), self.0.get(at).map(|run| run.first))
    }

    /// Which runs have one of `nonces` or end beside them.
    fn touched(&self, nonces: &RangeInclusive<u64>) -> Range<usize> {
        let start = self.0.partition_point(|run| run.last.saturating_add(1) < *nonces.start());
        let end = self.0.partition_point(|run| run.first <= nonces.end().saturating_add(1));
        start..end
    }

    fn split(&self, nonce: u64) -> usize {
        self.0.partition_point(|run| run.first <= nonce)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// One nonce; the share that gets a run back.
    fn insert(runs: &mut Runs, nonce: u64, share: ShareIndex) -> Option<ShareIndex> {
        let Inserted { freed, .. } = runs.insert(nonce..=nonce, share);
        assert!(freed.len() < 2);
        freed.first().copied()
    }

    #[test]
    fn nonces_in_order_are_one_run_in_either_direction() {
        for order in [(0..10_000).collect::<Vec<u64>>(), (0..10_000).rev().collect()] {
            let mut runs = Runs::default();
            for nonce in order {
                assert_eq!(insert(&mut runs, nonce, 0), None);
            }
            assert_eq!(runs.0, [Run { first: 0, last: 9_999, share: 0 }]);
        }
    }

    #[test]
    fn a_gap_that_is_filled_gives_a_run_back_to_the_share_that_paid_for_it() {
        let mut runs = Runs::default();
        assert_eq!((insert(&mut runs, 5, 1), insert(&mut runs, 7, 2), runs.len()), (None, None, 2));
        assert!(runs.touches(&(6..=6)));
        assert_eq!(insert(&mut runs, 6, 3), Some(2));
        assert_eq!(runs.0, [Run { first: 5, last: 7, share: 1 }]);
    }

    #[test]
    fn a_range_over_several_runs_makes_them_one() {
        let mut runs = Runs::default();
        for (nonce, share) in [(5, 1), (7, 2), (9, 3), (20, 4)] {
            insert(&mut runs, nonce, share);
        }
        assert_eq!(runs.insert(6..=10, 5), Inserted { is_run_made: false, freed: vec![2, 3] });
        assert_eq!(runs.0, [Run { first: 5, last: 10, share: 1 }, Run { first: 20, last: 20, share: 4 }]);
        assert_eq!(runs.insert(12..=14, 5), Inserted { is_run_made: true, freed: vec![] });
        assert_eq!(runs.len(), 3);
    }

    #[test]
    fn the_first_and_the_last_number_do_not_overflow() {
        let mut runs = Runs::default();
        for nonce in [u64::MAX, 0, u64::MAX - 1, 1] {
            assert_eq!(insert(&mut runs, nonce, 0), None);
        }
        assert_eq!((runs.len(), runs.run_with(u64::MAX)), (2, Some(u64::MAX - 1..=u64::MAX)));
        assert_eq!((runs.touches(&(2..=2)), runs.touches(&(3..=3))), (true, false));
        assert_eq!((runs.around(100), runs.around(u64::MAX)), ((Some(1), Some(u64::MAX - 1)), (Some(u64::MAX), None)));
    }

    proptest! {
        #[test]
        fn runs_are_the_set_of_what_was_inserted(
            ranges in vec((prop_oneof![0..64_u64, u64::MAX - 8..=u64::MAX], 0..6_u64), 0..100),
        ) {
            let (mut runs, mut set, mut made) = (Runs::default(), BTreeSet::new(), 0);
            for (first, more) in ranges {
                let range = first..=first.saturating_add(more);
                let touches = runs.touches(&range);
                let Inserted { is_run_made, freed } = runs.insert(range.clone(), 0);
                prop_assert_eq!(is_run_made, !touches);
                made = made + usize::from(is_run_made) - freed.len();
                set.extend(range);
            }
            prop_assert_eq!(runs.len(), made);
            for nonce in (0..76).chain(u64::MAX - 10..=u64::MAX) {
                let has = |nonce: Option<u64>| nonce.is_some_and(|nonce| set.contains(&nonce));
                prop_assert_eq!(runs.run_with(nonce).is_some(), has(Some(nonce)));
                let is_near = has(Some(nonce)) || has(nonce.checked_sub(1)) || has(nonce.checked_add(1));
                prop_assert_eq!(runs.touches(&(nonce..=nonce)), is_near);
            }
            let starts = set.iter().filter(|nonce| nonce.checked_sub(1).is_none_or(|before| !set.contains(&before)));
            prop_assert_eq!(runs.len(), starts.count());
        }
    }
}
