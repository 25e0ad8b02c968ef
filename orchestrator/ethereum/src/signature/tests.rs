use alloy_consensus::transaction::SignerRecoverable;
use alloy_consensus::{SignableTransaction, TxEip1559, TxEip2930, TxEnvelope, TxLegacy};
use alloy_eips::eip2718::{Decodable2718, Encodable2718};
use alloy_eips::eip2930 as alloy_list;
use alloy_primitives::{B256, TxKind, U256 as AlloyU256};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;

use super::*;
use crate::amount::Wei;
use crate::transaction::{MAX_CHAIN_ID, MAX_NONCE};

fn key() -> SecretKey {
    SecretKey::parse(b"0x4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318").unwrap()
}

fn any_transaction() -> impl Strategy<Value = Transaction> {
    let number = || prop_oneof![Just(0_u128), 0..200_u128, any::<u128>()];
    let list = vec((any::<[u8; 20]>(), vec(any::<[u8; 32]>(), 0..3)), 0..3).prop_map(|entries| {
        let entry = |(address, storage_keys)| Access { address: Address(address), storage_keys };
        entries.into_iter().map(entry).collect::<Vec<_>>()
    });
    let kind = (0..3, number(), number(), list).prop_map(|(kind, fee, tip, access_list)| match kind {
        0 => Kind::Legacy { gas_price: Wei(fee) },
        1 => Kind::AccessList { gas_price: Wei(fee), access_list },
        _ => Kind::DynamicFee { max_fee_per_gas: Wei(fee), max_priority_fee_per_gas: Wei(tip), access_list },
    });
    let to = proptest::option::of(any::<[u8; 20]>().prop_map(Address));
    let chain_id = prop_oneof![1..100_000_u64, 1..=MAX_CHAIN_ID];
    (chain_id, 0..=MAX_NONCE, any::<u64>(), to, number(), vec(any::<u8>(), 0..300), kind).prop_map(
        |(chain_id, nonce, gas, to, value, data, kind)| Transaction {
            chain_id,
            nonce,
            gas,
            to,
            value: Wei(value),
            data,
            kind,
        },
    )
}

/// The hash to sign, by alloy.
fn alloy_hash(transaction: &Transaction) -> B256 {
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
    match &transaction.kind {
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
    }
}

proptest! {
    // Curves are slow without optimisation; PROPTEST_CASES asks for more.
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 4, ..ProptestConfig::default() })]

    #[test]
    fn alloy_reads_the_same_transaction_and_the_same_signer(transaction in any_transaction()) {
        let key = key();
        let unsigned = UnsignedTransaction::new(&transaction);
        prop_assert_eq!(unsigned.hash(), alloy_hash(&transaction).0);
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

/// One of each type.
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
    for transaction in simple_ones() {
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
        let lowest = right.v - u64::from(unsigned.is_y_odd(right.v).unwrap());
        for (v, s) in [lowest, lowest + 1].into_iter().flat_map(|v| [(v, right.s), (v, order - right.s)]) {
            let signature = Signature { v, s, ..right };
            let checked = unsigned.check(&unsigned.typed.rlp_signed(&signature), &key);
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
