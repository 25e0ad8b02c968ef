//! Types 3 and 4, by alloy-consensus. They are read back by encoding them once more, with ethers-core's RLP.

use alloy_consensus::transaction::RlpEcdsaEncodableTx;
use alloy_consensus::{SignableTransaction, TxEip4844, TxEip7702};
use alloy_eips::eip2930::{AccessList, AccessListItem};
use alloy_eips::eip7702;
use alloy_primitives::{Address, B256, Signature, U256};
use ethers_core::types::U256 as Number;
use ethers_core::utils::keccak256;
use ethers_core::utils::rlp::{DecoderError, Rlp, RlpStream};

use super::{Parts, SignError};
use crate::amount::Wei;
use crate::authorization::SignedAuthorization;
use crate::transaction::{Access, Kind, Transaction};

/// What alloy makes its own form of when it is needed: the call data would be in memory once more.
pub(super) struct Form(Transaction);

enum Typed {
    Blob(TxEip4844),
    SetCode(TxEip7702),
}

impl Form {
    /// Of a transaction of type 3 or 4.
    pub(super) fn new(transaction: &Transaction) -> Self {
        Self(transaction.clone())
    }

    /// The bytes that are hashed and signed.
    pub(super) fn unsigned(&self) -> Vec<u8> {
        match self.typed() {
            Typed::Blob(transaction) => transaction.encoded_for_signing(),
            Typed::SetCode(transaction) => transaction.encoded_for_signing(),
        }
    }

    /// As a node takes it; of type 3 without the blobs.
    pub(super) fn signed(&self, (r, s, is_y_odd): Parts) -> Vec<u8> {
        let signature = Signature::new(U256::from_be_bytes(r), U256::from_be_bytes(s), is_y_odd);
        let mut raw = Vec::new();
        match self.typed() {
            Typed::Blob(transaction) => transaction.eip2718_encode(&signature, &mut raw),
            Typed::SetCode(transaction) => transaction.eip2718_encode(&signature, &mut raw),
        }
        raw
    }

    /// The hash that the bytes are a signature of, and the signature.
    pub(super) fn read_back(&self, raw: &[u8]) -> Result<([u8; 32], Parts), SignError> {
        let (r, s, y_parity) = signature(raw).map_err(|error| SignError::Decode(error.to_string()))?;
        // Also whether anything trails, and whether each number is the shortest.
        if encode(&self.0, Some((r, s, y_parity))) != raw {
            return Err(SignError::Different);
        }
        let [r, s] = [r, s].map(|number| {
            let mut bytes = [0; 32];
            number.to_big_endian(&mut bytes);
            bytes
        });
        Ok((keccak256(encode(&self.0, None)), (r, s, y_parity)))
    }

    fn typed(&self) -> Typed {
        let transaction = &self.0;
        let (fees, access_list) = (transaction.fees(), access_list(transaction.access_list()));
        let Transaction { chain_id, nonce, gas: gas_limit, .. } = *transaction;
        let (to, value, input) =
            (recipient(transaction), U256::from(transaction.value.0), transaction.data.clone().into());
        let (max_fee_per_gas, max_priority_fee_per_gas) = (fees.max_fee_per_gas.0, fees.max_priority_fee_per_gas.0);
        match fees.max_fee_per_blob_gas {
            Some(Wei(max_fee_per_blob_gas)) => Typed::Blob(TxEip4844 {
                chain_id,
                nonce,
                gas_limit,
                max_fee_per_gas,
                max_priority_fee_per_gas,
                to,
                value,
                access_list,
                blob_versioned_hashes: transaction.blob_versioned_hashes().iter().copied().map(B256::from).collect(),
                max_fee_per_blob_gas,
                input,
            }),
            None => Typed::SetCode(TxEip7702 {
                chain_id,
                nonce,
                gas_limit,
                max_fee_per_gas,
                max_priority_fee_per_gas,
                to,
                value,
                access_list,
                authorization_list: transaction.authorizations().iter().map(authorization).collect(),
                input,
            }),
        }
    }
}

/// The last three of the list behind the type's byte.
fn signature(raw: &[u8]) -> Result<(Number, Number, bool), DecoderError> {
    let list = Rlp::new(raw.get(1..).ok_or(DecoderError::RlpIsTooShort)?);
    let at = list.item_count()?.checked_sub(3).ok_or(DecoderError::RlpIncorrectListLen)?;
    Ok((list.val_at(at + 1)?, list.val_at(at + 2)?, list.val_at(at)?))
}

/// By the libraries that did not make it: EIP-4844 and EIP-7702, with the signature or for it.
fn encode(transaction: &Transaction, signature: Option<(Number, Number, bool)>) -> Vec<u8> {
    let fees = transaction.fees();
    let mut list = RlpStream::new();
    list.begin_unbounded_list();
    list.append(&transaction.chain_id).append(&transaction.nonce);
    list.append(&fees.max_priority_fee_per_gas.0).append(&fees.max_fee_per_gas.0).append(&transaction.gas);
    let recipient = transaction.to.map(|to| to.0);
    list.append(&recipient.as_ref().map_or(&[] as &[u8], |to| to.as_slice()));
    list.append(&transaction.value.0).append(&transaction.data.as_slice());
    list.begin_list(transaction.access_list().len());
    for access in transaction.access_list() {
        list.begin_list(2).append(&access.address.0.as_slice()).begin_list(access.storage_keys.len());
        for key in &access.storage_keys {
            list.append(&key.as_slice());
        }
    }
    let number = match &transaction.kind {
        Kind::Blob { max_fee_per_blob_gas, blob_versioned_hashes, .. } => {
            list.append(&max_fee_per_blob_gas.0).begin_list(blob_versioned_hashes.len());
            for hash in blob_versioned_hashes {
                list.append(&hash.as_slice());
            }
            3
        }
        Kind::SetCode { authorizations, .. } => {
            list.begin_list(authorizations.len());
            for SignedAuthorization { authorization, y_parity, r, s } in authorizations {
                list.begin_list(6).append(&authorization.chain_id).append(&authorization.contract.0.as_slice());
                list.append(&authorization.nonce).append(y_parity);
                list.append(&Number::from_big_endian(r)).append(&Number::from_big_endian(s));
            }
            4
        }
        // Not made here: whatever the bytes are, they differ.
        Kind::Legacy { .. } | Kind::AccessList { .. } | Kind::DynamicFee { .. } => 0,
    };
    if let Some((r, s, y_parity)) = signature {
        list.append(&y_parity).append(&r).append(&s);
    }
    list.finalize_unbounded_list();
    [&[number], list.as_raw()].concat()
}

/// Neither type creates contracts. Of one that has no recipient no signature leaves: the second encoding has none either.
fn recipient(transaction: &Transaction) -> Address {
    transaction.to.map_or(Address::ZERO, |to| to.0.into())
}

fn access_list(entries: &[Access]) -> AccessList {
    let item = |entry: &Access| AccessListItem {
        address: entry.address.0.into(),
        storage_keys: entry.storage_keys.iter().copied().map(B256::from).collect(),
    };
    AccessList(entries.iter().map(item).collect())
}

fn authorization(signed: &SignedAuthorization) -> eip7702::SignedAuthorization {
    let [r, s] = [signed.r, signed.s].map(U256::from_be_bytes);
    let inner = signed.authorization.alloy();
    eip7702::SignedAuthorization::new_unchecked(inner, signed.y_parity.into(), r, s)
}
