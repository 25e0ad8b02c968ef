//! The order of datagrams: what arrived too early waits, what arrived twice is counted once.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::WINDOW;
use crate::pattern::hex;

/// Hashes payloads in the order of their numbers, whatever order they arrive in.
///
/// Keeps at most [`WINDOW`] payloads.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    next: u32,
    early: BTreeMap<u32, Vec<u8>>,
    hash: Sha256,
}

impl Assembly {
    /// Takes a payload. False if it is too far ahead to be kept: its sender has to send it again.
    pub(super) fn insert(&mut self, number: u32, payload: &[u8]) -> bool {
        if number >= self.next.saturating_add(WINDOW) {
            return false;
        }
        if number >= self.next {
            self.early.entry(number).or_insert_with(|| payload.to_vec());
        }
        while let Some(payload) = self.early.remove(&self.next) {
            self.hash.update(payload);
            self.next += 1;
        }
        true
    }

    /// True once everything before `number` has arrived.
    pub(super) const fn is_complete_to(&self, number: u32) -> bool {
        self.next >= number
    }

    /// SHA-256 of everything that is in order.
    pub(super) fn sha256(&self) -> [u8; 32] {
        self.hash.clone().finalize().into()
    }

    /// As [`Assembly::sha256`], as text.
    pub(super) fn into_hex(self) -> String {
        hex(self.hash)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_payload_beyond_the_window_is_not_kept() {
        let mut assembly = Assembly::default();
        assert!(!assembly.insert(WINDOW, b"far"));
        assert!(assembly.insert(WINDOW - 1, b"near"));
        assert_eq!(assembly.early.len(), 1);
    }

    proptest! {
        #[test]
        fn any_order_and_any_repetition_give_one_hash(
            order in Just((0..WINDOW).collect::<Vec<_>>()).prop_shuffle(),
            again in proptest::collection::vec(0..WINDOW, 0..20),
        ) {
            let payload = |number: u32| vec![u8::try_from(number).unwrap(); 3];
            let mut assembly = Assembly::default();
            for number in order.into_iter().chain(again) {
                prop_assert!(assembly.insert(number, &payload(number)));
            }
            prop_assert!(assembly.is_complete_to(WINDOW));
            let expected: [u8; 32] = Sha256::digest((0..WINDOW).flat_map(payload).collect::<Vec<_>>()).into();
            prop_assert_eq!(assembly.sha256(), expected);
        }
    }
}
