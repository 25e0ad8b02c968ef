//! A transaction before it is signed: every field checked, nothing optional that a signature needs.

use crate::address::Address;
use crate::amount::Wei;

/// What [`crate::signature`] signs.
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

/// What a unit of gas may cost. `gasPrice` of the older types is both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fees {
    /// In all.
    pub max_fee_per_gas: Wei,
    /// Of it for the block's proposer.
    pub max_priority_fee_per_gas: Wei,
}

impl Fees {
    /// The highest that can be written.
    pub const MAX: Self = Self { max_fee_per_gas: Wei(u128::MAX), max_priority_fee_per_gas: Wei(u128::MAX) };

    /// The lowest with which nodes replace a transaction of these fees (geth: `--txpool.pricebump`, 10 %; rounded up), each by
    /// a wei at least. None if there is no such number.
    #[must_use]
    pub fn bumped(self) -> Option<Self> {
        let bumped = |Wei(fee): Wei| fee.checked_add(fee.div_ceil(10).max(1)).map(Wei);
        Some(Self {
            max_fee_per_gas: bumped(self.max_fee_per_gas)?,
            max_priority_fee_per_gas: bumped(self.max_priority_fee_per_gas)?,
        })
    }

    /// Whether both are.
    #[must_use]
    pub fn are_at_least(self, lowest: Self) -> bool {
        self.max_fee_per_gas >= lowest.max_fee_per_gas
            && self.max_priority_fee_per_gas >= lowest.max_priority_fee_per_gas
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
        match self.kind {
            Kind::Legacy { gas_price } | Kind::AccessList { gas_price, .. } => gas_price,
            Kind::DynamicFee { max_fee_per_gas, .. } => max_fee_per_gas,
        }
    }

    /// What it will touch; type 0 cannot say.
    #[must_use]
    pub fn access_list(&self) -> &[Access] {
        match &self.kind {
            Kind::Legacy { .. } => &[],
            Kind::AccessList { access_list, .. } | Kind::DynamicFee { access_list, .. } => access_list,
        }
    }

    /// What a unit of gas may cost, in all and as a tip.
    #[must_use]
    pub fn fees(&self) -> Fees {
        let max_fee_per_gas = self.max_fee_per_gas();
        match self.kind {
            Kind::Legacy { .. } | Kind::AccessList { .. } => {
                Fees { max_fee_per_gas, max_priority_fee_per_gas: max_fee_per_gas }
            }
            Kind::DynamicFee { max_priority_fee_per_gas, .. } => Fees { max_fee_per_gas, max_priority_fee_per_gas },
        }
    }

    /// The same transaction at other fees.
    #[must_use]
    pub fn with_fees(&self, fees: Fees) -> Self {
        let mut other = self.clone();
        match &mut other.kind {
            Kind::Legacy { gas_price } | Kind::AccessList { gas_price, .. } => *gas_price = fees.max_fee_per_gas,
            Kind::DynamicFee { max_fee_per_gas, max_priority_fee_per_gas, .. } => {
                (*max_fee_per_gas, *max_priority_fee_per_gas) = (fees.max_fee_per_gas, fees.max_priority_fee_per_gas);
            }
        }
        other
    }
}
