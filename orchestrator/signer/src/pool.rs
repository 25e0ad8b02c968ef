//! Transactions that no node would accept, by arithmetic on the transaction alone: no nonce is spent on them.
//!
//! These are the rules of Ethereum as of Osaka (2025), and of the chains that follow it. `own_gas_rules` in [`crate::policy`] names chains
//! with rules of their own, to which nothing here applies. What depends on an account's balance, on its nonce or on the price of gas is
//! the node's to decide. A cost above 2^256 wei is not possible: gas has 64 bits, a fee and a value 128 each.

use ethereum::transaction::Transaction;
use signer_api::RequestError;

/// A transaction that does nothing (yellow paper, `G_transaction`).
pub const BASE: u64 = 21_000;

/// Creating a contract (yellow paper, `G_txcreate`), and each begun word of 32 bytes of its code (EIP-3860).
const CREATION: u64 = 32_000;
const INIT_CODE_WORD: u64 = 2;

/// A token of data is a zero byte, or a fourth of another byte: what it costs (EIP-2028), and costs at least (EIP-7623).
const TOKEN: u64 = 4;
const TOKEN_FLOOR: u64 = 10;

/// Entries of an access list (EIP-2930).
const ACCESS_ADDRESS: u64 = 2_400;
const ACCESS_KEY: u64 = 1_900;

/// The most gas of one transaction (EIP-7825).
pub(crate) const MAX_GAS: u64 = 1 << 24;

/// The longest code that creates a contract (EIP-3860).
const MAX_INIT_CODE: usize = 49_152;

/// The longest signed transaction (geth: `txMaxSize`).
const MAX_LEN: usize = 128 * 1024;

/// Checks that a node may accept the transaction, which has at most `signed_len` bytes once it is signed.
///
/// # Errors
/// The field, and the number that it needs.
pub fn check(transaction: &Transaction, signed_len: usize) -> Result<(), RequestError> {
    let Transaction { gas, ref data, .. } = *transaction;
    if transaction.to.is_none() && data.len() > MAX_INIT_CODE {
        let problem =
            format!("{} bytes to create a contract with, expected at most {MAX_INIT_CODE} (EIP-3860)", data.len());
        return Err(error("data", problem));
    }
    if signed_len > MAX_LEN {
        let field = if data.len() > signed_len / 2 { "data" } else { "accessList" };
        let problem = format!(
            "the signed transaction may have {signed_len} bytes, and nodes accept at most {MAX_LEN}; expected {} bytes less of it",
            signed_len - MAX_LEN
        );
        return Err(error(field, problem));
    }
    let (intrinsic, floor) = (intrinsic(transaction), floor(data));
    let (needed, why) = if intrinsic >= floor {
        (intrinsic, "what this transaction costs before it runs")
    } else {
        (floor, "the least for data of this size (EIP-7623)")
    };
    if gas < needed {
        return Err(error("gas", format!("{gas}, expected at least {needed}, {why}")));
    }
    if gas > MAX_GAS {
        return Err(error("gas", format!("{gas}, expected at most {MAX_GAS} (EIP-7825)")));
    }
    Ok(())
}

fn error(field: &str, problem: String) -> RequestError {
    RequestError::new(format!("transaction_payload.{field}"), problem)
}

fn intrinsic(transaction: &Transaction) -> u64 {
    let data = &transaction.data;
    let creation = match transaction.to {
        None => CREATION + INIT_CODE_WORD * data.len().div_ceil(32) as u64,
        Some(_) => 0,
    };
    let access =
        transaction.access_list().iter().map(|access| ACCESS_ADDRESS + ACCESS_KEY * access.storage_keys.len() as u64);
    BASE + TOKEN * tokens(data) + creation + access.sum::<u64>()
}

fn floor(data: &[u8]) -> u64 {
    BASE + TOKEN_FLOOR * tokens(data)
}

fn tokens(data: &[u8]) -> u64 {
    data.iter().map(|byte| if *byte == 0 { 1 } else { 4 }).sum()
}

#[cfg(test)]
mod tests {
    use alloy_eips::eip7623::{tokens_in_calldata, transaction_floor_cost};
    use alloy_eips::eip7825::MAX_TX_GAS_LIMIT_OSAKA;
    use ethereum::address::Address;
    use ethereum::amount::Wei;
    use ethereum::hex;
    use ethereum::transaction::{Access, Kind};
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn call(data: Vec<u8>) -> Transaction {
        Transaction {
            chain_id: 1,
            nonce: 0,
            gas: MAX_GAS,
            to: Some(Address([7; 20])),
            value: Wei(0),
            data,
            kind: Kind::Legacy { gas_price: Wei(1) },
        }
    }

    fn creation(data: Vec<u8>) -> Transaction {
        Transaction { to: None, ..call(data) }
    }

    fn with_access(addresses: usize, keys: usize) -> Transaction {
        let access = Access { address: Address([7; 20]), storage_keys: vec![[1; 32]; keys] };
        Transaction {
            kind: Kind::AccessList { gas_price: Wei(1), access_list: vec![access; addresses] },
            ..call(vec![])
        }
    }

    /// The lowest gas that is taken, found by asking.
    fn lowest(transaction: &Transaction) -> u64 {
        let is_taken = |gas: &u64| check(&Transaction { gas: *gas, ..transaction.clone() }, 0).is_ok();
        let (mut refused, mut taken) = (0, MAX_GAS);
        while taken - refused > 1 {
            let middle = refused.midpoint(taken);
            if is_taken(&middle) { taken = middle } else { refused = middle }
        }
        taken
    }

    /// The numbers are `intrinsicGas` of Shanghai in github.com/ethereum/tests, TransactionTests: ttEIP2028/DataTestSufficientGas2028,
    /// ttData/DataTestEnoughGasInitCode (London+3860), ttEIP2930/accessListStorage32Bytes.
    #[test]
    fn the_intrinsic_gas_is_that_of_ethereums_own_tests() {
        let data = hex::decode("deadbeef0000000101010010101010101010101010101aaabbbbbbcccccccddddddddd").unwrap();
        assert_eq!(intrinsic(&call(data)), 0x5408);
        assert_eq!(lowest(&creation(vec![0; 64])), 0xd00c);
        assert_eq!(lowest(&with_access(1, 1)), 0x62d4);
    }

    #[test]
    fn a_transfer_an_access_list_and_a_creation_need_their_gas() {
        assert_eq!(lowest(&call(vec![])), 21_000);
        assert_eq!(lowest(&with_access(1, 0)), 23_400);
        assert_eq!(lowest(&with_access(3, 2)), 21_000 + 3 * 2_400 + 6 * 1_900);
        // 33 bytes are two words.
        assert_eq!(lowest(&creation(vec![0; 33])), 21_000 + 32_000 + 33 * 4 + 2 * 2);
        // EIP-7623 counts in both: a call of 100 bytes at 40, a creation of 1,000 below its own cost, one of 10,000 above it.
        assert_eq!(lowest(&call(vec![1; 100])), 21_000 + 100 * 40);
        assert_eq!(lowest(&creation(vec![1; 1_000])), 21_000 + 32_000 + 1_000 * 16 + 32 * 2);
        assert_eq!(lowest(&creation(vec![1; 10_000])), 21_000 + 10_000 * 40);
    }

    #[test]
    fn an_error_names_the_field_and_the_number() {
        let refused = |transaction: &Transaction, len| check(transaction, len).unwrap_err().to_string();
        let gas = |gas, transaction| refused(&Transaction { gas, ..transaction }, 0);
        assert_eq!(
            gas(20_999, call(vec![])),
            "transaction_payload.gas: 20999, expected at least 21000, what this transaction costs before it runs"
        );
        assert_eq!(
            gas(25_039, call(vec![1; 101])),
            "transaction_payload.gas: 25039, expected at least 25040, the least for data of this size (EIP-7623)"
        );
        assert_eq!(
            gas((1 << 24) + 1, call(vec![])),
            "transaction_payload.gas: 16777217, expected at most 16777216 (EIP-7825)"
        );
        assert_eq!(
            refused(&creation(vec![1; 49_153]), 0),
            "transaction_payload.data: 49153 bytes to create a contract with, expected at most 49152 (EIP-3860)"
        );
        assert!(check(&creation(vec![1; 49_152]), 50_000).is_ok() && check(&call(vec![1; 49_153]), 50_000).is_ok());
        let data = refused(&call(vec![1; 131_000]), 131_073);
        assert!(data.starts_with("transaction_payload.data: the signed transaction may have 131073 bytes"), "{data}");
        assert!(data.ends_with("expected 1 bytes less of it"), "{data}");
        assert!(refused(&with_access(1, 4_000), 131_073).starts_with("transaction_payload.accessList: "));
        assert!(check(&call(vec![1; 131_000]), 131_072).is_ok());
    }

    proptest! {
        #[test]
        fn the_floor_is_the_one_that_alloy_reckons(data in vec(prop_oneof![Just(0), any::<u8>()], 0..2_000)) {
            prop_assert_eq!(floor(&data), transaction_floor_cost(tokens_in_calldata(&data)));
            prop_assert_eq!(MAX_GAS, MAX_TX_GAS_LIMIT_OSAKA);
        }
    }
}
