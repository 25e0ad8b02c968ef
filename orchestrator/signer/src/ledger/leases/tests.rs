//! Limits among several enclaves, against the bucket of the tests of nonces.

use ethereum::address::Address;
use ethereum::amount::Wei;
use proptest::prelude::*;

use super::super::key::LedgerKey;
use super::super::tests::{Bucket, enclave, enclave_with, key, settings};
use super::super::{Claim, Ledger};
use super::*;
use crate::policy::Limit;

const HOUR: Duration = Duration::from_hours(1);

fn part(amount: u128, max: u128) -> Part {
    let window = Window { period: HOUR, limit: Limit::Value(Wei(max)) };
    let owner = Owner::Key(key().address());
    Part { owner, window, chain_id: Some(1), amount: Uint::from(amount) }
}

async fn spend(enclave: &Ledger, amount: u128, max: u128) -> Result<(), LedgerError> {
    enclave.spend(&key(), &[part(amount, max)], &[]).await
}

fn leases(bucket: &Bucket) -> Vec<LeaseRecord> {
    let keys = LedgerKey::of(&key());
    let open =
        |(_, content): (Version, Vec<u8>)| LeaseRecord::open(&content, keys.of_leases(), key().address()).unwrap();
    bucket.all().into_iter().map(open).collect()
}

#[tokio::test(start_paused = true)]
async fn a_limit_is_that_of_all_enclaves_together_and_ends_with_the_period() {
    let bucket = Bucket::default();
    let (one, other) = (enclave(&bucket).await, enclave(&bucket).await);
    spend(&one, 6, 10).await.unwrap();
    spend(&other, 3, 10).await.unwrap();
    for enclave in [&one, &other] {
        let error = spend(enclave, 2, 10).await.unwrap_err();
        assert!(matches!(error, LedgerError::Window(_)), "{error}");
        assert!(error.to_string().contains("all enclaves of the ledger"), "{error}");
    }
    spend(&other, 1, 10).await.unwrap();
    sleep(HOUR).await;
    assert!(spend(&one, 10, 10).await.is_err(), "they may have been spent after an hour less a moment");
    sleep(HOUR / 32).await;
    spend(&one, 10, 10).await.unwrap();
    // A restart forgets nothing.
    let restarted = enclave(&bucket).await;
    assert!(spend(&restarted, 1, 10).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_busy_enclave_leases_more_at_once_and_an_idle_one_what_it_needs() {
    let bucket = Bucket::default();
    let busy = enclave(&bucket).await;
    bucket.requests();
    for _ in 0..300 {
        spend(&busy, 1, 3200).await.unwrap();
    }
    let amounts: Vec<_> = leases(&bucket).iter().map(|lease| lease.amount.to_string()).collect();
    assert_eq!(amounts, ["1", "2", "4", "8", "16", "32", "64", "100", "100"], "at most a part of the limit");
    assert_eq!(bucket.requests(), 3 * amounts.len(), "a list, a write and a list for each lease");

    let bucket = Bucket::default();
    let idle = enclave(&bucket).await;
    for _ in 0..5 {
        spend(&idle, 1, 3200).await.unwrap();
        sleep(HOUR / 10).await;
    }
    assert!(leases(&bucket).iter().all(|lease| lease.amount == Uint::from(1)), "nothing is lost");
}

#[tokio::test(start_paused = true)]
async fn what_a_lease_had_left_is_not_spent_after_its_time() {
    let bucket = Bucket::default();
    let enclave = enclave(&bucket).await;
    for _ in 0..4 {
        spend(&enclave, 1, 3200).await.unwrap();
    }
    assert_eq!(leases(&bucket).len(), 3, "1, 2 and 4, of which three are left");
    sleep(HOUR / 64).await;
    spend(&enclave, 1, 3200).await.unwrap();
    assert_eq!(leases(&bucket).len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_part_counts_for_the_period_from_the_signature_that_it_was_taken_for() {
    let bucket = Bucket::default();
    let (one, other) = (enclave(&bucket).await, enclave(&bucket).await);
    for _ in 0..2 {
        spend(&one, 1, 3200).await.unwrap();
    }
    // One of the second lease is left, and its last moment is near. Then the nonce takes as long as it may.
    sleep(HOUR / 64 - Duration::from_millis(10)).await;
    *bucket.0.delays.lock().unwrap() = vec![790, 790];
    let claim = Claim { chain: 1, nonce: 7, payload: [1; 32], identity: [1; 32], may_bump: false };
    one.spend(&key(), &[part(1, 3200)], &[claim]).await.unwrap();
    assert_eq!(bucket.all().len(), 3, "two leases and the nonce");
    sleep(HOUR - Duration::from_millis(10)).await;
    let error = spend(&other, 3200, 3200).await.unwrap_err();
    assert!(matches!(error, LedgerError::Window(_)), "it was signed less than an hour ago: {error}");
}

#[tokio::test(start_paused = true)]
async fn a_page_that_ends_within_the_versions_of_a_name_hides_none_of_them() {
    let bucket = Bucket::default();
    spend(&enclave(&bucket).await, 60, 100).await.unwrap();
    let (lease, _) = bucket.all().remove(0);
    let (folder, place) = lease.name.rsplit_once('/').unwrap();
    let epoch = place.split_once('-').unwrap().0;
    // Of an hour that is over, and in front of the lease: 999 fit on the page beside the first version of what comes next.
    sleep(2 * HOUR).await;
    let restarted = enclave(&bucket).await;
    spend(&restarted, 60, 100).await.unwrap();
    let (last, content) = bucket.all().pop().unwrap();
    for number in 0..998 {
        bucket.put_at(lease.modified, &format!("{folder}/{epoch}-{:010}", 100 + number), &content);
    }
    bucket.put(&last.name, &content);
    let another = enclave(&bucket).await;
    let error = spend(&another, 1, 100).await.unwrap_err();
    assert!(error.to_string().contains("000121 ether"), "both versions count: {error}");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_signed_comes_back() {
    let bucket = Bucket::default();
    let enclave = enclave(&bucket).await;
    let claim =
        |payload| Claim { chain: 1, nonce: 7, payload: [payload; 32], identity: [payload; 32], may_bump: false };
    enclave.spend(&key(), &[part(6, 10)], &[claim(1)]).await.unwrap();
    for _ in 0..3 {
        let error = enclave.spend(&key(), &[part(4, 10)], &[claim(2)]).await.unwrap_err();
        assert!(matches!(error, LedgerError::Spent { .. }), "{error}");
    }
    spend(&enclave, 4, 10).await.expect("it has come back each time");
    // A window without room spends no nonce.
    let other = Claim { nonce: 8, ..claim(1) };
    enclave.spend(&key(), &[part(1, 10)], &[other]).await.unwrap_err();
    enclave.spend(&key(), &[], &[Claim { payload: [9; 32], ..other }]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn windows_of_other_owners_chains_periods_and_kinds_are_counted_by_themselves() {
    let bucket = Bucket::default();
    let enclave = enclave(&bucket).await;
    let full = part(10, 10);
    let window = |window: Window| Part { window, ..full.clone() };
    let others = [
        Part { chain_id: Some(2), ..full.clone() },
        Part { chain_id: None, ..full.clone() },
        Part { owner: Owner::Client("pay.example".to_owned()), ..full.clone() },
        Part { owner: Owner::Client("other.example".to_owned()), ..full.clone() },
        window(Window { period: 2 * HOUR, limit: Limit::Value(Wei(10)) }),
        window(Window { period: HOUR, limit: Limit::Count(10) }),
        window(Window {
            period: HOUR,
            limit: Limit::Token { token: Address([1; 20]), max: Uint::from(10), decimals: 0 },
        }),
    ];
    enclave.spend(&key(), &others, &[]).await.unwrap();
    spend(&enclave, 10, 10).await.unwrap();
    // Another limit of the same window is the same window.
    assert!(spend(&enclave, 1, 10).await.is_err());
    spend(&enclave, 1, 11).await.unwrap();
    // A client's counts for all of its keys.
    let second = ethereum::key::SecretKey::parse(super::super::tests::OTHER).unwrap();
    let client = [Part { amount: Uint::from(1), ..others[2].clone() }];
    assert!(enclave.spend(&second, &client, &[]).await.is_err());
    let own = [Part { owner: Owner::Key(second.address()), ..full.clone() }];
    enclave.spend(&second, &own, &[]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_no_lease_of_the_window_blocks_it_for_its_period() {
    let bucket = Bucket::default();
    let enclave = enclave(&bucket).await;
    spend(&enclave, 1, 100).await.unwrap();
    let (lease, content) = bucket.all().remove(0);
    let folder = lease.name.rsplit_once('/').unwrap().0.to_owned();
    sleep(HOUR / 4).await;
    for (name, text) in [
        (lease.name.clone(), b"garbage".to_vec()),
        (format!("{folder}/0000000000-4294967295"), content.clone()),
        (format!("{folder}/x"), content.clone()),
    ] {
        bucket.put(&name, &text);
        let error = spend(&enclave, 1, 100).await.unwrap_err().to_string();
        assert!(error.contains(&name) && error.contains("somebody else has written it"), "{error}");
        sleep(HOUR + HOUR / 8).await;
        spend(&enclave, 1, 100).await.expect("its time is over");
        sleep(HOUR / 8).await;
    }
    // The same lease once more counts once more.
    spend(&enclave, 40, 100).await.unwrap();
    let (lease, content) = bucket.all().pop().unwrap();
    bucket.put(&lease.name, &content);
    sleep(HOUR / 8).await;
    assert!(spend(&enclave, 30, 100).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn enclaves_that_do_not_know_each_other_s_leases_find_them_after_they_wrote() {
    // Behind a delete marker, two leases have one name.
    let bucket = Bucket::default();
    let (one, other) = (enclave(&bucket).await, enclave(&bucket).await);
    let hide = async {
        for _ in 0..40 {
            sleep(Duration::from_millis(1)).await;
            bucket.all().iter().for_each(|(version, _)| bucket.hide(&version.name));
        }
    };
    *bucket.0.delays.lock().unwrap() = vec![5; 8];
    let (first, second, ()) = tokio::join!(spend(&one, 6, 10), spend(&other, 6, 10), hide);
    assert!(first.is_err() || second.is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the delays, the restarts and the pauses: in no hour, more than the limit is signed.
    #[test]
    fn no_hour_has_more_than_the_limit(
        steps in prop::collection::vec((0_usize..3, 1_u128..40, 0_u64..900, any::<bool>()), 1..40),
        delays in prop::collection::vec(0_u64..50, 0..100),
    ) {
        const MAX: u128 = 100;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let signed = runtime.block_on(async {
            let bucket = Bucket::default();
            let mut enclaves = Vec::new();
            for _ in 0..3 {
                enclaves.push(enclave_with(&bucket, settings(true)).await);
            }
            *bucket.0.delays.lock().unwrap() = delays;
            let mut signed = Vec::new();
            for (at, amount, seconds, is_restarted) in steps {
                if is_restarted {
                    enclaves[at] = enclave_with(&bucket, settings(true)).await;
                }
                // Two at once, of different enclaves.
                let next = (at + 1) % 3;
                let (first, second) = tokio::join!(spend(&enclaves[at], amount, MAX), spend(&enclaves[next], 1, MAX));
                signed.extend(first.is_ok().then(|| (Instant::now(), amount)));
                signed.extend(second.is_ok().then(|| (Instant::now(), 1)));
                sleep(Duration::from_secs(seconds)).await;
            }
            signed
        });
        for (from, _) in &signed {
            let in_hour = signed.iter().filter(|(at, _)| at >= from && *at < *from + HOUR);
            let sum: u128 = in_hour.map(|(_, amount)| amount).sum();
            prop_assert!(sum <= MAX, "{}", sum);
        }
        prop_assert!(!signed.is_empty());
    }
}
