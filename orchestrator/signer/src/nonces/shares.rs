//! How the memory is divided among payers.
//!
//! Half of the runs are divided equally, and each payer's part is guaranteed. The other half is common, first come, first served, for
//! payers who have used up their part; but keys that come with requests, of which a client can make any number, together get no more than
//! half of it. The latest transactions are divided equally.

use std::collections::VecDeque;

use super::runs::ShareIndex;
use super::{Account, Bounds, Payer};

/// How the runs are divided among payers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Division {
    /// How many payers there are.
    pub payers: usize,
    /// Runs that each of them has for itself.
    pub guaranteed: usize,
    /// Runs that are first come, first served.
    pub common: usize,
}

/// The shares of all payers.
#[derive(Debug)]
pub(super) struct Shares {
    all: Vec<Share>,
    division: Division,
    /// How many of the common runs are taken.
    common: usize,
    /// How many of these by shares of keys that come with requests.
    common_brought: usize,
    /// Latest transactions of each.
    max_latest: usize,
}

/// What one payer has.
#[derive(Debug)]
pub(super) struct Share {
    pub(super) client: String,
    pub(super) is_key_brought: bool,
    pub(super) runs: usize,
    /// The oldest in front.
    latest: VecDeque<(Account, u64)>,
}

impl Division {
    /// Of `runs` among `payers`.
    #[must_use]
    pub fn of(runs: usize, payers: usize) -> Self {
        let payers = payers.clamp(1, usize::from(ShareIndex::MAX));
        let guaranteed = (runs / 2 / payers).max(1);
        Self { payers, guaranteed, common: runs.saturating_sub(guaranteed * payers) }
    }
}

impl Shares {
    pub(super) fn new(payers: usize, bounds: Bounds) -> Self {
        let division = Division::of(bounds.runs, payers);
        let max_latest = (bounds.latest / division.payers).max(1);
        Self { all: Vec::new(), division, common: 0, common_brought: 0, max_latest }
    }

    /// The payer's share.
    pub(super) fn of(&mut self, payer: Payer<'_>) -> ShareIndex {
        let Payer { client, is_key_brought } = payer;
        let is_theirs = |share: &Share| share.client == client && share.is_key_brought == is_key_brought;
        let at = self.all.iter().position(is_theirs).unwrap_or_else(|| {
            if self.all.len() < self.division.payers {
                let latest = VecDeque::new();
                self.all.push(Share { client: client.to_owned(), is_key_brought, runs: 0, latest });
            }
            // More payers than the configuration has would share the last part: the bound holds in any case.
            self.all.len() - 1
        });
        ShareIndex::try_from(at).expect("there are at most ShareIndex::MAX shares")
    }

    pub(super) fn get(&self, index: ShareIndex) -> &Share {
        self.all.get(usize::from(index)).expect("of() made it")
    }

    /// Whether the share may have one run more, after `more` others.
    pub(super) fn has_room(&self, index: ShareIndex, more: usize) -> bool {
        let share = self.get(index);
        // How many of these and of the one would be common ones.
        let common = (share.runs + more + 1).saturating_sub(self.division.guaranteed.max(share.runs));
        let is_open = self.common + common <= self.division.common
            && (!share.is_key_brought || self.common_brought + common <= self.division.common / 2);
        common == 0 || is_open
    }

    /// Gives the share one run more.
    pub(super) fn take(&mut self, index: ShareIndex) {
        let guaranteed = self.division.guaranteed;
        let share = self.get_mut(index);
        share.runs += 1;
        let (is_common, is_brought) = (share.runs > guaranteed, share.is_key_brought);
        self.common += usize::from(is_common);
        self.common_brought += usize::from(is_common && is_brought);
    }

    /// Takes a run back from the share.
    pub(super) fn give_back(&mut self, index: ShareIndex) {
        let guaranteed = self.division.guaranteed;
        let share = self.get_mut(index);
        let (is_common, is_brought) = (share.runs > guaranteed, share.is_key_brought);
        share.runs -= 1;
        self.common -= usize::from(is_common);
        self.common_brought -= usize::from(is_common && is_brought);
    }

    /// Notes a transaction as the share's latest. Returns its oldest, which has to make room.
    pub(super) fn note(&mut self, index: ShareIndex, id: (Account, u64)) -> Option<(Account, u64)> {
        let max_latest = self.max_latest;
        let latest = &mut self.get_mut(index).latest;
        let oldest = (latest.len() >= max_latest).then(|| latest.pop_front()).flatten();
        latest.push_back(id);
        oldest
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Share> {
        self.all.iter()
    }

    pub(super) fn division(&self) -> Division {
        self.division
    }

    /// How many of the common runs are taken.
    pub(super) fn common(&self) -> usize {
        self.common
    }

    pub(super) fn max_latest(&self) -> usize {
        self.max_latest
    }

    fn get_mut(&mut self, index: ShareIndex) -> &mut Share {
        self.all.get_mut(usize::from(index)).expect("of() made it")
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn half_is_guaranteed_and_the_rest_common() {
        assert_eq!(Division::of(1 << 18, 27), Division { payers: 27, guaranteed: 4854, common: 131_086 });
        assert_eq!(Division::of(1 << 18, 1), Division { payers: 1, guaranteed: 131_072, common: 131_072 });
        // However many there are, each has something, and there is not more than all.
        assert_eq!(Division::of(8, 8), Division { payers: 8, guaranteed: 1, common: 0 });
        assert_eq!(Division::of(1 << 18, 0).payers, 1);
        assert_eq!(Division::of(1 << 18, 1 << 20).payers, 65_535);
    }

    proptest! {
        #[test]
        fn nobody_takes_what_is_guaranteed_to_another(steps in vec((0..4_usize, any::<bool>()), 0..200), runs in 8..40_usize) {
            let bounds = Bounds { runs, ..Bounds::default() };
            let mut shares = Shares::new(4, bounds);
            let clients = ["a", "b", "c", "d"];
            let indices = clients.map(|client| shares.of(Payer { client, is_key_brought: false }));
            let guaranteed = runs / 8;
            for (at, is_taken) in steps {
                let index = indices[at];
                let has = shares.get(index).runs;
                prop_assert!(has >= guaranteed || shares.has_room(index, 0), "a guaranteed run is not there");
                if is_taken && shares.has_room(index, 0) {
                    shares.take(index);
                } else if !is_taken && has > 0 {
                    shares.give_back(index);
                }
                let held: Vec<usize> = shares.iter().map(|share| share.runs).collect();
                prop_assert!(held.iter().sum::<usize>() <= runs);
                let beyond: usize = held.iter().map(|held| held.saturating_sub(guaranteed)).sum();
                prop_assert_eq!(shares.common(), beyond);
                // What nobody has is there for one who has used up its own.
                let is_free = beyond < runs - 4 * guaranteed;
                prop_assert_eq!(shares.has_room(index, 0), held[at] < guaranteed || is_free);
            }
        }
    }
}
