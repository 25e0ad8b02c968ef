//! Why the ledger lets nothing be signed.

use ethereum::hex;
use thiserror::Error;

use super::EVERY_CHAIN;
use super::record::RecordError;
use super::store::StoreError;
use crate::windows::{Owner, WindowError};

/// Nothing may be signed.
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
    /// A window has no room.
    #[error(transparent)]
    Window(#[from] Box<WindowError>),
    /// An object among the leases of a window is none.
    #[error(
        "the ledger's object {object} is {problem}; somebody else has written it, and nothing is signed in this window for {period}"
    )]
    Lease {
        /// Whose window it is.
        owner: Owner,
        /// Its name and version.
        object: String,
        /// What is wrong with it.
        problem: String,
        /// The length of the window.
        period: String,
    },
    /// More objects than a window can have.
    #[error("the ledger has more objects in {folder} than enclaves make; somebody else has written them")]
    CrowdedWindow {
        /// Whose window it is.
        owner: Owner,
        /// Where they are.
        folder: String,
    },
    /// The bucket does not answer, or not as it has to.
    #[error("the ledger: {0}; nothing is signed without it")]
    Store(#[from] StoreError),
}

impl LedgerError {
    /// One word for the metrics.
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            Self::Spent { .. } => "spent",
            Self::Window(_) => "window",
            Self::Garbage { .. }
            | Self::Foreign { .. }
            | Self::Crowded { .. }
            | Self::Lease { .. }
            | Self::CrowdedWindow { .. } => "foreign",
            Self::Store(_) => "away",
        }
    }
}

fn chain_of(chain: u64) -> String {
    if chain == EVERY_CHAIN { "every chain".to_owned() } else { format!("chain {chain}") }
}

/// Where the record is, if it is elsewhere.
fn also(chain: u64, on: u64) -> String {
    if chain == on { String::new() } else { format!(", for {},", chain_of(on)) }
}
