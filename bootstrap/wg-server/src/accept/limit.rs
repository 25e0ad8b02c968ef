//! Limits the connections that have not yet identified themselves.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Of all peers together.
const MAX: usize = 64;

/// Counts them by peer.
#[derive(Debug)]
pub(crate) struct Limit<K> {
    max_each: usize,
    waiting: Mutex<BTreeMap<K, usize>>,
}

/// One of them. Dropped when the stream opens or the connection closes.
#[derive(Debug)]
pub(crate) struct Waiting<K: Ord + Copy> {
    limit: Arc<Limit<K>>,
    from: K,
}

impl<K: Ord + Copy> Limit<K> {
    pub(super) const fn new(max_each: usize) -> Self {
        Self { max_each, waiting: Mutex::new(BTreeMap::new()) }
    }

    /// Reserves room for one more; `None` if there is no room.
    pub(super) fn reserve(self: &Arc<Self>, from: K) -> Option<Waiting<K>> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let total: usize = waiting.values().sum();
        let own = waiting.get(&from).copied().unwrap_or(0);
        if total >= MAX || own >= self.max_each {
            return None;
        }
        waiting.insert(from, own + 1);
        Some(Waiting { limit: Arc::clone(self), from })
    }
}

impl<K: Ord + Copy> Drop for Waiting<K> {
    fn drop(&mut self) {
        let mut waiting = self.limit.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = waiting.get_mut(&self.from) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                waiting.remove(&self.from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_enclave_cannot_use_up_the_connections_of_another() {
        let limit = Arc::new(Limit::new(4));
        let held: Vec<_> = (0..4).filter_map(|_| limit.reserve(16)).collect();
        assert_eq!(held.len(), 4);
        assert!(limit.reserve(16).is_none());
        assert!(limit.reserve(17).is_some());
        drop(held);
        assert!(limit.reserve(16).is_some());
        assert!(limit.waiting.lock().unwrap().is_empty());
    }

    #[test]
    fn all_of_them_together_are_bounded_too() {
        let limit = Arc::new(Limit::new(4));
        let held: Vec<_> = (0..1000).filter_map(|from| limit.reserve(from)).collect();
        assert_eq!(held.len(), MAX);
    }
}
