//! Which nonces have been spent, and on which transaction or authorisation, since this process started. Nothing is forgotten until it ends.
//!
//! | part | what it holds | when it is full |
//! |---|---|---|
//! | runs | the exact spent nonces of each account on each chain, as runs without a gap | a nonce that would start a run is refused; one next to a spent nonce never is |
//! | latest | what the latest signatures are of | the oldest is dropped: its nonce stays spent, and its transaction can no longer be signed again or bumped |
//!
//! An authorisation of EIP-7702 for chain 0 is good on every chain. Its nonces are those of the account on chain 0, and spent on all others
//! too: a nonce of a chain is spent if it is in the chain's runs or in those of chain 0, and one of chain 0 if it is in any chain's.
//!
//! A transaction of type 4 that lists an authorisation of its own account spends the nonces of both, or none.
//!
//! Both are divided among payers, see [`Payer`] and [`Division`]. A full share refuses or drops only its own entries. An account with one
//! run costs the same after one nonce and after a billion.

mod error;
mod runs;
mod shares;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use ethereum::address::Address;
use ethereum::authorization::Authorization;
use ethereum::signable::Signable;
use ethereum::signature::UnsignedTransaction;
use ethereum::transaction::{Fees, MAX_NONCE, Transaction};

use runs::{Inserted, Runs, ShareIndex};
use shares::Shares;

pub use error::NonceError;
pub use shares::Division;

/// The sizes of the memory. The defaults take less than [`MAX_MEMORY`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Runs of all shares together.
    pub runs: usize,
    /// Runs of one share in one account on one chain, so that no account takes the whole share.
    pub runs_of_account: usize,
    /// Latest transactions of all shares together.
    pub latest: usize,
}

/// The most memory that the default bounds take, in bytes.
pub const MAX_MEMORY: usize = 64 << 20;

impl Default for Bounds {
    fn default() -> Self {
        Self { runs: 1 << 18, runs_of_account: 1 << 10, latest: 1 << 16 }
    }
}

/// The share that a new run or a new signature counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payer<'a> {
    /// The client, as the configuration names it.
    pub client: &'a str,
    /// Whether the key came with the request and is not named in the configuration. A client can make any number of such keys.
    pub is_key_brought: bool,
}

/// A request to spend a nonce.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The account.
    pub key: Address,
    /// What the nonce is spent on.
    pub subject: &'a Signable,
    /// The hash that is signed.
    pub hash: [u8; 32],
    /// Whether the policy allows the same transaction with higher fees.
    pub may_bump: bool,
}

/// One nonce and what it is to be spent on.
struct Spending<'a> {
    account: Account,
    nonce: u64,
    hash: [u8; 32],
    /// None of an authorisation, which has no fees.
    transaction: Option<&'a Transaction>,
    may_bump: bool,
}

/// The memory of spent nonces.
#[derive(Debug)]
pub struct Nonces {
    spent: BTreeMap<Account, Runs>,
    latest: BTreeMap<(Account, u64), Signed>,
    shares: Shares,
    runs_of_account: usize,
    refusals: BTreeMap<&'static str, u64>,
}

/// An account on one chain, or on every chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Account {
    key: Address,
    chain_id: u64,
}

/// In place of a chain's number: every chain (EIP-7702).
const EVERY_CHAIN: u64 = 0;

/// What is known of a nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Spent: by this account, in a run that ends there.
    Spent { by: Account, last: u64 },
    /// Next to a spent one: spending it takes no more memory.
    Beside,
    /// Alone: spending it makes a run.
    Apart,
}

/// What a nonce was spent on.
#[derive(Clone, Copy, Debug)]
struct Signed {
    hash: [u8; 32],
    fees: Fees,
}

/// Metrics of the memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NonceMetrics {
    /// Accounts, each on one chain.
    pub accounts: usize,
    /// Transactions that are remembered.
    pub latest: usize,
    /// How many of them each share keeps.
    pub max_latest: usize,
    /// Of each share that has been used: its client, whether its keys came with requests, its runs.
    pub shares: Vec<(String, bool, usize)>,
    /// How the runs are divided.
    pub division: Division,
    /// How many of the common ones are taken.
    pub common: usize,
    /// By reason, see [`NonceError::REASONS`].
    pub refusals: BTreeMap<&'static str, u64>,
}

impl Nonces {
    /// An empty memory for as many payers as the configuration has.
    #[must_use]
    pub fn new(payers: usize, bounds: Bounds) -> Self {
        Self {
            spent: BTreeMap::new(),
            latest: BTreeMap::new(),
            shares: Shares::new(payers, bounds),
            runs_of_account: bounds.runs_of_account,
            refusals: BTreeMap::new(),
        }
    }

    /// Spends the subject's nonce on it, if it has one. The same subject may come again, from any payer.
    ///
    /// # Errors
    /// It is spent on another, or the payer's share has no room to remember it. Then nothing is spent.
    pub fn spend(&mut self, payer: Payer<'_>, wanted: &Wanted<'_>) -> Result<(), NonceError> {
        let &Wanted { key, subject, hash, may_bump } = wanted;
        let spendings = match subject {
            Signable::Transaction(transaction) => {
                let Transaction { chain_id, nonce, .. } = *transaction;
                let account = Account { key, chain_id };
                let first = Spending { account, nonce, hash, transaction: Some(transaction), may_bump };
                let own = transaction.authorizations().iter().filter(|signed| signed.authority() == Some(key));
                std::iter::once(first).chain(own.map(|own| Spending::of(key, &own.authorization))).collect()
            }
            Signable::Authorization(authorization) => vec![Spending::of(key, authorization)],
            Signable::Message(_) | Signable::TypedData(_) => Vec::new(),
        };
        let share = self.shares.of(payer);
        let spent = self.spend_all(share, &spendings);
        if let Err(error) = &spent {
            *self.refusals.entry(error.reason()).or_default() += 1;
        }
        spent
    }

    fn spend_all(&mut self, share: ShareIndex, spendings: &[Spending<'_>]) -> Result<(), NonceError> {
        let mut new: Vec<&Spending<'_>> = Vec::with_capacity(spendings.len());
        let mut runs = 0;
        for (at, spending) in spendings.iter().enumerate() {
            match self.place(spending.account, spending.nonce) {
                Place::Spent { by, last } => {
                    self.again(spending, by, last)?;
                    // The others were spent when this one was.
                    if at == 0 {
                        return Ok(());
                    }
                    continue;
                }
                Place::Beside => {}
                Place::Apart if new.iter().any(|other| other.is_beside(spending)) => {}
                Place::Apart => {
                    self.room(spending, share, runs)?;
                    runs += 1;
                }
            }
            // A transaction and an authorisation of its account for the same nonce: one of them would be void.
            if new.iter().any(|other| other.is_of_same_nonce(spending)) {
                let (nonce, next) = (spending.nonce, self.next(spending.account, spending.nonce));
                return Err(NonceError::Spent { nonce, next, may_bump: false });
            }
            new.push(spending);
        }
        for spending in new {
            self.first(spending, share);
        }
        Ok(())
    }

    /// Its metrics.
    #[must_use]
    pub fn metrics(&self) -> NonceMetrics {
        NonceMetrics {
            accounts: self.spent.len(),
            latest: self.latest.len(),
            max_latest: self.shares.max_latest(),
            shares: self.shares.iter().map(|share| (share.client.clone(), share.is_key_brought, share.runs)).collect(),
            division: self.shares.division(),
            common: self.shares.common(),
            refusals: self.refusals.clone(),
        }
    }

    /// Where a nonce lies among those that are spent on this chain and on every chain.
    fn place(&self, account: Account, nonce: u64) -> Place {
        let every = Account { chain_id: EVERY_CHAIN, ..account };
        let others = match account.chain_id {
            EVERY_CHAIN => self.spent.range(every..=Account { chain_id: u64::MAX, ..account }),
            _ => self.spent.range(every..=every),
        };
        let own = self.spent.get_key_value(&account);
        // Its own first on chain 0, and behind chain 0 on another: absorbed nonces are in both.
        let mut found = others.chain(own).filter_map(|(by, runs)| runs.run_with(nonce).map(|run| (*by, *run.end())));
        if let Some((by, last)) = found.next() {
            return Place::Spent { by, last };
        }
        let is_beside = own.is_some_and(|(_, runs)| runs.touches(&self.joined(account, nonce)));
        if is_beside { Place::Beside } else { Place::Apart }
    }

    /// A nonce that is not spent, with those beside it that are spent on every chain and so on this one.
    fn joined(&self, account: Account, nonce: u64) -> RangeInclusive<u64> {
        if account.chain_id == EVERY_CHAIN {
            return nonce..=nonce;
        }
        let every = self.spent.get(&Account { chain_id: EVERY_CHAIN, ..account });
        let run = |nonce: Option<u64>| every.and_then(|runs| runs.run_with(nonce?));
        let first = run(nonce.checked_sub(1)).map_or(nonce, |run| *run.start());
        let last = run(nonce.checked_add(1)).map_or(nonce, |run| *run.end());
        first..=last
    }

    /// For a nonce that is spent, by this account or on every chain.
    fn again(&mut self, spending: &Spending<'_>, by: Account, last: u64) -> Result<(), NonceError> {
        let &Spending { account, nonce, hash, transaction, may_bump } = spending;
        let next = self.next(account, last);
        let spent = NonceError::Spent { nonce, next, may_bump: may_bump && by == account };
        if by != account {
            return Err(spent);
        }
        let Some(signed) = self.latest.get_mut(&(account, nonce)) else {
            return Err(NonceError::Forgotten { nonce, kept: self.shares.max_latest(), next });
        };
        if signed.hash == hash {
            return Ok(());
        }
        // With the fees that were signed, the hash is the same: nothing but the fees has changed.
        if let Some(transaction) = transaction
            && may_bump
            && UnsignedTransaction::new(&transaction.with_fees(signed.fees)).hash() == signed.hash
        {
            let fees = transaction.fees();
            return match signed.fees.bumped() {
                Some(lowest) if fees.are_at_least(lowest) => {
                    *signed = Signed { hash, fees };
                    Ok(())
                }
                lowest => Err(NonceError::Fees { nonce, expected: lowest.unwrap_or(fees.highest()) }),
            };
        }
        Err(spent)
    }

    /// The first nonce behind a spent one that is not spent.
    fn next(&self, account: Account, mut last: u64) -> Option<u64> {
        loop {
            let next = Some(last).filter(|last| *last < MAX_NONCE)? + 1;
            match self.place(account, next) {
                Place::Spent { last: further, .. } => last = further,
                Place::Beside | Place::Apart => return Some(next),
            }
        }
    }

    /// Whether a run may be added beside `more` others.
    fn room(&self, spending: &Spending<'_>, index: ShareIndex, more: usize) -> Result<(), NonceError> {
        let &Spending { account, nonce, .. } = spending;
        if let Some(runs) = self.spent.get(&account)
            && runs.len() + more >= self.runs_of_account
            && runs.of(index) + more >= self.runs_of_account
        {
            return Err(NonceError::Apart { nonce, runs: runs.of(index), beside: self.beside(account, nonce) });
        }
        if !self.shares.has_room(index, more) {
            let (share, guaranteed) = (self.shares.get(index), self.shares.division().guaranteed);
            return Err(NonceError::Full { runs: share.runs, guaranteed, is_key_brought: share.is_key_brought });
        }
        Ok(())
    }

    /// A nonce that takes no memory to spend: beside a run of the account, whichever is nearest below, or else above.
    fn beside(&self, account: Account, nonce: u64) -> Option<u64> {
        let (before, after) = self.spent.get(&account)?.around(nonce);
        let above = before.and_then(|last| self.next(account, last));
        above.or_else(|| after?.checked_sub(1).filter(|below| self.place(account, *below) == Place::Beside))
    }

    /// Spends a nonce that is not spent.
    fn first(&mut self, spending: &Spending<'_>, index: ShareIndex) {
        let &Spending { account, nonce, hash, transaction, .. } = spending;
        let joined = self.joined(account, nonce);
        let Inserted { is_run_made, freed } = self.spent.entry(account).or_default().insert(joined, index);
        for share in freed {
            self.shares.give_back(share);
        }
        if is_run_made {
            self.shares.take(index);
        }
        let id = (account, nonce);
        if let Some(oldest) = self.shares.note(index, id) {
            self.latest.remove(&oldest);
        }
        let fees = transaction.map_or_else(Fees::default, Transaction::fees);
        self.latest.insert(id, Signed { hash, fees });
    }
}

impl<'a> Spending<'a> {
    fn of(key: Address, authorization: &Authorization) -> Self {
        let Authorization { chain_id, nonce, .. } = *authorization;
        let account = Account { key, chain_id };
        Self { account, nonce, hash: authorization.hash(), transaction: None, may_bump: false }
    }

    fn is_beside(&self, other: &Spending<'_>) -> bool {
        self.account == other.account && self.nonce.abs_diff(other.nonce) == 1
    }

    fn is_of_same_nonce(&self, other: &Spending<'_>) -> bool {
        let chains = [self.account.chain_id, other.account.chain_id];
        self.nonce == other.nonce && (chains.contains(&EVERY_CHAIN) || self.account == other.account)
    }
}

#[cfg(test)]
mod tests;
