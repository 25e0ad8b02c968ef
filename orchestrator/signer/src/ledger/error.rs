//! Why the ledger lets nothing be signed.

use ethereum::hex;
use thiserror::Error;

use super::EVERY_CHAIN;
use super::record::RecordError;
use super::store::StoreError;
use crate::windows::Owner;

/// Nothing may be signed for the nonce, by any enclave that keeps this ledger.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LedgerError {
    /// It is spent on something else.
    #[error(
        "nonce {nonce} on {} is spent in the ledger{} on what has the hash {}; expected the same, or a nonce that is not spent",
        chain_of(*.chain), also(*.chain, *.on), hex::prefixed(.payload)
    )]
    Spent {
        /// The request's.
        nonce: u64,
        /// The request's.
        chain: u64,
        /// The record's.
        on: u64,
        /// The hash that is signed.
        payload: [u8; 32],
    },
    /// An object with the nonce's name is none of the key's records.
    #[error(
        "nonce {nonce} on {}: the ledger's object {object} is {problem}; somebody else has written it, and while it is there, this nonce \
         is not signed",
        chain_of(*.chain)
    )]
    Garbage {
        /// The request's.
        nonce: u64,
        /// The request's.
        chain: u64,
        /// Its name and version.
        object: String,
        /// What is wrong with it.
        problem: RecordError,
    },
    /// An object is a record of something else.
    #[error(
        "nonce {nonce} on {}: the ledger's object {object} is a record of nonce {of} on {} in {ledger}; somebody has copied it, and while \
         it is there, this nonce is not signed",
        chain_of(*.chain), chain_of(*.on)
    )]
    Foreign {
        /// The request's.
        nonce: u64,
        /// The request's.
        chain: u64,
        /// Its name and version.
        object: String,
        /// The record's nonce.
        of: u64,
        /// The record's chain.
        on: u64,
        /// The record's ledger.
        ledger: String,
    },
    /// More objects than a nonce can have.
    #[error(
        "nonce {nonce} on {}: the ledger has more objects in {folder} than enclaves make; somebody else has written them, and while they \
         are there, this nonce is not signed",
        chain_of(*.chain)
    )]
    Crowded {
        /// The request's.
        nonce: u64,
        /// The request's.
        chain: u64,
        /// Where they are.
        folder: String,
    },
    /// A window, not a nonce.
    #[error(transparent)]
    Lease(#[from] Box<LeaseError>),
    /// The bucket does not answer, or not as it has to.
    #[error("the ledger: {0}; nothing is signed without it")]
    Store(#[from] StoreError),
}

impl LedgerError {
    /// One word for the metrics.
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            Self::Spent { .. } => "spent",
            Self::Lease(error) if matches!(**error, LeaseError::Exceeded { .. }) => "window",
            Self::Garbage { .. } | Self::Foreign { .. } | Self::Crowded { .. } | Self::Lease(_) => "foreign",
            Self::Store(_) => "away",
        }
    }
}

/// A window has no room.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LeaseError {
    /// For this amount.
    #[error(
        "{part} more{on_chain} would be {sum} in {period}, at most {max}, counting what all enclaves of the ledger have signed or may still \
         sign; expected at most {left} now"
    )]
    Exceeded {
        /// Whose it is.
        owner: Owner,
        /// What the request adds.
        part: String,
        /// ` on chain 1`, or nothing.
        on_chain: String,
        /// What it would be.
        sum: String,
        /// The length of the window.
        period: String,
        /// The limit.
        max: String,
        /// What is left of it.
        left: String,
    },
    /// An object among its leases is none.
    #[error(
        "the ledger's object {object} is {problem}; somebody else has written it, and nothing is signed in this window for {period}"
    )]
    Garbage {
        /// Whose it is.
        owner: Owner,
        /// Its name and version.
        object: String,
        /// What is wrong with it.
        problem: String,
        /// The length of the window.
        period: String,
    },
    /// More objects than enclaves make.
    #[error("the ledger has more objects in {folder} than enclaves make; somebody else has written them")]
    Crowded {
        /// Where they are.
        folder: String,
    },
}

impl LeaseError {
    /// The client whose window it is; none for a key's.
    #[must_use]
    pub fn client(&self) -> Option<&str> {
        match self {
            Self::Exceeded { owner, .. } | Self::Garbage { owner, .. } => owner.client(),
            Self::Crowded { .. } => None,
        }
    }
}

impl From<LeaseError> for LedgerError {
    fn from(error: LeaseError) -> Self {
        Self::Lease(Box::new(error))
    }
}

fn chain_of(chain: u64) -> String {
    if chain == EVERY_CHAIN { "every chain".to_owned() } else { format!("chain {chain}") }
}

/// Where the record is, if it is elsewhere.
fn also(chain: u64, on: u64) -> String {
    if chain == on { String::new() } else { format!(", for {},", chain_of(on)) }
}
