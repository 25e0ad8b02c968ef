//! A transaction before it is signed: every field checked, nothing optional that a signature needs.

use crate::address::Address;
use crate::amount::Wei;

/// What [`crate::request`] makes, [`crate::policy`] judges and [`crate::tx`] signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// At least 1, at most [`MAX_CHAIN_ID`].
    pub chain_id: u64,
    /// At most [`MAX_NONCE`].
    pub nonce: u64,
    /// The gas limit.
    pub gas: u64,
    /// None creates a contract.
    pub to: Option<Address>,
    /// What is transferred.
    pub value: Wei,
    /// Call data, or the code that creates a contract.
    pub data: Vec<u8>,
    /// The type with the fields that it alone has.
    pub kind: Kind,
}

/// The three types, by their numbers on the wire.
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
        match self.kind {
            Kind::Legacy { gas_price } | Kind::AccessList { gas_price, .. } => gas_price,
            Kind::DynamicFee { max_fee_per_gas, .. } => max_fee_per_gas,
        }
    }
}
