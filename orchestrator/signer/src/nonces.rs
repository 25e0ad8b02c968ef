//! Which transaction each nonce has been spent on, as far back as memory is allowed to go.
//!
//! It remembers since boot: a restarted enclave has signed nothing. Where memory ends, the answer is no: of each account on
//! each chain the lowest nonces are forgotten first, and no forgotten nonce is signed for again.

use std::collections::{BTreeMap, HashMap};

use thiserror::Error;

use crate::address::Address;

/// Accounts, each on one chain.
const MAX_ACCOUNTS: usize = 256;

/// Of each account; with [`MAX_ACCOUNTS`], some 20 MB.
const MAX_NONCES: usize = 1024;

/// What has been signed.
#[derive(Debug, Default)]
pub struct Nonces {
    accounts: HashMap<(Address, u64), Account>,
}

#[derive(Debug, Default)]
struct Account {
    /// By nonce, the hash that was signed.
    spent: BTreeMap<u64, [u8; 32]>,
    /// Lower ones are forgotten.
    floor: u64,
}

/// Why a transaction may not have its nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NonceError {
    /// Another one has.
    #[error("another transaction has been signed for nonce {0}")]
    Spent(u64),
    /// It may have been spent on anything.
    #[error("nonce {nonce} is too old to be remembered, expected {floor} or more")]
    Forgotten {
        /// The request's.
        nonce: u64,
        /// The lowest that is remembered.
        floor: u64,
    },
    /// No room for another account.
    #[error("{MAX_ACCOUNTS} accounts are remembered and this would be another")]
    Full,
}

impl Nonces {
    /// Spends a nonce on the transaction that has this hash, for good. The same transaction may come again.
    ///
    /// # Errors
    /// It is spent on another, or may be.
    pub fn spend(&mut self, key: Address, chain_id: u64, nonce: u64, hash: [u8; 32]) -> Result<(), NonceError> {
        let id = (key, chain_id);
        if self.accounts.len() >= MAX_ACCOUNTS && !self.accounts.contains_key(&id) {
            return Err(NonceError::Full);
        }
        let account = self.accounts.entry(id).or_default();
        if nonce < account.floor {
            return Err(NonceError::Forgotten { nonce, floor: account.floor });
        }
        if *account.spent.entry(nonce).or_insert(hash) != hash {
            return Err(NonceError::Spent(nonce));
        }
        if account.spent.len() > MAX_NONCES
            && let Some((lowest, _hash)) = account.spent.pop_first()
        {
            account.floor = lowest + 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Address = Address([1; 20]);

    #[test]
    fn a_nonce_is_spent_on_one_transaction_which_may_come_again() {
        let mut nonces = Nonces::default();
        assert_eq!(nonces.spend(KEY, 1, 7, [1; 32]), Ok(()));
        assert_eq!(nonces.spend(KEY, 1, 7, [1; 32]), Ok(()));
        assert_eq!(nonces.spend(KEY, 1, 7, [2; 32]), Err(NonceError::Spent(7)));
        assert_eq!(nonces.spend(KEY, 1, 7, [1; 32]), Ok(()));
    }

    #[test]
    fn other_keys_chains_and_nonces_are_other_nonces() {
        let mut nonces = Nonces::default();
        assert_eq!(nonces.spend(KEY, 1, 7, [1; 32]), Ok(()));
        assert_eq!(nonces.spend(KEY, 2, 7, [2; 32]), Ok(()));
        assert_eq!(nonces.spend(KEY, 1, 8, [2; 32]), Ok(()));
        assert_eq!(nonces.spend(Address([2; 20]), 1, 7, [2; 32]), Ok(()));
    }

    #[test]
    fn memory_is_bounded_and_what_is_forgotten_is_refused() {
        let mut nonces = Nonces::default();
        for nonce in 0..10_000 {
            assert_eq!(nonces.spend(KEY, 1, nonce, [1; 32]), Ok(()));
        }
        let account = &nonces.accounts[&(KEY, 1)];
        assert_eq!((account.spent.len(), account.floor), (MAX_NONCES, 8_976));
        assert_eq!(nonces.spend(KEY, 1, 8_975, [1; 32]), Err(NonceError::Forgotten { nonce: 8_975, floor: 8_976 }));
        assert_eq!(nonces.spend(KEY, 1, 8_976, [2; 32]), Err(NonceError::Spent(8_976)));
    }

    #[test]
    fn an_account_too_many_is_refused_and_the_others_go_on() {
        let mut nonces = Nonces::default();
        for chain_id in 1..=256 {
            assert_eq!(nonces.spend(KEY, chain_id, 0, [1; 32]), Ok(()));
        }
        assert_eq!(nonces.spend(KEY, 257, 0, [1; 32]), Err(NonceError::Full));
        assert_eq!(nonces.spend(KEY, 256, 1, [1; 32]), Ok(()));
    }

    #[test]
    fn the_largest_nonce_does_not_overflow() {
        let mut nonces = Nonces::default();
        for nonce in (0..=u64::MAX - 1).rev().take(MAX_NONCES + 1) {
            assert!(nonces.spend(KEY, 1, nonce, [1; 32]).is_ok());
        }
    }
}
