//! Types 0, 1 and 2, by ethers-core.

use ethers_core::types::transaction::eip2718::TypedTransaction;
use ethers_core::types::transaction::eip2930::{AccessList, AccessListItem};
use ethers_core::types::{
    Eip1559TransactionRequest, Eip2930TransactionRequest, H160, H256, NameOrAddress, Signature, TransactionRequest,
    U256,
};
use ethers_core::utils::rlp::{DecoderError, Rlp};

use super::{Parts, SignError};
use crate::amount::Wei;
use crate::transaction::{Access, Transaction};

/// In ethers-core's form. Every field is set: ethers-core takes an absent one for zero.
pub(super) struct Form {
    pub(super) typed: TypedTransaction,
    chain_id: u64,
}

impl Form {
    pub(super) fn legacy(transaction: &Transaction, gas_price: Wei) -> Self {
        Self { typed: TypedTransaction::Legacy(base(transaction, gas_price)), chain_id: transaction.chain_id }
    }

    pub(super) fn access_list(transaction: &Transaction, gas_price: Wei, list: &[Access]) -> Self {
        let typed = TypedTransaction::Eip2930(Eip2930TransactionRequest {
            tx: base(transaction, gas_price),
            access_list: access_list(list),
        });
        Self { typed, chain_id: transaction.chain_id }
    }

    pub(super) fn dynamic_fee(transaction: &Transaction, list: &[Access]) -> Self {
        let fees = transaction.fees();
        let typed = TypedTransaction::Eip1559(Eip1559TransactionRequest {
            from: None,
            to: recipient(transaction),
            gas: Some(transaction.gas.into()),
            value: Some(transaction.value.0.into()),
            data: Some(transaction.data.clone().into()),
            nonce: Some(transaction.nonce.into()),
            access_list: access_list(list),
            max_priority_fee_per_gas: Some(fees.max_priority_fee_per_gas.0.into()),
            max_fee_per_gas: Some(fees.max_fee_per_gas.0.into()),
            chain_id: Some(transaction.chain_id.into()),
        });
        Self { typed, chain_id: transaction.chain_id }
    }

    /// The bytes that are hashed and signed.
    pub(super) fn unsigned(&self) -> Vec<u8> {
        self.typed.rlp().to_vec()
    }

    /// As a node takes it.
    pub(super) fn signed(&self, (r, s, is_y_odd): Parts) -> Vec<u8> {
        let parity = u64::from(is_y_odd);
        let v = match self.typed {
            // EIP-155.
            TypedTransaction::Legacy(_) => self.chain_id * 2 + 35 + parity,
            TypedTransaction::Eip2930(_) | TypedTransaction::Eip1559(_) => parity,
        };
        let signature = Signature { r: U256::from_big_endian(&r), s: U256::from_big_endian(&s), v };
        self.typed.rlp_signed(&signature).to_vec()
    }

    /// The hash that the bytes are a signature of, and the signature.
    pub(super) fn read_back(&self, raw: &[u8]) -> Result<([u8; 32], Parts), SignError> {
        let (decoded, signature) = decode(raw).map_err(|error| SignError::Decode(error.to_string()))?;
        // Before it is encoded again: ethers-core reckons with v without looking at it.
        let is_y_odd = self.is_y_odd(signature.v).ok_or(SignError::Different)?;
        // ethers-core does not look at what trails, nor whether an encoding is the shortest; encoding it again does.
        if decoded.rlp_signed(&signature) != *raw {
            return Err(SignError::Different);
        }
        let [r, s] = [signature.r, signature.s].map(big_endian);
        Ok((decoded.sighash().0, (r, s, is_y_odd)))
    }

    pub(super) fn is_y_odd(&self, v: u64) -> Option<bool> {
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
pub(super) fn decode(raw: &[u8]) -> Result<(TypedTransaction, Signature), DecoderError> {
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

fn base(transaction: &Transaction, gas_price: Wei) -> TransactionRequest {
    TransactionRequest {
        from: None,
        to: recipient(transaction),
        gas: Some(transaction.gas.into()),
        gas_price: Some(gas_price.0.into()),
        value: Some(transaction.value.0.into()),
        data: Some(transaction.data.clone().into()),
        nonce: Some(transaction.nonce.into()),
        chain_id: Some(transaction.chain_id.into()),
    }
}

fn recipient(transaction: &Transaction) -> Option<NameOrAddress> {
    transaction.to.map(|to| NameOrAddress::Address(H160(to.0)))
}

fn access_list(entries: &[Access]) -> AccessList {
    let item = |entry: &Access| AccessListItem {
        address: H160(entry.address.0),
        storage_keys: entry.storage_keys.iter().copied().map(H256).collect(),
    };
    AccessList(entries.iter().map(item).collect())
}
