//! Messages of EIP-191, version 0x45, which `personal_sign` signs.

use alloy_primitives::eip191_hash_message;
use ethers_core::utils::hash_message;

/// The bytes of a message, without the prefix that keeps it from being a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message(pub Vec<u8>);

impl Message {
    /// What is signed: the Keccak-256 of `\x19Ethereum Signed Message:\n`, the length in decimal, and the bytes.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        eip191_hash_message(&self.0).0
    }

    /// The same by the other library.
    pub(crate) fn hash_again(&self) -> [u8; 32] {
        hash_message(&self.0).0
    }
}
