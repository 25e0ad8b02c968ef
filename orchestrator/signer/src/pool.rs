//! Transactions that no node would accept, by arithmetic on the transaction alone: no nonce is spent on them.
//!
//! These are the rules of Ethereum as of Osaka (2025), and of the chains that follow it. `own_gas_rules` in [`crate::policy`] names chains
//! with rules of their own, to which nothing here applies. What depends on an account's balance, on its nonce or on the price of gas is
//! the node's to decide. A cost above 2^256 wei is not possible: gas has 64 bits, a fee and a value 128 each.

use ethereum::address::Address;
use ethereum::amount::Wei;
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

/// Each authorisation, whosever it is (EIP-7702, `PER_EMPTY_ACCOUNT_COST`). What is given back is not lent.
const AUTHORIZATION: u64 = 25_000;

/// The most gas of one transaction (EIP-7825).
pub(crate) const MAX_GAS: u64 = 1 << 24;

/// The most blobs of one transaction (EIP-7594), whatever a block may hold (EIP-7892).
pub(crate) const MAX_BLOBS: usize = 6;

/// What a unit of blob gas costs at least (EIP-4844, `MIN_BASE_FEE_PER_BLOB_GAS`).
const MIN_BLOB_FEE: Wei = Wei(1);

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
    let blobs = transaction.blob_versioned_hashes().len();
    if blobs > MAX_BLOBS {
        return Err(error("blobVersionedHashes", format!("{blobs} blobs, expected at most {MAX_BLOBS} (EIP-7594)")));
    }
    if transaction.fees().max_fee_per_blob_gas.is_some_and(|fee| fee < MIN_BLOB_FEE) {
        return Err(error("maxFeePerBlobGas", format!("0 wei, expected at least {MIN_BLOB_FEE} (EIP-4844)")));
    }
    if gas > MAX_GAS {
        return Err(error("gas", format!("{gas}, expected at most {MAX_GAS} (EIP-7825)")));
    }
    Ok(())
}

/// Checks that nodes apply the authorisations that the transaction lists of its own sender: it increments the sender's nonce before it
/// looks at them, and each of them increments it once more (EIP-7702).
///
/// # Errors
/// The nonce that nodes would pass over, and the one that it must be.
pub fn check_own(transaction: &Transaction, sender: Address) -> Result<(), RequestError> {
    let own = transaction.authorizations().iter().enumerate();
    let own = own.filter(|(_, signed)| signed.authority() == Some(sender));
    let mut last = transaction.nonce;
    for (at, signed) in own {
        let (nonce, expected) = (signed.authorization.nonce, last.saturating_add(1));
        last = expected;
        if nonce != expected {
            let problem = format!(
                "{nonce}, expected {expected}: the transaction spends the sender's nonce before its own authorisations are applied (EIP-7702)"
            );
            return Err(error(&format!("authorizationList[{at}].nonce"), problem));
        }
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
    let authorizations = AUTHORIZATION * transaction.authorizations().len() as u64;
    BASE + TOKEN * tokens(data) + creation + access.sum::<u64>() + authorizations
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
    use alloy_eips::{eip7594, eip7702};
    use ethereum::authorization::{Authorization, SignedAuthorization};
    use ethereum::hex;
    use ethereum::key::SecretKey;
    use ethereum::signable::{Signable, Signed, Unsigned};
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

    fn with_blobs(count: usize, fee: u128) -> Transaction {
        let kind = Kind::Blob {
            max_fee_per_gas: Wei(1),
            max_priority_fee_per_gas: Wei(1),
            access_list: vec![],
            max_fee_per_blob_gas: Wei(fee),
            blob_versioned_hashes: vec![[1; 32]; count],
        };
        Transaction { kind, ..call(vec![]) }
    }

    fn key(byte: &str) -> SecretKey {
        SecretKey::parse(byte.repeat(32).as_bytes()).unwrap()
    }

    /// Of nonce 5, with authorisations by these keys at these nonces.
    fn with_authorizations(by: &[(&str, u64)]) -> Transaction {
        let signed = |&(byte, nonce): &(&str, u64)| {
            let authorization = Authorization { chain_id: 1, contract: Address([8; 20]), nonce };
            let signed = Unsigned::new(&Signable::Authorization(authorization)).sign(&key(byte)).unwrap();
            let Signed::Authorization(signature) = signed else { panic!() };
            let [r, s] = [0, 32].map(|at| signature.bytes[at..at + 32].try_into().unwrap());
            SignedAuthorization { authorization, y_parity: signature.bytes[64] == 1, r, s }
        };
        let kind = Kind::SetCode {
            max_fee_per_gas: Wei(1),
            max_priority_fee_per_gas: Wei(1),
            access_list: vec![],
            authorizations: by.iter().map(signed).collect(),
        };
        Transaction { nonce: 5, kind, ..call(vec![]) }
    }

    #[test]
    fn each_authorisation_costs_as_much_as_a_new_account() {
        assert_eq!(lowest(&with_authorizations(&[("22", 0)])), 21_000 + eip7702::constants::PER_EMPTY_ACCOUNT_COST);
        assert_eq!(lowest(&with_authorizations(&[("22", 0), ("22", 1), ("33", 0)])), 21_000 + 3 * 25_000);
    }

    #[test]
    fn blobs_are_six_at_most_and_cost_something() {
        assert_eq!(MAX_BLOBS as u64, eip7594::MAX_BLOBS_PER_TX_FUSAKA);
        assert!(check(&with_blobs(6, 1), 0).is_ok());
        let refused = |transaction| check(&transaction, 0).unwrap_err().to_string();
        assert_eq!(
            refused(with_blobs(7, 1)),
            "transaction_payload.blobVersionedHashes: 7 blobs, expected at most 6 (EIP-7594)"
        );
        assert_eq!(
            refused(with_blobs(1, 0)),
            "transaction_payload.maxFeePerBlobGas: 0 wei, expected at least 1 wei (EIP-4844)"
        );
    }

    #[test]
    fn the_senders_own_authorisations_have_the_nonces_behind_the_transactions() {
        let check = |by: &[(&str, u64)]| {
            check_own(&with_authorizations(by), key("11").address()).map_err(|error| error.to_string())
        };
        assert_eq!(check(&[("22", 5), ("22", 9)]), Ok(()));
        assert_eq!(check(&[("22", 5), ("11", 6), ("33", 0), ("11", 7)]), Ok(()));
        let error = check(&[("22", 5), ("11", 5)]).unwrap_err();
        assert!(error.starts_with("transaction_payload.authorizationList[1].nonce: 5, expected 6: "), "{error}");
        assert!(check(&[("11", 7)]).is_err());
        assert!(check(&[("11", 6), ("11", 6)]).unwrap_err().contains("[1].nonce: 6, expected 7"));
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
