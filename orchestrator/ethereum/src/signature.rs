//! Hashing and signing of transactions, and the check of each signature before it leaves.

use ethers_core::types::transaction::eip2718::TypedTransaction;
use ethers_core::types::transaction::eip2930::{AccessList, AccessListItem};
use ethers_core::types::{
    Eip1559TransactionRequest, Eip2930TransactionRequest, H160, H256, NameOrAddress, Signature, TransactionRequest,
    U256,
};
use ethers_core::utils::keccak256;
use ethers_core::utils::rlp::{DecoderError, Rlp};
use thiserror::Error;

use crate::address::Address;
use crate::key::SecretKey;
use crate::transaction::{Access, Kind, Transaction};

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

/// A transaction in ethers-core's form with the hash that is signed.
pub struct UnsignedTransaction {
    typed: TypedTransaction,
    chain_id: u64,
    hash: [u8; 32],
    len: usize,
}

/// What a signature adds to the bytes that are hashed, at most: `r` and `s` of 33 bytes each, and `v`.
const MAX_SIGNATURE_LEN: usize = 67;

impl UnsignedTransaction {
    /// Encodes and hashes.
    #[must_use]
    pub fn new(transaction: &Transaction) -> Self {
        let typed = typed(transaction);
        let bytes = typed.rlp();
        Self { typed, chain_id: transaction.chain_id, hash: keccak256(&bytes), len: bytes.len() }
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
        let (r, s, is_y_odd) = key.sign(&self.hash).map_err(|error| SignError::Sign(error.to_string()))?;
        let parity = u64::from(is_y_odd);
        let v = match self.typed {
            // EIP-155.
            TypedTransaction::Legacy(_) => self.chain_id * 2 + 35 + parity,
            TypedTransaction::Eip2930(_) | TypedTransaction::Eip1559(_) => parity,
        };
        let signature = Signature { r: U256::from_big_endian(&r), s: U256::from_big_endian(&s), v };
        Ok(self.typed.rlp_signed(&signature).to_vec())
    }

    fn check(&self, raw: &[u8], key: &SecretKey) -> Result<(), SignError> {
        let (decoded, signature) = decode(raw).map_err(|error| SignError::Decode(error.to_string()))?;
        // Before it is encoded again: ethers-core reckons with v without looking at it.
        let is_y_odd = self.is_y_odd(signature.v).ok_or(SignError::Different)?;
        let hash = decoded.sighash();
        // ethers-core does not look at what trails, nor whether an encoding is the shortest; encoding it again does.
        if hash.0 != self.hash || decoded.rlp_signed(&signature) != *raw {
            return Err(SignError::Different);
        }
        let [r, s] = [signature.r, signature.s].map(big_endian);
        if !key.is_recovered_from(&hash.0, (r, s, is_y_odd)) {
            let recovered = signature.recover(hash).ok().map(|address| Address(address.0));
            return Err(SignError::Recovery { recovered, expected: key.address() });
        }
        Ok(())
    }

    fn is_y_odd(&self, v: u64) -> Option<bool> {
        let parity = match self.typed {
            TypedTransaction::Legacy(_) => v.checked_sub(self.chain_id * 2 + 35)?,
            TypedTransaction::Eip2930(_) | TypedTransaction::Eip1559(_) => v,
        };
        match parity {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

/// Reads a signed transaction. ethers-core's own function recovers its sender too, which takes most of the time of it all.
fn decode(raw: &[u8]) -> Result<(TypedTransaction, Signature), DecoderError> {
    let (&first, rest) = raw.split_first().ok_or(DecoderError::RlpIsTooShort)?;
    // EIP-2718: a list is a transaction of before there were types.
    let list = Rlp::new(if first < 0xc0 { rest } else { raw });
    let at = list.item_count()?.checked_sub(3).ok_or(DecoderError::RlpIncorrectListLen)?;
    let signature = Signature { v: list.val_at(at)?, r: list.val_at(at + 1)?, s: list.val_at(at + 2)? };
    let transaction = match first {
        1 => TypedTransaction::Eip2930(list.as_val()?),
        2 => TypedTransaction::Eip1559(list.as_val()?),
        0xc0.. => {
            // ethers-core takes v for the chain's number. EIP-155: it is that of the chain, doubled, and 35 or 36.
            let chain_id = signature.v.checked_sub(35).map(|v| (v / 2).into());
            TypedTransaction::Legacy(TransactionRequest { chain_id, ..list.as_val()? })
        }
        _ => return Err(DecoderError::Custom("no type of transactions that is signed here")),
    };
    Ok((transaction, signature))
}

fn big_endian(number: U256) -> [u8; 32] {
    let mut bytes = [0; 32];
    number.to_big_endian(&mut bytes);
    bytes
}

/// Every field is set: ethers-core takes an absent one for zero.
fn typed(transaction: &Transaction) -> TypedTransaction {
    let to = transaction.to.map(|to| NameOrAddress::Address(H160(to.0)));
    let base = |gas_price: u128| TransactionRequest {
        from: None,
        to: to.clone(),
        gas: Some(transaction.gas.into()),
        gas_price: Some(gas_price.into()),
        value: Some(transaction.value.0.into()),
        data: Some(transaction.data.clone().into()),
        nonce: Some(transaction.nonce.into()),
        chain_id: Some(transaction.chain_id.into()),
    };
    match &transaction.kind {
        Kind::Legacy { gas_price } => TypedTransaction::Legacy(base(gas_price.0)),
        Kind::AccessList { gas_price, access_list: list } => TypedTransaction::Eip2930(Eip2930TransactionRequest {
            tx: base(gas_price.0),
            access_list: access_list(list),
        }),
        Kind::DynamicFee { max_fee_per_gas, max_priority_fee_per_gas, access_list: list } => {
            TypedTransaction::Eip1559(Eip1559TransactionRequest {
                from: None,
                to,
                gas: Some(transaction.gas.into()),
                value: Some(transaction.value.0.into()),
                data: Some(transaction.data.clone().into()),
                nonce: Some(transaction.nonce.into()),
                access_list: access_list(list),
                max_priority_fee_per_gas: Some(max_priority_fee_per_gas.0.into()),
                max_fee_per_gas: Some(max_fee_per_gas.0.into()),
                chain_id: Some(transaction.chain_id.into()),
            })
        }
    }
}

fn access_list(entries: &[Access]) -> AccessList {
    let item = |entry: &Access| AccessListItem {
        address: H160(entry.address.0),
        storage_keys: entry.storage_keys.iter().copied().map(H256).collect(),
    };
    AccessList(entries.iter().map(item).collect())
}

#[cfg(test)]
mod tests;
