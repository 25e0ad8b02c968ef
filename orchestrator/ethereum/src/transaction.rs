//! A transaction before it is signed: every field checked, nothing optional that a signature needs.

use crate::address::Address;
use crate::amount::Wei;
use crate::authorization::SignedAuthorization;

/// What [`crate::signature`] signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// At least 1, at most [`MAX_CHAIN_ID`].
    pub chain_id: u64,
    /// At most [`MAX_NONCE`].
    pub nonce: u64,
    /// The gas limit.
    pub gas: u64,
    /// None creates a contract; types 3 and 4 cannot.
    pub to: Option<Address>,
    /// What is transferred.
    pub value: Wei,
    /// Call data, or the code that creates a contract.
    pub data: Vec<u8>,
    /// The type with the fields that it alone has.
    pub kind: Kind,
}

/// The types, by their numbers on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 0: legacy, always with the replay protection of EIP-155.
    Legacy {
        /// Per unit of gas.
        gas_price: Wei,
    },
    /// 1: EIP-2930.
    AccessList {
        /// Per unit of gas.
        gas_price: Wei,
        /// In the order of the request.
        access_list: Vec<Access>,
    },
    /// 2: EIP-1559.
    DynamicFee {
        /// The most that a unit of gas may cost in all.
        max_fee_per_gas: Wei,
        /// The most of it that goes to the block's proposer; not above the above.
        max_priority_fee_per_gas: Wei,
        /// In the order of the request.
        access_list: Vec<Access>,
    },
    /// 3: EIP-4844. The blobs themselves are not signed: whoever sends the transaction adds them.
    Blob {
        /// The most that a unit of gas may cost in all.
        max_fee_per_gas: Wei,
        /// The most of it that goes to the block's proposer; not above the above.
        max_priority_fee_per_gas: Wei,
        /// In the order of the request.
        access_list: Vec<Access>,
        /// The most that a unit of blob gas may cost; a blob has 131,072 of them.
        max_fee_per_blob_gas: Wei,
        /// One for each blob, at least one; the first byte is [`BLOB_VERSION`].
        blob_versioned_hashes: Vec<[u8; 32]>,
    },
    /// 4: EIP-7702.
    SetCode {
        /// The most that a unit of gas may cost in all.
        max_fee_per_gas: Wei,
        /// The most of it that goes to the block's proposer; not above the above.
        max_priority_fee_per_gas: Wei,
        /// In the order of the request.
        access_list: Vec<Access>,
        /// At least one, of this account or of others.
        authorizations: Vec<SignedAuthorization>,
    },
}

/// In front of a blob's hash: by its KZG commitment (EIP-4844, `VERSIONED_HASH_VERSION_KZG`).
pub const BLOB_VERSION: u8 = 1;

/// What a unit of gas may cost. `gasPrice` of the older types is both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fees {
    /// In all.
    pub max_fee_per_gas: Wei,
    /// Of it for the block's proposer.
    pub max_priority_fee_per_gas: Wei,
    /// A unit of blob gas, of type 3 alone.
    pub max_fee_per_blob_gas: Option<Wei>,
}

impl Fees {
    /// The lowest with which nodes replace a transaction of these fees, each by a wei at least, and no higher than can be
    /// written. In percent, see [`Fees::bump`]; rounded up. None if there is no such number.
    #[must_use]
    pub fn bumped(self) -> Option<Self> {
        let percent = self.bump();
        let bumped = |Wei(fee): Wei| {
            // Of the hundreds and of the rest, so that nothing overflows before the sum does.
            let part = (fee / 100).checked_mul(percent)?.checked_add((fee % 100 * percent).div_ceil(100))?;
            fee.checked_add(part.max(1)).map(Wei)
        };
        let max_fee_per_blob_gas = match self.max_fee_per_blob_gas {
            None => None,
            Some(fee) => Some(bumped(fee)?),
        };
        Some(Self {
            max_fee_per_gas: bumped(self.max_fee_per_gas)?,
            max_priority_fee_per_gas: bumped(self.max_priority_fee_per_gas)?,
            max_fee_per_blob_gas,
        })
    }

    /// By how many percent nodes want each fee raised (geth: `--txpool.pricebump` and `--blobpool.pricebump`).
    #[must_use]
    pub fn bump(self) -> u128 {
        if self.max_fee_per_blob_gas.is_some() { 100 } else { 10 }
    }

    /// The highest that can be written.
    #[must_use]
    pub fn highest(self) -> Self {
        let most = Wei(u128::MAX);
        let max_fee_per_blob_gas = self.max_fee_per_blob_gas.map(|_| most);
        Self { max_fee_per_gas: most, max_priority_fee_per_gas: most, max_fee_per_blob_gas }
    }

    /// Whether all are.
    #[must_use]
    pub fn are_at_least(self, lowest: Self) -> bool {
        self.max_fee_per_gas >= lowest.max_fee_per_gas
            && self.max_priority_fee_per_gas >= lowest.max_priority_fee_per_gas
            && self.max_fee_per_blob_gas >= lowest.max_fee_per_blob_gas
    }
}

/// What a transaction will touch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// A contract.
    pub address: Address,
    /// Slots of its storage.
    pub storage_keys: Vec<[u8; 32]>,
}

/// The largest chain id (EIP-2294): EIP-155's `v` still fits 64 bits.
pub const MAX_CHAIN_ID: u64 = u64::MAX / 2 - 36;

/// The largest nonce (EIP-2681).
pub const MAX_NONCE: u64 = u64::MAX - 1;

impl Transaction {
    /// The most that a unit of gas may cost: `maxFeePerGas`, or `gasPrice` of the older types.
    #[must_use]
    pub fn max_fee_per_gas(&self) -> Wei {
        self.fees().max_fee_per_gas
    }

    /// What it will touch; type 0 cannot say.
    #[must_use]
    pub fn access_list(&self) -> &[Access] {
        match &self.kind {
            Kind::Legacy { .. } => &[],
            Kind::AccessList { access_list, .. }
            | Kind::DynamicFee { access_list, .. }
            | Kind::Blob { access_list, .. }
            | Kind::SetCode { access_list, .. } => access_list,
        }
    }

    /// The hashes of its blobs; only type 3 has any.
    #[must_use]
    pub fn blob_versioned_hashes(&self) -> &[[u8; 32]] {
        match &self.kind {
            Kind::Blob { blob_versioned_hashes, .. } => blob_versioned_hashes,
            Kind::Legacy { .. } | Kind::AccessList { .. } | Kind::DynamicFee { .. } | Kind::SetCode { .. } => &[],
        }
    }

    /// Its authorisations; only type 4 has any.
    #[must_use]
    pub fn authorizations(&self) -> &[SignedAuthorization] {
        match &self.kind {
            Kind::SetCode { authorizations, .. } => authorizations,
            Kind::Legacy { .. } | Kind::AccessList { .. } | Kind::DynamicFee { .. } | Kind::Blob { .. } => &[],
        }
    }

    /// What a unit of gas may cost, in all and as a tip, and one of blob gas.
    #[must_use]
    pub fn fees(&self) -> Fees {
        match self.kind {
            Kind::Legacy { gas_price } | Kind::AccessList { gas_price, .. } => {
                Fees { max_fee_per_gas: gas_price, max_priority_fee_per_gas: gas_price, max_fee_per_blob_gas: None }
            }
            Kind::DynamicFee { max_fee_per_gas, max_priority_fee_per_gas, .. }
            | Kind::SetCode { max_fee_per_gas, max_priority_fee_per_gas, .. } => {
                Fees { max_fee_per_gas, max_priority_fee_per_gas, max_fee_per_blob_gas: None }
            }
            Kind::Blob { max_fee_per_gas, max_priority_fee_per_gas, max_fee_per_blob_gas, .. } => {
                Fees { max_fee_per_gas, max_priority_fee_per_gas, max_fee_per_blob_gas: Some(max_fee_per_blob_gas) }
            }
        }
    }

    /// The same transaction at other fees.
    #[must_use]
    pub fn with_fees(&self, fees: Fees) -> Self {
        let mut other = self.clone();
        match &mut other.kind {
            Kind::Legacy { gas_price } | Kind::AccessList { gas_price, .. } => *gas_price = fees.max_fee_per_gas,
            Kind::DynamicFee { max_fee_per_gas, max_priority_fee_per_gas, .. }
            | Kind::SetCode { max_fee_per_gas, max_priority_fee_per_gas, .. } => {
                (*max_fee_per_gas, *max_priority_fee_per_gas) = (fees.max_fee_per_gas, fees.max_priority_fee_per_gas);
            }
            Kind::Blob { max_fee_per_gas, max_priority_fee_per_gas, max_fee_per_blob_gas, .. } => {
                (*max_fee_per_gas, *max_priority_fee_per_gas) = (fees.max_fee_per_gas, fees.max_priority_fee_per_gas);
                *max_fee_per_blob_gas = fees.max_fee_per_blob_gas.unwrap_or_default();
            }
        }
        other
    }
}
