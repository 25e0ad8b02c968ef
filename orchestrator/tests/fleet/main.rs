//! Two signers with one ledger: all of them real but for their keys, and S3, which is moto behind S3's conditions
//! (`bootstrap/lab/internet/s3.py`).

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic fails the test")]

#[path = "../../src/signing/ledger.rs"]
mod ledger;
#[allow(dead_code, reason = "the tests of kms use all of it")]
#[path = "../../kms/tests/s3/harness.rs"]
mod s3;
#[allow(dead_code, reason = "the tests of the signer use all of it")]
#[path = "../../signer/tests/service/harness.rs"]
mod service;

mod harness;

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

use harness::{Fleet, signer};
use service::{Client, POLICY, sign_body};

const NONCES: u64 = 500;
/// Races at a time.
const LANES: u64 = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_signers_race_for_500_nonces_and_each_is_spent_on_one_payload() {
    let fleet = Fleet::start().await;
    let (one, other) =
        (signer(POLICY, true, Some(fleet.store())).await, signer(POLICY, true, Some(fleet.store())).await);
    let mut lanes = JoinSet::new();
    for lane in 0..LANES {
        let (mut first, mut second) = (one.connect().await, other.connect().await);
        first.wait_ready().await;
        second.wait_ready().await;
        lanes.spawn(async move {
            let mut won = 0_u64;
            for nonce in (lane..NONCES).step_by(usize::try_from(LANES).unwrap()) {
                let (of_first, of_second) =
                    tokio::join!(is_signed(&mut first, nonce, "0.01"), is_signed(&mut second, nonce, "0.02"));
                assert!(of_first || of_second, "nonce {nonce}: no payload is signed");
                assert!(!(of_first && of_second), "nonce {nonce}: both payloads are signed");
                won += u64::from(of_first);
            }
            won
        });
    }
    let won: u64 = lanes.join_all().await.into_iter().sum();
    assert!((1..NONCES).contains(&won), "the first signer has won {won} of {NONCES} races: they were none");
}

/// Whether the signer signs this value. It is asked until it knows.
async fn is_signed(client: &mut Client, nonce: u64, value: &str) -> bool {
    loop {
        let answer = client.post("/", &sign_body(nonce, "prod/wallet").replacen("0.01", value, 1)).await;
        match (answer.status, String::from_utf8_lossy(&answer.body)) {
            (200, _) => return true,
            (422, body) if body.contains("nonce_reuse") => return false,
            (503, body) if body.contains("ledger_unavailable") => sleep(Duration::from_millis(50)).await,
            (status, body) => panic!("{status}: {body}"),
        }
    }
}
