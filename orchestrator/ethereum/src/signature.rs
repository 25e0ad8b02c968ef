//! Hashing and signing of transactions, and the check of each signature before it leaves.
//!
//! | types | made by | read back by |
//! |---|---|---|
//! | 0, 1, 2 | ethers-core, in `ethers` | ethers-core |
//! | 3, 4 | alloy-consensus, in `alloy` | a second encoding with ethers-core's RLP |

mod values;

use ethers_core::utils::keccak256;
use thiserror::Error;

use crate::address::Address;
use crate::key::SecretKey;
use crate::recovery::recovered;
use crate::transaction::{Kind, Transaction};

mod alloy;
mod ethers;

pub use values::SignatureValues;

/// A transaction as a node takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedTransaction {
    /// Its bytes, type in front.
    pub raw: Vec<u8>,
    /// Their Keccak-256, the transaction's name.
    pub hash: [u8; 32],
}

/// Why a signature does not leave: a fault of memory, processor or program, never of the request.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SignError {
    /// The curve's arithmetic refused.
    #[error("sign: {0}")]
    Sign(String),
    /// The bytes do not read back.
    #[error("read the signed transaction back: {0}")]
    Decode(String),
    /// They say something else.
    #[error("the signed transaction differs from the requested one")]
    Different,
    /// Another key's, or nobody's.
    #[error("the signature recovers to {}, expected {expected}", .recovered.map_or("no address".to_owned(), |address| address.to_string()))]
    Recovery {
        /// The address that a node would see.
        recovered: Option<Address>,
        /// The address of the key.
        expected: Address,
    },
}

/// A transaction in a library's form with the hash that is signed.
pub struct UnsignedTransaction {
    form: Form,
    hash: [u8; 32],
    len: usize,
}

/// By the library that encodes it.
enum Form {
    Ethers(ethers::Form),
    Alloy(alloy::Form),
}

/// `r`, `s` and whether the point's `y` is odd.
type Parts = ([u8; 32], [u8; 32], bool);

/// What a signature adds to the bytes that are hashed, at most: `r` and `s` of 33 bytes each, and `v`.
const MAX_SIGNATURE_LEN: usize = 67;

impl UnsignedTransaction {
    /// Encodes and hashes.
    #[must_use]
    pub fn new(transaction: &Transaction) -> Self {
        let form = Form::new(transaction);
        let bytes = match &form {
            Form::Ethers(form) => form.unsigned(),
            Form::Alloy(form) => form.unsigned(),
        };
        Self { form, hash: keccak256(&bytes), len: bytes.len() }
    }

    /// What is signed. Equal transactions have equal hashes, and (RFC 6979) equal signatures.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        self.hash
    }

    /// How many bytes it has at most once it is signed.
    #[must_use]
    pub fn max_signed_len(&self) -> usize {
        // The length in front of the list may grow by a byte; above 64 KiB it has all that it needs.
        self.len + MAX_SIGNATURE_LEN + usize::from(self.len < 1 << 16)
    }

    /// Signs, then checks the bytes for what a node would see: they decode to this transaction, and recover to this key's
    /// address.
    ///
    /// # Errors
    /// Any difference. Nothing that was signed is in the error.
    pub fn sign(self, key: &SecretKey) -> Result<SignedTransaction, SignError> {
        let raw = self.encode(key)?;
        self.check(&raw, key)?;
        Ok(SignedTransaction { hash: keccak256(&raw), raw })
    }

    fn encode(&self, key: &SecretKey) -> Result<Vec<u8>, SignError> {
        let parts = key.sign(&self.hash).map_err(|error| SignError::Sign(error.to_string()))?;
        Ok(match &self.form {
            Form::Ethers(form) => form.signed(parts),
            Form::Alloy(form) => form.signed(parts),
        })
    }

    fn check(&self, raw: &[u8], key: &SecretKey) -> Result<(), SignError> {
        let (hash, parts) = match &self.form {
            Form::Ethers(form) => form.read_back(raw)?,
            Form::Alloy(form) => form.read_back(raw)?,
        };
        if hash != self.hash {
            return Err(SignError::Different);
        }
        check_recovery(&hash, parts, key)
    }
}

/// Checks that whoever recovers the signer of `hash` finds the account of `key`.
pub(crate) fn check_recovery(hash: &[u8; 32], parts: Parts, key: &SecretKey) -> Result<(), SignError> {
    if key.is_recovered_from(hash, parts) {
        return Ok(());
    }
    Err(SignError::Recovery { recovered: recovered(hash, parts), expected: key.address() })
}

impl Form {
    fn new(transaction: &Transaction) -> Self {
        match &transaction.kind {
            Kind::Legacy { gas_price } => Self::Ethers(ethers::Form::legacy(transaction, *gas_price)),
            Kind::AccessList { gas_price, access_list } => {
                Self::Ethers(ethers::Form::access_list(transaction, *gas_price, access_list))
            }
            Kind::DynamicFee { access_list, .. } => Self::Ethers(ethers::Form::dynamic_fee(transaction, access_list)),
            Kind::Blob { .. } | Kind::SetCode { .. } => Self::Alloy(alloy::Form::new(transaction)),
        }
    }
}

#[cfg(test)]
mod tests;
