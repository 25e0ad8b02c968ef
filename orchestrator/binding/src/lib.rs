//! What the enclave's attestation documents bind: each layout of `user_data`, with its encoder and its decoder.
//!
//! | module | first 32 bytes | who asks | who verifies |
//! |---|---|---|---|
//! | [`tunnel`] | `enclave-wireguard attested key 1` | PID 1 | wg-server |
//! | [`signer`] | `enclave-wireguard signer's TLS 1` | the signer | wallet |
//! | [`home`] | `enclave-wireguard calling home 1` | the signer | wallet's hub |
//!
//! The first 32 bytes keep each purpose apart from the others: no document for one of them passes for another. Another layout of the same
//! purpose has another number.
//!
//! The enclave links this crate and not `attestation`, which is for verifiers only.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has failed"))]

pub mod home;
pub mod signer;
#[cfg(feature = "tunnel")]
pub mod tunnel;

use aws_lc_rs::digest::{SHA256, digest};
use thiserror::Error;

/// Why bytes are not a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BindingError {
    /// Another length.
    #[error("a binding of {actual} bytes, expected {expected}")]
    Length {
        /// In bytes.
        actual: usize,
        /// In bytes.
        expected: usize,
    },
    /// Made for another purpose, or by another version.
    #[error("a document that does not bind {0}")]
    Domain(&'static str),
}

/// SHA-256 (FIPS 180-4).
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest(&SHA256, bytes).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_that_of_fips_180() {
        let abc = [0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea];
        assert_eq!(sha256(b"abc")[..8], abc);
    }
}
