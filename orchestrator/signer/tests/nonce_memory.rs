//! The memory of nonces, full, is not larger than documented. Alone in its process, whose size is what is measured.

#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

use ethereum::address::Address;
use ethereum::amount::Wei;
use ethereum::signable::Signable;
use ethereum::transaction::{Kind, Transaction};
use signer::nonces::{Bounds, MAX_MEMORY, Nonces, Payer, Wanted};

/// Bytes of memory that this process has touched (proc_pid_statm(5): the second number, in pages).
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Accounts in ascending order fill a B-tree's nodes half, which is the worst that a client can choose.
fn key(number: u32) -> Address {
    let mut key = [0; 20];
    for (byte, from) in key.iter_mut().zip(number.to_be_bytes()) {
        *byte = from;
    }
    Address(key)
}

#[test]
fn a_full_memory_is_not_larger_than_documented() {
    let bounds = Bounds::default();
    let mut nonces = Nonces::new(1, bounds);
    let payer = Payer { client: "anyone", is_key_brought: false };
    let at = |nonce| {
        Signable::Transaction(Transaction {
            chain_id: 1,
            nonce,
            gas: 21_000,
            to: None,
            value: Wei(0),
            data: Vec::new(),
            kind: Kind::Legacy { gas_price: Wei(1) },
        })
    };
    let (first, second) = (at(0), at(1));
    let before = resident();
    let mut refused = 0;
    for number in 0..u32::try_from(bounds.runs).unwrap() + 1000 {
        let wanted = Wanted { key: key(number), subject: &first, hash: [1; 32], may_bump: false };
        refused += usize::from(nonces.spend(payer, &wanted).is_err());
    }
    assert_eq!((refused, nonces.metrics().accounts, nonces.metrics().latest), (1000, bounds.runs, bounds.latest));
    // What is full stays so: the next nonce of each account.
    for number in 0..u32::try_from(bounds.runs).unwrap() {
        let wanted = Wanted { key: key(number), subject: &second, hash: [1; 32], may_bump: false };
        nonces.spend(payer, &wanted).unwrap();
    }
    let size = resident() - before;
    assert!(size < MAX_MEMORY, "{size} bytes");
    assert!(size > MAX_MEMORY / 4, "{size} bytes: this measures something else");
}
