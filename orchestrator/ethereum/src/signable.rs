//! What a key can sign. Another kind is a variant of each enum here; the compiler then names every place that has to know of it.
//! A bare hash is none of them, and must not become one.

use crate::authorization::Authorization;
use crate::key::SecretKey;
use crate::message::Message;
use crate::signature::{SignError, SignedTransaction, UnsignedTransaction, check_recovery};
use crate::transaction::Transaction;
use crate::typed_data::TypedData;

/// What can be signed, every field checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signable {
    /// See [`crate::transaction`].
    Transaction(Transaction),
    /// See [`crate::authorization`].
    Authorization(Authorization),
    /// See [`crate::message`].
    Message(Message),
    /// See [`crate::typed_data`].
    TypedData(TypedData),
}

/// The same with the hash that is signed.
pub enum Unsigned {
    /// See [`UnsignedTransaction`].
    Transaction(UnsignedTransaction),
    /// See [`Digest`].
    Authorization(Digest),
    /// See [`Digest`].
    Message(Digest),
    /// See [`Digest`].
    TypedData(Digest),
}

/// The same with its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signed {
    /// See [`SignedTransaction`].
    Transaction(SignedTransaction),
    /// The last byte of its signature is `yParity`: 0 or 1.
    Authorization(Signature),
    /// The last byte of its signature is 27 or 28.
    Message(Signature),
    /// The last byte of its signature is 27 or 28.
    TypedData(Signature),
}

/// A hash that was reckoned twice, where there is another library by that one.
pub struct Digest {
    hash: [u8; 32],
    again: [u8; 32],
}

/// A signature by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature {
    /// `r`, `s`, and the parity of the point's `y`.
    pub bytes: [u8; Signature::LEN],
    /// What is signed.
    pub hash: [u8; 32],
}

impl Signature {
    /// Two numbers of 32 bytes, and one byte.
    pub const LEN: usize = 65;
}

/// What is added to the parity in signatures of messages and typed data.
const V: u8 = 27;

impl Unsigned {
    /// Encodes and hashes.
    #[must_use]
    pub fn new(subject: &Signable) -> Self {
        match subject {
            Signable::Transaction(transaction) => Self::Transaction(UnsignedTransaction::new(transaction)),
            Signable::Authorization(authorization) => {
                Self::Authorization(Digest { hash: authorization.hash(), again: authorization.hash_again() })
            }
            Signable::Message(message) => Self::Message(Digest { hash: message.hash(), again: message.hash_again() }),
            Signable::TypedData(data) => Self::TypedData(Digest { hash: data.hash(), again: data.hash_again() }),
        }
    }

    /// What is signed. Equal subjects have equal hashes, and (RFC 6979) equal signatures.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        match self {
            Self::Transaction(transaction) => transaction.hash(),
            Self::Authorization(digest) | Self::Message(digest) | Self::TypedData(digest) => digest.hash,
        }
    }

    /// How many bytes it has at most once it is signed.
    #[must_use]
    pub fn max_signed_len(&self) -> usize {
        match self {
            Self::Transaction(transaction) => transaction.max_signed_len(),
            Self::Authorization(_) | Self::Message(_) | Self::TypedData(_) => Signature::LEN,
        }
    }

    /// Signs, then checks the signature as whoever receives it will.
    ///
    /// # Errors
    /// Any difference. Nothing that was signed is in the error.
    pub fn sign(self, key: &SecretKey) -> Result<Signed, SignError> {
        match self {
            Self::Transaction(transaction) => transaction.sign(key).map(Signed::Transaction),
            Self::Authorization(digest) => digest.sign(key, 0).map(Signed::Authorization),
            Self::Message(digest) => digest.sign(key, V).map(Signed::Message),
            Self::TypedData(digest) => digest.sign(key, V).map(Signed::TypedData),
        }
    }
}

impl Signed {
    /// The hash that names it: a transaction's is that of its signed bytes, another's the one that is signed.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        match self {
            Self::Transaction(transaction) => transaction.hash,
            Self::Authorization(signature) | Self::Message(signature) | Self::TypedData(signature) => signature.hash,
        }
    }
}

impl Digest {
    fn sign(&self, key: &SecretKey, v: u8) -> Result<Signature, SignError> {
        let (r, s, is_y_odd) = key.sign(&self.hash).map_err(|error| SignError::Sign(error.to_string()))?;
        let mut bytes = [0; Signature::LEN];
        for (to, from) in bytes.iter_mut().zip(r.into_iter().chain(s).chain([v + u8::from(is_y_odd)])) {
            *to = from;
        }
        self.check(&bytes, key, v)?;
        Ok(Signature { bytes, hash: self.hash })
    }

    /// Of the bytes as they leave.
    fn check(&self, bytes: &[u8; Signature::LEN], key: &SecretKey, v: u8) -> Result<(), SignError> {
        let (Some((r, rest)), Some((_, [parity]))) = (bytes.split_first_chunk::<32>(), bytes.split_last_chunk::<1>())
        else {
            return Err(SignError::Different);
        };
        let s = rest.first_chunk::<32>().ok_or(SignError::Different)?;
        let is_y_odd = match parity.checked_sub(v) {
            Some(0) => false,
            Some(1) => true,
            Some(_) | None => return Err(SignError::Different),
        };
        if self.again != self.hash {
            return Err(SignError::Different);
        }
        check_recovery(&self.hash, (*r, *s, is_y_odd), key)
    }
}

#[cfg(test)]
mod tests;
