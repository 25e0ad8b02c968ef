//! Ethereum's values and signatures, without I/O and without any rule of ours.
//!
//! | module | what it owns |
//! |---|---|
//! | [`abi`] | calls of contracts: functions, and calldata as their arguments |
//! | [`address`] | accounts' addresses, with the checksum of EIP-55 |
//! | [`amount`] | amounts of ether in wei |
//! | [`key`] | secret keys |
//! | [`number`] | numbers of 256 bits |
//! | [`transaction`] | transactions before they are signed |
//! | [`authorization`] | authorisations of EIP-7702 |
//! | [`message`] | messages of EIP-191 |
//! | [`typed_data`] | typed data of EIP-712 |
//! | [`signable`] | what a key can sign, whatever its kind |
//! | [`signature`] | hashing and signing of transactions, and the check of what was signed |
//! | [`hex`] | bytes as Ethereum writes them |
//!
//! ethers-core and k256 are known here and nowhere else. ethers-core is no longer developed; its successor is alloy, which encodes what
//! ethers-core does not know: types 3 and 4, EIP-7702 and EIP-712. A test signs the same random transactions with both and compares every
//! byte, so that a change would be of this crate only.

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

pub mod abi;
pub mod address;
pub mod amount;
pub mod authorization;
pub mod hex;
pub mod key;
pub mod message;
pub mod number;
pub mod signable;
pub mod signature;
pub mod transaction;
pub mod typed_data;

mod recovery;
