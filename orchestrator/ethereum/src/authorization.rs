//! Authorisations of EIP-7702: an account's leave that its code be a contract's.

use alloy_eips::eip7702 as alloy;
use alloy_primitives::U256;
use ethers_core::utils::keccak256;
use ethers_core::utils::rlp::RlpStream;

use crate::address::Address;
use crate::recovery::recovered;

/// What an account signs so that its code is a contract's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authorization {
    /// At most [`crate::transaction::MAX_CHAIN_ID`]; 0 is every chain.
    pub chain_id: u64,
    /// Whose code the account gets; the zero address takes it away.
    pub contract: Address,
    /// The account's, which it spends; at most [`crate::transaction::MAX_NONCE`].
    pub nonce: u64,
}

/// The same with its signature, as a transaction of type 4 lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedAuthorization {
    /// What is signed.
    pub authorization: Authorization,
    /// `yParity`: whether the point's `y` is odd.
    pub y_parity: bool,
    /// Big endian.
    pub r: [u8; 32],
    /// Big endian.
    pub s: [u8; 32],
}

/// In front of what is hashed (EIP-7702).
const MAGIC: u8 = 5;

impl Authorization {
    /// What is signed.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        self.alloy().signature_hash().0
    }

    /// The same by the other library.
    pub(crate) fn hash_again(&self) -> [u8; 32] {
        let mut list = RlpStream::new_list(3);
        list.append(&self.chain_id).append(&self.contract.0.as_slice()).append(&self.nonce);
        keccak256([&[MAGIC], list.as_raw()].concat())
    }

    pub(crate) fn alloy(&self) -> alloy::Authorization {
        alloy::Authorization { chain_id: U256::from(self.chain_id), address: self.contract.0.into(), nonce: self.nonce }
    }
}

impl SignedAuthorization {
    /// The account whose code it changes, or none: nodes pass over what recovers to nobody, and a high `s` (EIP-7702).
    #[must_use]
    pub fn authority(&self) -> Option<Address> {
        recovered(&self.authorization.hash(), (self.r, self.s, self.y_parity))
    }
}
