//! What a ledger costs a signature: the time until a client has it, over that of the same signature without a ledger. Both signers take
//! turns, request by request, so that both see the same machine.
//!
//! S3 is moto behind S3's conditions (`bootstrap/lab/internet/s3.py`). Its time is Python's and says nothing of AWS. So the table has the
//! number of requests to S3, which follow one another, and what a signature takes without the time of S3.
//!
//! `cargo bench --workspace --bench ledger [-- [--signatures N] [--lease SIGNATURES]]`

#![allow(missing_docs, reason = "a program, not an interface")]
#![allow(clippy::print_stdout, reason = "a program that reports to the terminal")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic fails the benchmark")]
#![allow(clippy::cast_precision_loss, reason = "numbers are rounded for reading anyway")]

#[path = "../tests/fleet/harness.rs"]
mod harness;
#[path = "../src/signing/ledger.rs"]
mod ledger;
#[allow(dead_code, reason = "the tests of kms use all of it")]
#[path = "../kms/tests/s3/harness.rs"]
mod s3;
#[allow(dead_code, reason = "the tests of the signer use all of it")]
#[path = "../signer/tests/service/harness.rs"]
mod service;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use signer::ledger::{Creation, Store, StoreError, Version, Versions};
use tokio::runtime::Builder;
use tokio::task::JoinSet;

use harness::{Fleet, signer};
use service::{Client, POLICY, sign_body};

/// What the 99th percentile of signatures in a window may be over that without a ledger, of one client.
const BOUND: f64 = 1.2;
/// Leases of a limit, see `PARTS_OF_LIMIT`.
const LEASES: u64 = 32;

struct Case {
    name: &'static str,
    policy: String,
    /// None: without a ledger, too, which shows what the machine adds by itself.
    is_strict: Option<bool>,
    connections: u64,
    /// Signatures before those that count.
    before: u64,
    signatures: u64,
}

/// A bucket whose requests are counted.
#[derive(Clone)]
struct Counted {
    store: Arc<ledger::S3>,
    spent: Arc<Mutex<(u32, Duration)>>,
}

/// Of one signature, in seconds.
struct Sample {
    reference: f64,
    ledger: f64,
    /// Without the time of S3, of whatever signature it was for.
    own: f64,
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let number = |name: &str, default: u64| {
        let at = args.iter().position(|arg| arg == name);
        at.map_or(default, |at| args[at + 1].parse().unwrap())
    };
    let (signatures, lease) = (number("--signatures", 500), number("--lease", 400));
    let windows = format!(
        "{}[[policy.windows]]\nperiod = \"1h\"\nmax_count = {}\n",
        POLICY.replace("nonce_reuse = false", "nonce_reuse = true"),
        lease * LEASES
    );
    let in_window = |name, connections, is_strict| Case {
        name,
        policy: windows.clone(),
        is_strict,
        connections,
        before: 3 * lease,
        signatures: (LEASES - 4) * lease,
    };
    let of_nonce = |name, is_strict| Case {
        name,
        policy: POLICY.to_owned(),
        is_strict: Some(is_strict),
        connections: 1,
        before: 20,
        signatures,
    };
    let cases = [
        in_window("no ledger, once more", 1, None),
        in_window("in a window, one client", 1, Some(true)),
        in_window("in a window, 16 clients", 16, Some(true)),
        of_nonce("a nonce, strict = true", true),
        of_nonce("a nonce, strict = false", false),
    ];
    println!("over the same signature without a ledger; leases of {lease} signatures");
    println!("                         signatures  requests  median  99th pct  without S3's time: median  99th pct");
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(async {
        for case in &cases {
            // A bucket of its own.
            let fleet = Fleet::start().await;
            let (samples, requests) = measure(&fleet, case).await;
            let ratio = |percent: usize, of: fn(&Sample) -> f64| {
                percentile(&samples, percent, of) / percentile(&samples, percent, |sample| sample.reference)
            };
            let count = samples.len();
            let own = |percent| match case.connections {
                1 => format!("{:.2}", ratio(percent, |sample| sample.own)),
                _ => "-".to_owned(),
            };
            println!(
                "{:<23}  {count:>10}  {:>8.3}  {:>6.2}  {:>8.2}  {:>25}  {:>8}",
                case.name,
                f64::from(requests) / count as f64,
                ratio(50, |sample| sample.ledger),
                ratio(99, |sample| sample.ledger),
                own(50),
                own(99)
            );
        }
    });
    println!(
        "S3 is moto, and its time is Python's: compare requests, not times. The bound is {BOUND} for the 99th percentile"
    );
    println!("of one client in a window.");
}

/// Signs with both, in turns; and how many requests to S3 there were.
async fn measure(fleet: &Fleet, case: &Case) -> (Vec<Sample>, u32) {
    let store = Counted { store: Arc::new(fleet.store()), spent: Arc::default() };
    let without = signer(&case.policy, true, None::<Counted>).await;
    let with = match case.is_strict {
        Some(is_strict) => signer(&case.policy, is_strict, Some(store.clone())).await,
        None => signer(&case.policy, true, None::<Counted>).await,
    };
    let mut samples = Vec::new();
    let phases = [(0, case.before), (case.before, case.before + case.signatures)];
    for (first, end) in phases {
        *store.spent.lock().unwrap() = (0, Duration::ZERO);
        let mut lanes = JoinSet::new();
        for lane in 0..case.connections {
            let (mut reference, mut ledger) = (without.connect().await, with.connect().await);
            reference.wait_ready().await;
            ledger.wait_ready().await;
            let (store, step) = (store.clone(), usize::try_from(case.connections).unwrap());
            lanes.spawn(async move {
                let mut samples = Vec::new();
                for nonce in (first + lane..end).step_by(step) {
                    let reference = sign(&mut reference, nonce).await;
                    let before = store.spent.lock().unwrap().1;
                    let ledger = sign(&mut ledger, nonce).await;
                    let own = ledger.saturating_sub(store.spent.lock().unwrap().1 - before);
                    let [reference, ledger, own] = [reference, ledger, own].map(|time| time.as_secs_f64());
                    samples.push(Sample { reference, ledger, own });
                }
                samples
            });
        }
        samples = lanes.join_all().await.into_iter().flatten().collect();
    }
    let requests = store.spent.lock().unwrap().0;
    (samples, requests)
}

async fn sign(client: &mut Client, nonce: u64) -> Duration {
    let body = sign_body(nonce, "prod/wallet");
    let begin = Instant::now();
    let answer = client.post("/", &body).await;
    let time = begin.elapsed();
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    time
}

fn percentile(samples: &[Sample], percent: usize, of: fn(&Sample) -> f64) -> f64 {
    let mut values: Vec<f64> = samples.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() * percent / 100]
}

impl Counted {
    async fn count<T>(&self, request: impl Future<Output = T>) -> T {
        let begin = Instant::now();
        let answer = request.await;
        let mut spent = self.spent.lock().unwrap();
        *spent = (spent.0 + 1, spent.1 + begin.elapsed());
        answer
    }
}

#[async_trait]
impl Store for Counted {
    async fn check(&self) -> Result<(), StoreError> {
        self.store.check().await
    }

    async fn create(&self, name: &str, content: &[u8], keep: Duration) -> Result<Creation, StoreError> {
        self.count(self.store.create(name, content, keep)).await
    }

    async fn versions(&self, prefix: &str, after: Option<&str>) -> Result<Versions, StoreError> {
        self.count(self.store.versions(prefix, after)).await
    }

    async fn read(&self, version: &Version, longest: usize) -> Result<Vec<u8>, StoreError> {
        self.count(self.store.read(version, longest)).await
    }
}
