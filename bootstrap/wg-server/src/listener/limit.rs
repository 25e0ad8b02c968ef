//! How many connections may be open that have not said yet what they are.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tunnel::port::Cid;

/// Of one CID: a relay that reconnects has one, or two if the older has not ended yet.
const MAX_PER_CID: usize = 4;
/// Of all CIDs.
const MAX: usize = 64;

/// Counts them.
#[derive(Debug, Default)]
pub(super) struct Limit {
    waiting: Mutex<BTreeMap<Cid, usize>>,
}

/// One of them; dropped when the stream is let in or closed.
#[derive(Debug)]
pub(super) struct Waiting {
    limit: Arc<Limit>,
    cid: Cid,
}

impl Limit {
    /// Room for one more, or `None`.
    pub(super) fn admit(self: &Arc<Self>, cid: Cid) -> Option<Waiting> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let total: usize = waiting.values().sum();
        let own = waiting.get(&cid).copied().unwrap_or(0);
        if total >= MAX || own >= MAX_PER_CID {
            return None;
        }
        waiting.insert(cid, own + 1);
        Some(Waiting { limit: Arc::clone(self), cid })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut waiting = self.limit.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = waiting.get_mut(&self.cid) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                waiting.remove(&self.cid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_enclave_cannot_use_up_the_connections_of_another() {
        let limit = Arc::new(Limit::default());
        let held: Vec<_> = (0..MAX_PER_CID).filter_map(|_| limit.admit(Cid(16))).collect();
        assert_eq!(held.len(), MAX_PER_CID);
        assert!(limit.admit(Cid(16)).is_none());
        assert!(limit.admit(Cid(17)).is_some());
        drop(held);
        assert!(limit.admit(Cid(16)).is_some());
        assert!(limit.waiting.lock().unwrap().is_empty());
    }

    #[test]
    fn all_enclaves_together_are_bounded_too() {
        let limit = Arc::new(Limit::default());
        let held: Vec<_> = (0..1000).filter_map(|cid| limit.admit(Cid(cid))).collect();
        assert_eq!(held.len(), MAX);
    }
}
