//! Transactions that were signed for `eth_sendTransaction` and that no node has taken, as far as the signer knows: of each account and chain
//! the one with the lowest nonce, which the others wait for.
//!
//! Its nonce is spent, for the node has seen the signature. What the signer has filled in, the client does not know. So the same call sends
//! the same transaction again, and another one that needs the nonce is told what it is spent on.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ethereum::address::Address;
use ethereum::amount::Wei;
use ethereum::hex;
use ethereum::signable::{Signable, Unsigned};
use ethereum::transaction::{Kind, Transaction};
use signer_api::rpc::TransactionCall;

use crate::policy::Rule;
use crate::service::failure::Failure;

/// By account and chain.
#[derive(Default)]
pub(in crate::service) struct Unsent(Mutex<BTreeMap<(Address, u64), Filled>>);

/// What the signer may have filled in, and what came of it.
#[derive(Clone, Copy)]
struct Filled {
    nonce: u64,
    gas: u64,
    gas_price: Option<Wei>,
    max_fee_per_gas: Option<Wei>,
    max_priority_fee_per_gas: Option<Wei>,
    signed_hash: [u8; 32],
    transaction_hash: [u8; 32],
}

impl Unsent {
    /// The transaction that this call has become before, if no node has taken it.
    pub(super) fn again(&self, call: &TransactionCall, chain: u64) -> Option<Transaction> {
        let filled = *self.all().get(&(call.from, chain))?;
        let mut call = call.clone();
        call.nonce = call.nonce.or(Some(filled.nonce));
        call.gas = call.gas.or(Some(filled.gas));
        let (has_price, has_pair) =
            (call.gas_price.is_some(), call.max_fee_per_gas.is_some() || call.max_priority_fee_per_gas.is_some());
        if !has_pair {
            call.gas_price = call.gas_price.or(filled.gas_price);
        }
        if !has_price {
            call.max_fee_per_gas = call.max_fee_per_gas.or(filled.max_fee_per_gas);
            call.max_priority_fee_per_gas = call.max_priority_fee_per_gas.or(filled.max_priority_fee_per_gas);
        }
        let subject = Signable::Transaction(call.transaction(Some(chain)).ok()?);
        let is_same = Unsigned::new(&subject).hash() == filled.signed_hash;
        let Signable::Transaction(transaction) = subject else { return None };
        is_same.then_some(transaction)
    }

    /// No node has taken it.
    pub(super) fn keep(&self, from: Address, transaction: &Transaction, signed_hash: [u8; 32], hash: [u8; 32]) {
        let (gas_price, pair) = match transaction.kind {
            Kind::Legacy { gas_price } | Kind::AccessList { gas_price, .. } => (Some(gas_price), None),
            Kind::DynamicFee { max_fee_per_gas, max_priority_fee_per_gas, .. }
            | Kind::Blob { max_fee_per_gas, max_priority_fee_per_gas, .. }
            | Kind::SetCode { max_fee_per_gas, max_priority_fee_per_gas, .. } => {
                (None, Some((max_fee_per_gas, max_priority_fee_per_gas)))
            }
        };
        let filled = Filled {
            nonce: transaction.nonce,
            gas: transaction.gas,
            gas_price,
            max_fee_per_gas: pair.map(|(max_fee, _)| max_fee),
            max_priority_fee_per_gas: pair.map(|(_, tip)| tip),
            signed_hash,
            transaction_hash: hash,
        };
        let mut all = self.all();
        let kept = all.entry((from, transaction.chain_id)).or_insert(filled);
        if kept.nonce >= filled.nonce {
            *kept = filled;
        }
    }

    /// The chain has a transaction with this nonce, or will have: what has the same or a lower one is of no more use.
    pub(super) fn forget(&self, from: Address, chain: u64, nonce: u64) {
        let mut all = self.all();
        if all.get(&(from, chain)).is_some_and(|filled| filled.nonce <= nonce) {
            all.remove(&(from, chain));
        }
    }

    /// Says what a nonce is spent on.
    pub(super) fn explain(&self, from: Address, chain: u64, nonce: u64, failure: Failure) -> Failure {
        let filled = self.all().get(&(from, chain)).copied();
        match filled.filter(|filled| failure.rule == Some(Rule::NonceReuse) && filled.nonce == nonce) {
            Some(Filled { transaction_hash, .. }) => {
                let message = format!(
                    "{}; it is {}, which the upstream has not taken: repeat the call that it came of",
                    failure.message,
                    hex::prefixed(&transaction_hash)
                );
                Failure { message, ..failure }
            }
            None => failure,
        }
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<(Address, u64), Filled>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: Address = Address([7; 20]);

    fn keep(unsent: &Unsent, nonce: u64) {
        let kind = Kind::Legacy { gas_price: Wei(1) };
        let (to, data) = (Some(FROM), Vec::new());
        let transaction = Transaction { chain_id: 1, nonce, gas: 21_000, to, value: Wei(0), data, kind };
        unsent.keep(FROM, &transaction, [0; 32], [0; 32]);
    }

    #[test]
    fn the_lowest_nonce_is_kept_until_the_chain_has_it() {
        let unsent = Unsent::default();
        let nonce = || unsent.all().get(&(FROM, 1)).map(|filled| filled.nonce);
        for (sent, kept) in [(6, 6), (5, 5), (7, 5)] {
            keep(&unsent, sent);
            assert_eq!(nonce(), Some(kept));
        }
        unsent.forget(FROM, 1, 4);
        assert_eq!(nonce(), Some(5));
        unsent.forget(FROM, 1, 5);
        assert_eq!(nonce(), None);
    }
}
