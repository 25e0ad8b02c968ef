//! Why a nonce is not spent.

use ethereum::transaction::Fees;
use thiserror::Error;

use crate::policy::Rule;

/// Why a nonce cannot be spent.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NonceError {
    /// It is spent on something else.
    #[error(
        "something else has been signed for nonce {nonce} since the signer started: a transaction, or an authorisation of this chain or of every \
         chain; expected the same{}, or an unspent nonce{}",
        if *.may_bump { ", with the same fees or raised ones" } else { " (fee_bump is off)" },
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
        "nonce {nonce} is spent on this transaction, and a replacement must raise its fees by {} % or more, as nodes require; \
         expected a fee of at least {} and a tip of at least {}, or a gasPrice of that fee{}",
        .expected.bump(), .expected.max_fee_per_gas, .expected.max_priority_fee_per_gas,
        .expected.max_fee_per_blob_gas.map_or_else(String::new, |fee| format!(", and a maxFeePerBlobGas of at least {fee}"))
    )]
    Fees {
        /// The request's.
        nonce: u64,
        /// The lowest that would do.
        expected: Fees,
    },
    /// It is spent, and on what is no longer remembered.
    #[error(
        "nonce {nonce} is spent, and what it was spent on is not among the latest {kept}, which the signer keeps: it neither \
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

    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Spent { .. } => "spent",
            Self::Fees { .. } => "fees",
            Self::Forgotten { .. } => "forgotten",
            Self::Apart { .. } => "apart",
            Self::Full { .. } => "full",
        }
    }
}
