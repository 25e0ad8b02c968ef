//! The memory of windows, full, is not larger than documented. Alone in its process, whose size is what is measured.

#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

use ethereum::address::Address;
use ethereum::amount::Wei;
use ethereum::signable::Signable;
use ethereum::transaction::{Kind, Transaction};
use signer::config::SignerTable;
use signer::nonces::{Bounds, Nonces, Payer};
use signer::permission::Caller;
use signer::policy::Judges;
use signer::spent::Spent;
use signer::windows::{MAX_BUCKETS, MAX_MEMORY, Windows};
use tokio::time::Instant;

const CONFIG: &str = r#"
port = 443
key_cache_time = "10m"
open = true
[policy]
chain_ids = [1]
recipients = "any"
max_value = "1 ether"
max_fee_per_gas = "200 gwei"
max_gas = 500000
contract_creation = false
data_selectors = "any"
nonce_reuse = false
[[policy.windows]]
period = "24h"
max_count = 10
"#;

/// Bytes of memory that this process has touched (proc_pid_statm(5): the second number, in pages).
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Keys in ascending order fill a B-tree's nodes half, which is the worst that a client can choose.
fn key(number: u32) -> Address {
    let mut key = [0; 20];
    for (byte, from) in key.iter_mut().zip(number.to_be_bytes()) {
        *byte = from;
    }
    Address(key)
}

#[test]
fn a_full_memory_is_not_larger_than_documented() {
    let config = toml::from_str::<SignerTable>(CONFIG).unwrap().check().unwrap();
    let mut spent = Spent::new(Nonces::new(1, Bounds::default()), Windows::new(1, config.windows()));
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
    let (before, now) = (resident(), Instant::now());
    let mut refused = 0;
    let keys = u32::try_from(MAX_BUCKETS).unwrap();
    for round in 0..3 {
        for number in 0..keys + 1000 {
            let judges = Judges::new(&config.policy, key(number), &Caller::Anyone);
            let spending = judges.spending(payer, &at(round)).unwrap();
            refused += usize::from(spent.spend(payer, None, Some(&spending), now).is_err());
        }
    }
    assert_eq!((refused, spent.metrics(now).1.buckets), (3000, MAX_BUCKETS));
    let size = resident() - before;
    assert!(size < MAX_MEMORY, "{size} bytes");
    assert!(size > MAX_MEMORY / 4, "{size} bytes: this measures something else");
}
