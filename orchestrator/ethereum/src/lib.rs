//! Ethereum's values and signatures, without I/O and without any rule of ours.
//!
//! | module | what it owns |
//! |---|---|
//! | [`address`] | accounts' addresses, with the checksum of EIP-55 |
//! | [`amount`] | amounts of ether in wei |
//! | [`key`] | secret keys |
//! | [`transaction`] | transactions before they are signed |
//! | [`signable`] | what a key can sign, whatever its kind |
//! | [`signature`] | hashing and signing of transactions, and the check of what was signed |
//! | [`hex`] | bytes as Ethereum writes them |
//!
//! ethers-core and k256 are known here and nowhere else. ethers-core is no longer developed; its successor is alloy. A test signs the
//! same random transactions with both and compares every byte, so that a change would be of this crate only.

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        reason = "a test that panics has failed"
    )
)]

pub mod address;
pub mod amount;
pub mod hex;
pub mod key;
pub mod signable;
pub mod signature;
pub mod transaction;

mod recovery;
