use alloy_consensus::transaction::SignerRecoverable;
use alloy_consensus::{SignableTransaction, TxEip1559, TxEip2930, TxEnvelope, TxLegacy};
use alloy_eips::eip2718::{Decodable2718, Encodable2718};
use alloy_eips::eip2930 as alloy_list;
use alloy_primitives::{B256, TxKind, U256 as AlloyU256};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;

use ethers_core::types::{Signature, U256};

use super::ethers::decode;
use super::*;
use crate::amount::Wei;
use crate::authorization::{Authorization, SignedAuthorization};
use crate::transaction::{Access, MAX_CHAIN_ID, MAX_NONCE};

fn key() -> SecretKey {
    SecretKey::parse(b"0x4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318").unwrap()
}

fn any_transaction() -> impl Strategy<Value = Transaction> {
    let number = || prop_oneof![Just(0_u128), 0..200_u128, any::<u128>()];
    let list = vec((any::<[u8; 20]>(), vec(any::<[u8; 32]>(), 0..3)), 0..3).prop_map(|entries| {
        let entry = |(address, storage_keys)| Access { address: Address(address), storage_keys };
        entries.into_iter().map(entry).collect::<Vec<_>>()
    });
    let authorization =
        (any::<u32>(), any::<[u8; 20]>(), 0..=MAX_NONCE, any::<bool>(), any::<[u8; 32]>(), any::<[u8; 16]>());
    let authorization = authorization.prop_map(|(chain_id, contract, nonce, y_parity, r, short)| SignedAuthorization {
        authorization: Authorization { chain_id: chain_id.into(), contract: Address(contract), nonce },
        y_parity,
        r,
        s: [[0; 16], short].concat().try_into().unwrap(),
    });
    let (hashes, authorizations) = (vec(any::<[u8; 32]>(), 1..7), vec(authorization, 1..4));
    let kind = (0..5, number(), number(), list, hashes, authorizations).prop_map(
        |(kind, fee, tip, access_list, blob_versioned_hashes, authorizations)| {
            let (max_fee_per_gas, max_priority_fee_per_gas) = (Wei(fee), Wei(tip));
            match kind {
                0 => Kind::Legacy { gas_price: max_fee_per_gas },
                1 => Kind::AccessList { gas_price: max_fee_per_gas, access_list },
                2 => Kind::DynamicFee { max_fee_per_gas, max_priority_fee_per_gas, access_list },
                3 => Kind::Blob {
                    max_fee_per_gas,
                    max_priority_fee_per_gas,
                    access_list,
                    max_fee_per_blob_gas: Wei(fee / 3),
                    blob_versioned_hashes,
                },
                _ => Kind::SetCode { max_fee_per_gas, max_priority_fee_per_gas, access_list, authorizations },
            }
        },
    );
    let to = proptest::option::of(any::<[u8; 20]>().prop_map(Address));
    let chain_id = prop_oneof![1..100_000_u64, 1..=MAX_CHAIN_ID];
    (chain_id, 0..=MAX_NONCE, any::<u64>(), to, number(), vec(any::<u8>(), 0..300), kind).prop_map(
        |(chain_id, nonce, gas, to, value, data, kind)| Transaction {
            chain_id,
            nonce,
            gas,
            to: match kind {
                Kind::Blob { .. } | Kind::SetCode { .. } => to.or(Some(Address([7; 20]))),
                Kind::Legacy { .. } | Kind::AccessList { .. } | Kind::DynamicFee { .. } => to,
            },
            value: Wei(value),
            data,
            kind,
        },
    )
}

/// The hash to sign, by alloy; none of what alloy makes.
fn alloy_hash(transaction: &Transaction) -> Option<B256> {
    let to = transaction.to.map_or(TxKind::Create, |to| TxKind::Call(to.0.into()));
    let list = |entries: &[Access]| {
        let item = |entry: &Access| alloy_list::AccessListItem {
            address: entry.address.0.into(),
            storage_keys: entry.storage_keys.iter().copied().map(B256::from).collect(),
        };
        alloy_list::AccessList(entries.iter().map(item).collect())
    };
    let Transaction { chain_id, nonce, gas: gas_limit, .. } = *transaction;
    let value = AlloyU256::from(transaction.value.0);
    let input = transaction.data.clone().into();
    Some(match &transaction.kind {
        Kind::Legacy { gas_price } => {
            TxLegacy { chain_id: Some(chain_id), nonce, gas_price: gas_price.0, gas_limit, to, value, input }
                .signature_hash()
        }
        Kind::AccessList { gas_price, access_list } => {
            let (gas_price, access_list) = (gas_price.0, list(access_list));
            TxEip2930 { chain_id, nonce, gas_price, gas_limit, to, value, access_list, input }.signature_hash()
        }
        Kind::DynamicFee { max_fee_per_gas, max_priority_fee_per_gas, access_list } => TxEip1559 {
            chain_id,
            nonce,
            gas_limit,
            max_fee_per_gas: max_fee_per_gas.0,
            max_priority_fee_per_gas: max_priority_fee_per_gas.0,
            to,
            value,
            access_list: list(access_list),
            input,
        }
        .signature_hash(),
        Kind::Blob { .. } | Kind::SetCode { .. } => return None,
    })
}

proptest! {
    // Curves are slow without optimisation; PROPTEST_CASES asks for more.
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 4, ..ProptestConfig::default() })]

    #[test]
    fn alloy_reads_the_same_transaction_and_the_same_signer(transaction in any_transaction()) {
        let key = key();
        let unsigned = UnsignedTransaction::new(&transaction);
        if let Some(hash) = alloy_hash(&transaction) {
            prop_assert_eq!(unsigned.hash(), hash.0);
        }
        let max_len = unsigned.max_signed_len();
        let signed = unsigned.sign(&key).unwrap();
        // r and s are rarely shorter than 32 bytes, and the parts of a legacy one that its v replaces are short.
        prop_assert!(signed.raw.len() <= max_len && signed.raw.len() + 12 >= max_len, "{} of {}", signed.raw.len(), max_len);
        let mut raw = signed.raw.as_slice();
        let envelope = TxEnvelope::decode_2718(&mut raw).unwrap();
        prop_assert!(raw.is_empty());
        prop_assert_eq!(envelope.encoded_2718(), signed.raw);
        prop_assert_eq!(envelope.tx_hash().0, signed.hash);
        prop_assert_eq!(envelope.recover_signer().unwrap().0, key.address().0);
        prop_assert!(envelope.signature().normalize_s().is_none(), "a high s");
    }
}

#[test]
fn the_same_transaction_has_the_same_signature() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let transaction = any_transaction().new_tree(&mut runner).unwrap().current();
    assert_eq!(
        UnsignedTransaction::new(&transaction).sign(&key()),
        UnsignedTransaction::new(&transaction).sign(&key())
    );
}

fn simple() -> Transaction {
    Transaction {
        chain_id: 1,
        nonce: 5,
        gas: 21_000,
        to: Some(Address([7; 20])),
        value: Wei(1),
        data: Vec::new(),
        kind: Kind::DynamicFee { max_fee_per_gas: Wei(9), max_priority_fee_per_gas: Wei(3), access_list: Vec::new() },
    }
}

#[test]
fn a_signature_of_another_key_does_not_leave() {
    let other = SecretKey::generate().unwrap();
    let unsigned = UnsignedTransaction::new(&simple());
    let raw = unsigned.encode(&other).unwrap();
    let expected = key().address();
    assert_eq!(unsigned.check(&raw, &key()), Err(SignError::Recovery { recovered: Some(other.address()), expected }));
}

/// Of types 0 to 2.
fn ethers_form(unsigned: &UnsignedTransaction) -> &ethers::Form {
    match &unsigned.form {
        Form::Ethers(form) => form,
        Form::Alloy(_) => panic!("not made by ethers-core"),
    }
}

/// One of each type that alloy makes.
fn simple_ones_of_alloy() -> [Transaction; 2] {
    let (max_fee_per_gas, max_priority_fee_per_gas) = (Wei(9), Wei(3));
    let authorization = Authorization { chain_id: 1, contract: Address([8; 20]), nonce: 6 };
    let kinds = [
        Kind::Blob {
            max_fee_per_gas,
            max_priority_fee_per_gas,
            access_list: vec![Access { address: Address([7; 20]), storage_keys: vec![[1; 32]] }],
            max_fee_per_blob_gas: Wei(2),
            blob_versioned_hashes: vec![[1; 32]],
        },
        Kind::SetCode {
            max_fee_per_gas,
            max_priority_fee_per_gas,
            access_list: Vec::new(),
            authorizations: vec![SignedAuthorization { authorization, y_parity: true, r: [3; 32], s: [4; 32] }],
        },
    ];
    kinds.map(|kind| Transaction { kind, ..simple() })
}

/// One of each type that ethers-core makes.
fn simple_ones() -> [Transaction; 3] {
    let kinds = [
        Kind::Legacy { gas_price: Wei(9) },
        Kind::AccessList { gas_price: Wei(9), access_list: Vec::new() },
        simple().kind,
    ];
    kinds.map(|kind| Transaction { kind, ..simple() })
}

#[test]
fn a_bit_flipped_in_any_byte_does_not_leave() {
    let key = key();
    for transaction in simple_ones().into_iter().chain(simple_ones_of_alloy()) {
        let unsigned = UnsignedTransaction::new(&transaction);
        let raw = unsigned.encode(&key).unwrap();
        assert_eq!(unsigned.check(&raw, &key), Ok(()));
        for at in 0..raw.len() {
            let mut flipped = raw.clone();
            flipped[at] ^= 1 << (at % 8);
            assert!(unsigned.check(&flipped, &key).is_err(), "byte {at}");
        }
    }
}

#[test]
fn a_signature_with_the_other_parity_or_the_higher_s_does_not_leave() {
    let order = U256::from_str_radix("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141", 16).unwrap();
    let key = key();
    for transaction in simple_ones() {
        let unsigned = UnsignedTransaction::new(&transaction);
        let (_, right) = decode(&unsigned.encode(&key).unwrap()).unwrap();
        let form = ethers_form(&unsigned);
        let lowest = right.v - u64::from(form.is_y_odd(right.v).unwrap());
        for (v, s) in [lowest, lowest + 1].into_iter().flat_map(|v| [(v, right.s), (v, order - right.s)]) {
            let signature = Signature { v, s, ..right };
            let checked = unsigned.check(&form.typed.rlp_signed(&signature), &key);
            assert_eq!(checked.is_ok(), signature == right, "{v} {s}");
        }
    }
}

#[test]
fn a_v_that_says_no_parity_does_not_leave() {
    let key = key();
    for transaction in simple_ones() {
        let unsigned = UnsignedTransaction::new(&transaction);
        let raw = unsigned.encode(&key).unwrap();
        // Behind it are r and s, each with one byte in front.
        let at = raw.len() - 67;
        for v in (2..35).chain(39..0x80) {
            let mut other = raw.clone();
            other[at] = v;
            assert_eq!(unsigned.check(&other, &key), Err(SignError::Different), "{v}");
        }
    }
}

#[test]
fn another_transaction_than_the_one_asked_for_does_not_leave() {
    let other = UnsignedTransaction::new(&Transaction { value: Wei(2), ..simple() }).encode(&key()).unwrap();
    assert_eq!(UnsignedTransaction::new(&simple()).check(&other, &key()), Err(SignError::Different));
}

#[test]
fn bytes_behind_the_transaction_do_not_leave() {
    let mut raw = UnsignedTransaction::new(&simple()).encode(&key()).unwrap();
    raw.push(0);
    assert!(UnsignedTransaction::new(&simple()).check(&raw, &key()).is_err());
}

#[test]
fn what_alloy_makes_leaves_only_as_it_was_requested() {
    let key = key();
    for transaction in simple_ones_of_alloy() {
        let unsigned = UnsignedTransaction::new(&transaction);
        let mut raw = unsigned.encode(&key).unwrap();
        let other = UnsignedTransaction::new(&Transaction { value: Wei(2), ..transaction.clone() });
        assert_eq!(other.check(&raw, &key), Err(SignError::Different));
        raw.push(0);
        assert!(unsigned.check(&raw, &key).is_err(), "a byte behind it");
        // Neither type creates contracts.
        let without = UnsignedTransaction::new(&Transaction { to: None, ..transaction });
        assert_eq!(without.sign(&key), Err(SignError::Different));
    }
}
