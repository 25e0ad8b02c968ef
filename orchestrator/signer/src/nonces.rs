//! Which nonces have been spent, and on which transaction, since this process started. Nothing is forgotten until it ends.
//!
//! | part | what it holds | when it is full |
//! |---|---|---|
//! | runs | the exact spent nonces of each account on each chain, as runs without a gap | a nonce that would start a run is refused; one next to a spent nonce never is |
//! | latest | the transactions of the latest signatures | the oldest is dropped: its nonce stays spent, and its transaction can no longer be signed again or bumped |
//!
//! Both are divided among payers, see [`Payer`] and [`Division`]. A full share refuses or drops only its own entries. An account with one
//! run costs the same after one nonce and after a billion.

mod runs;
mod shares;

use std::collections::BTreeMap;

use ethereum::address::Address;
use ethereum::signable::Signable;
use ethereum::signature::UnsignedTransaction;
use ethereum::transaction::{Fees, MAX_NONCE, Transaction};
use thiserror::Error;

use crate::policy::Rule;
use runs::{Place, Runs, ShareIndex};
use shares::Shares;

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

/// The same for a subject that has a nonce.
struct Spending<'a> {
    key: Address,
    transaction: &'a Transaction,
    hash: [u8; 32],
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

/// An account on one chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Account {
    key: Address,
    chain_id: u64,
}

/// What a nonce was spent on.
#[derive(Clone, Copy, Debug)]
struct Signed {
    hash: [u8; 32],
    fees: Fees,
}

/// Why a nonce cannot be spent.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NonceError {
    /// It is spent on another transaction.
    #[error(
        "another transaction has been signed for nonce {nonce} since the signer started; expected {}, or an unspent nonce{}",
        if *.may_bump { "that transaction, with the same fees or raised ones" } else { "that transaction (fee_bump is off)" },
        such_as(.next)
    )]
    Spent {
        /// The request's.
        nonce: u64,
        /// The next that is not spent.
        next: Option<u64>,
        /// Whether the policy allows higher fees.
        may_bump: bool,
    },
    /// It is spent on the same transaction, and the fees are not raised enough.
    #[error(
        "nonce {nonce} is spent on this transaction, and a replacement must raise its fees by 10 % or more, as nodes require; \
         expected a fee of at least {} and a tip of at least {}, or a gasPrice of that fee",
        .expected.max_fee_per_gas, .expected.max_priority_fee_per_gas
    )]
    Fees {
        /// The request's.
        nonce: u64,
        /// The lowest that would do.
        expected: Fees,
    },
    /// It is spent, and its transaction is no longer remembered.
    #[error(
        "nonce {nonce} is spent, and its transaction is not among the latest {kept}, which the signer keeps: it neither \
         signs it again nor bumps its fees; expected an unspent nonce{}",
        such_as(.next)
    )]
    Forgotten {
        /// The request's.
        nonce: u64,
        /// How many a share keeps.
        kept: usize,
        /// The next that is not spent.
        next: Option<u64>,
    },
    /// It is not next to a spent nonce, and the client has left many gaps in this account.
    #[error(
        "nonce {nonce} is not next to a spent one, and this client has {runs} separate runs of nonces in this account \
         already; expected one next to a spent nonce{}",
        such_as(.beside)
    )]
    Apart {
        /// The request's.
        nonce: u64,
        /// How many there are.
        runs: usize,
        /// One that may be spent.
        beside: Option<u64>,
    },
    /// The client's share and the common part are full.
    #[error(
        "this nonce would start another run, and {runs} runs are remembered for this client's {}, of which {guaranteed} are \
         guaranteed; the common runs are taken; expected an account that has signed since the signer started, at a nonce next to a \
         spent one, or a restart of the enclave",
        if *.is_key_brought { "keys that come with a request" } else { "keys" }
    )]
    Full {
        /// How many there are.
        runs: usize,
        /// How many are guaranteed to this share.
        guaranteed: usize,
        /// Which of its shares.
        is_key_brought: bool,
    },
}

fn such_as(nonce: &Option<u64>) -> String {
    nonce.map_or_else(String::new, |nonce| format!(" such as {nonce}"))
}

impl NonceError {
    /// The reasons by name.
    pub const REASONS: [&'static str; 5] = ["spent", "fees", "forgotten", "apart", "full"];

    /// The rule that is broken.
    #[must_use]
    pub fn rule(&self) -> Rule {
        match self {
            Self::Fees { .. } => Rule::FeeBump,
            Self::Spent { .. } | Self::Forgotten { .. } | Self::Apart { .. } | Self::Full { .. } => Rule::NonceReuse,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Spent { .. } => "spent",
            Self::Fees { .. } => "fees",
            Self::Forgotten { .. } => "forgotten",
            Self::Apart { .. } => "apart",
            Self::Full { .. } => "full",
        }
    }
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

    /// Spends the subject's nonce on it. The same subject may come again, from any payer.
    ///
    /// # Errors
    /// It is spent on another, or the payer's share has no room to remember it.
    pub fn spend(&mut self, payer: Payer<'_>, wanted: &Wanted<'_>) -> Result<(), NonceError> {
        let &Wanted { key, subject, hash, may_bump } = wanted;
        match subject {
            Signable::Transaction(transaction) => self.spend_on(payer, &Spending { key, transaction, hash, may_bump }),
        }
    }

    fn spend_on(&mut self, payer: Payer<'_>, spending: &Spending<'_>) -> Result<(), NonceError> {
        let Transaction { chain_id, nonce, .. } = *spending.transaction;
        let account = Account { key: spending.key, chain_id };
        let share = self.shares.of(payer);
        let place = self.spent.get(&account).map_or(Place::Apart, |runs| runs.place(nonce));
        let allowed = match place {
            Place::Inside { last } => self.again(account, spending, last),
            Place::Beside => Ok(()),
            Place::Apart => self.room(account, share, nonce),
        };
        match &allowed {
            Ok(()) if matches!(place, Place::Inside { .. }) => {}
            Ok(()) => self.first(account, share, spending),
            Err(error) => *self.refusals.entry(error.reason()).or_default() += 1,
        }
        allowed
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

    /// For a nonce that is spent.
    fn again(&mut self, account: Account, spending: &Spending<'_>, last: u64) -> Result<(), NonceError> {
        let &Spending { transaction, hash, may_bump, .. } = spending;
        let nonce = transaction.nonce;
        let next = Some(last).filter(|last| *last < MAX_NONCE).map(|last| last + 1);
        let Some(signed) = self.latest.get_mut(&(account, nonce)) else {
            return Err(NonceError::Forgotten { nonce, kept: self.shares.max_latest(), next });
        };
        if signed.hash == hash {
            return Ok(());
        }
        // With the fees that were signed, the hash is the same: nothing but the fees has changed.
        if may_bump && UnsignedTransaction::new(&transaction.with_fees(signed.fees)).hash() == signed.hash {
            let fees = transaction.fees();
            return match signed.fees.bumped() {
                Some(lowest) if fees.are_at_least(lowest) => {
                    *signed = Signed { hash, fees };
                    Ok(())
                }
                lowest => Err(NonceError::Fees { nonce, expected: lowest.unwrap_or(Fees::MAX) }),
            };
        }
        Err(NonceError::Spent { nonce, next, may_bump })
    }

    /// Whether a run may be added.
    fn room(&self, account: Account, index: ShareIndex, nonce: u64) -> Result<(), NonceError> {
        if let Some(runs) = self.spent.get(&account)
            && runs.len() >= self.runs_of_account
            && runs.of(index) >= self.runs_of_account
        {
            return Err(NonceError::Apart { nonce, runs: runs.of(index), beside: runs.beside(nonce) });
        }
        if !self.shares.has_room(index) {
            let (share, guaranteed) = (self.shares.get(index), self.shares.division().guaranteed);
            return Err(NonceError::Full { runs: share.runs, guaranteed, is_key_brought: share.is_key_brought });
        }
        Ok(())
    }

    /// Spends a nonce that is not spent.
    fn first(&mut self, account: Account, index: ShareIndex, spending: &Spending<'_>) {
        let &Spending { transaction, hash, .. } = spending;
        let runs = self.spent.entry(account).or_default();
        let before = runs.len();
        let freed = runs.insert(transaction.nonce, index);
        let is_run_made = runs.len() > before;
        if let Some(freed) = freed {
            self.shares.give_back(freed);
        }
        if is_run_made {
            self.shares.take(index);
        }
        let id = (account, transaction.nonce);
        if let Some(oldest) = self.shares.note(index, id) {
            self.latest.remove(&oldest);
        }
        self.latest.insert(id, Signed { hash, fees: transaction.fees() });
    }
}

#[cfg(test)]
mod tests;
