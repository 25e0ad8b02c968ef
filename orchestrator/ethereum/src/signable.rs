//! What a key can sign. Another kind, such as typed data (EIP-712), is a variant of each enum here; the compiler then names every
//! place that has to know of it.

use crate::key::SecretKey;
use crate::signature::{SignError, SignedTransaction, UnsignedTransaction};
use crate::transaction::Transaction;

/// What can be signed, every field checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signable {
    /// See [`crate::transaction`].
    Transaction(Transaction),
}

/// The same with the hash that is signed.
pub enum Unsigned {
    /// See [`UnsignedTransaction`].
    Transaction(UnsignedTransaction),
}

/// The same with its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signed {
    /// See [`SignedTransaction`].
    Transaction(SignedTransaction),
}

impl Unsigned {
    /// Encodes and hashes.
    #[must_use]
    pub fn new(subject: &Signable) -> Self {
        match subject {
            Signable::Transaction(transaction) => Self::Transaction(UnsignedTransaction::new(transaction)),
        }
    }

    /// What is signed. Equal subjects have equal hashes, and (RFC 6979) equal signatures.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        match self {
            Self::Transaction(transaction) => transaction.hash(),
        }
    }

    /// How many bytes it has at most once it is signed.
    #[must_use]
    pub fn max_signed_len(&self) -> usize {
        match self {
            Self::Transaction(transaction) => transaction.max_signed_len(),
        }
    }

    /// Signs, then checks the signature as whoever receives it will.
    ///
    /// # Errors
    /// Any difference. Nothing that was signed is in the error.
    pub fn sign(self, key: &SecretKey) -> Result<Signed, SignError> {
        match self {
            Self::Transaction(transaction) => transaction.sign(key).map(Signed::Transaction),
        }
    }
}

impl Signed {
    /// The hash that names it: a transaction's is that of its signed bytes.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        match self {
            Self::Transaction(transaction) => transaction.hash,
        }
    }
}
