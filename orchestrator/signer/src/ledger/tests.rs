//! The rule, against a bucket in memory that behaves as S3 is documented to.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::SystemTime;

use ethereum::key::SecretKey;
use proptest::prelude::*;
use tokio::time::Instant;

use super::*;

/// A published test key, and another.
const KEY: &[u8] = b"4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318";
pub(super) const OTHER: &[u8] = b"0202020202020202020202020202020202020202020202020202020202020202";

pub(super) fn key() -> SecretKey {
    SecretKey::parse(KEY).unwrap()
}

/// A bucket, shared by whoever has a clone.
#[derive(Clone, Default)]
pub(super) struct Bucket(pub(super) Arc<Content>);

#[derive(Default)]
pub(super) struct Content {
    /// Name, version and content, the oldest first.
    objects: Mutex<Vec<(Version, Vec<u8>)>>,
    /// Names behind a delete marker.
    hidden: Mutex<Vec<String>>,
    next: AtomicU64,
    start: Mutex<Option<Instant>>,
    requests: AtomicUsize,
    /// What becomes of the next writes.
    faults: Mutex<Vec<Fault>>,
    /// How long each request takes, in milliseconds, in turn.
    pub(super) delays: Mutex<Vec<u64>>,
    is_silent: Mutex<bool>,
    /// What the check says.
    problem: Mutex<Option<StoreError>>,
}

#[derive(Clone, Copy)]
enum Fault {
    /// It is written, and the answer is lost.
    AnswerLost,
    /// It is not written, and nobody knows.
    Lost,
    /// Another request is under way: 409.
    Conflict,
    Refused,
}

impl Bucket {
    /// What anybody may do who has the permission: write another version.
    pub(super) fn put(&self, name: &str, content: &[u8]) -> String {
        self.put_at(self.now(), name, content)
    }

    /// What has been there since then.
    pub(super) fn put_at(&self, modified: SystemTime, name: &str, content: &[u8]) -> String {
        let id = format!("v{}", self.0.next.fetch_add(1, Ordering::Relaxed));
        let version = Version { name: name.to_owned(), id: id.clone(), modified };
        self.0.objects.lock().unwrap().push((version, content.to_vec()));
        id
    }

    /// Its own time: since the start of the test's.
    fn now(&self) -> SystemTime {
        let start = *self.0.start.lock().unwrap().get_or_insert_with(Instant::now);
        SystemTime::UNIX_EPOCH + start.elapsed()
    }

    pub(super) fn hide(&self, name: &str) {
        self.0.hidden.lock().unwrap().push(name.to_owned());
    }

    fn fail(&self, faults: &[Fault]) {
        *self.0.faults.lock().unwrap() = faults.iter().rev().copied().collect();
    }

    pub(super) fn all(&self) -> Vec<(Version, Vec<u8>)> {
        self.0.objects.lock().unwrap().clone()
    }

    pub(super) fn requests(&self) -> usize {
        self.0.requests.swap(0, Ordering::Relaxed)
    }

    async fn request(&self) {
        self.0.requests.fetch_add(1, Ordering::Relaxed);
        if *self.0.is_silent.lock().unwrap() {
            std::future::pending::<()>().await;
        }
        let delay = self.0.delays.lock().unwrap().pop();
        if let Some(delay) = delay {
            sleep(Duration::from_millis(delay)).await;
        }
    }
}

#[async_trait::async_trait]
impl Store for Bucket {
    async fn check(&self) -> Result<(), StoreError> {
        self.0.problem.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    async fn create(&self, name: &str, content: &[u8], _keep: Duration) -> Result<Creation, StoreError> {
        self.request().await;
        let fault = self.0.faults.lock().unwrap().pop();
        let lost = || StoreError::Unavailable("no answer".to_owned());
        match fault {
            Some(Fault::Lost) => return Err(lost()),
            Some(Fault::Conflict) => return Ok(Creation::Taken),
            Some(Fault::Refused) => return Err(StoreError::Refused("AccessDenied".to_owned())),
            Some(Fault::AnswerLost) | None => {}
        }
        let made = {
            let is_hidden = {
                let mut hidden = self.0.hidden.lock().unwrap();
                let before = hidden.len();
                hidden.retain(|hidden| hidden != name);
                hidden.len() < before
            };
            let is_there = self.all().iter().any(|(version, _)| version.name == name);
            (is_hidden || !is_there).then(|| self.put(name, content))
        };
        match (made, fault) {
            (_, Some(Fault::AnswerLost)) => Err(lost()),
            (Some(version), _) => Ok(Creation::Made { version }),
            (None, _) => Ok(Creation::Taken),
        }
    }

    async fn versions(&self, prefix: &str, after: Option<&str>) -> Result<Versions, StoreError> {
        self.request().await;
        let is_listed = |name: &str| name.starts_with(prefix) && after.is_none_or(|after| name > after);
        let versions = self.all().into_iter().map(|(version, _)| version);
        let mut versions: Vec<_> = versions.filter(|version| is_listed(&version.name)).collect();
        versions.sort_by(|one, other| one.name.cmp(&other.name));
        let is_whole = versions.len() <= 1000;
        versions.truncate(1000);
        let markers = self.0.hidden.lock().unwrap().iter().filter(|name| is_listed(name)).count();
        Ok(Versions { versions, markers, is_whole, now: self.now() })
    }

    async fn read(&self, version: &Version, longest: usize) -> Result<Vec<u8>, StoreError> {
        self.request().await;
        let found = self.all().into_iter().find(|(found, _)| found == version);
        let (_, mut content) = found.ok_or_else(|| StoreError::Refused("NoSuchVersion".to_owned()))?;
        content.truncate(longest + 1);
        Ok(content)
    }
}

pub(super) fn settings(strict: bool) -> LedgerSettings {
    LedgerSettings {
        bucket: "example-ledger".to_owned(),
        owner: "111122223333".to_owned(),
        retention: Duration::from_hours(24),
        strict,
        endpoint: None,
    }
}

/// An enclave that keeps its ledger in this bucket.
pub(super) async fn enclave_with(bucket: &Bucket, settings: LedgerSettings) -> Ledger {
    let ledger = Ledger::new(settings);
    ledger.keep_in(bucket.clone());
    ledger.keep_checking().await;
    ledger
}

pub(super) async fn enclave(bucket: &Bucket) -> Ledger {
    enclave_with(bucket, settings(true)).await
}

fn claim(chain: u64, nonce: u64, payload: u8) -> Claim {
    Claim { chain, nonce, payload: [payload; 32], identity: [payload; 32], may_bump: false }
}

/// The name of a record.
fn name(chain: u64, nonce: u64) -> String {
    let key = LedgerKey::of(&key());
    key.name(&key.folder(nonce), chain)
}

#[tokio::test(start_paused = true)]
async fn a_nonce_is_for_one_payload_whichever_enclave_is_asked() {
    let bucket = Bucket::default();
    let (one, other) = (enclave(&bucket).await, enclave(&bucket).await);
    one.spend(&key(), &[], &[claim(1, 7, 0xaa)]).await.unwrap();
    assert_eq!(bucket.requests(), 2, "a write and a list");
    for enclave in [&one, &other] {
        enclave.spend(&key(), &[], &[claim(1, 7, 0xaa)]).await.unwrap();
        let error = enclave.spend(&key(), &[], &[claim(1, 7, 0xbb)]).await.unwrap_err();
        assert_eq!(error, LedgerError::Spent { nonce: 7, chain: 1, on: 1, payload: [0xaa; 32] });
    }
    assert_eq!(bucket.all().len(), 1, "the same payload makes no second record");
    // Another nonce, chain or key is another matter.
    other.spend(&key(), &[], &[claim(1, 8, 0xbb), claim(2, 7, 0xbb)]).await.unwrap();
    other.spend(&SecretKey::parse(OTHER).unwrap(), &[], &[claim(1, 7, 0xbb)]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_record_behind_a_delete_marker_is_found_unless_the_list_was_given_up() {
    let bucket = Bucket::default();
    let strict = enclave(&bucket).await;
    strict.spend(&key(), &[], &[claim(1, 7, 0xaa)]).await.unwrap();
    bucket.hide(&name(1, 7));
    let error = strict.spend(&key(), &[], &[claim(1, 7, 0xbb)]).await.unwrap_err();
    assert!(matches!(error, LedgerError::Spent { payload: [0xaa, ..], .. }), "{error}");
    // What the administrator has brought about is for both payloads.
    let error = strict.spend(&key(), &[], &[claim(1, 7, 0xaa)]).await.unwrap_err();
    assert!(matches!(error, LedgerError::Spent { payload: [0xbb, ..], .. }), "{error}");
    strict.spend(&key(), &[], &[claim(1, 8, 0xbb)]).await.unwrap();

    let bucket = Bucket::default();
    let trusting = enclave_with(&bucket, settings(false)).await;
    bucket.requests();
    trusting.spend(&key(), &[], &[claim(1, 7, 0xaa)]).await.unwrap();
    assert_eq!(bucket.requests(), 1, "a write alone");
    let error = trusting.spend(&key(), &[], &[claim(1, 7, 0xbb)]).await.unwrap_err();
    assert!(matches!(error, LedgerError::Spent { .. }), "{error}");
    bucket.hide(&name(1, 7));
    trusting.spend(&key(), &[], &[claim(1, 7, 0xbb)]).await.expect("it trusts the administrators");
}

#[tokio::test(start_paused = true)]
async fn what_the_key_has_not_made_blocks_its_nonce_alone_and_is_named() {
    let stranger = LedgerKey::of(&SecretKey::parse(OTHER).unwrap());
    let keys = LedgerKey::of(&key());
    let record = |ledger: &str, nonce: u64| NonceRecord {
        ledger: ledger.to_owned(),
        key: keys.address(),
        chain: 1,
        nonce,
        payload: [0xaa; 32],
        identity: [0xaa; 32],
    };
    let identity = settings(true).identity();
    let right = record(&identity, 7).seal(keys.of_nonces());
    let cases: [(&str, Vec<u8>, &str); 6] = [
        ("garbage", b"garbage".to_vec(), "not a record that this key has made"),
        ("another key's", record(&identity, 7).seal(stranger.of_nonces()), "not a record that this key has made"),
        ("with nothing in it", Vec::new(), "not a record that this key has made"),
        ("a long one", vec![b'x'; 5000], "longer than 1024 bytes"),
        ("of another nonce", record(&identity, 6).seal(keys.of_nonces()), "a record of nonce 6 on chain 1"),
        ("of another ledger", record("1/b", 7).seal(keys.of_nonces()), "nonce 7 on chain 1 in 1/b"),
    ];
    for (case, content, expected) in cases {
        // There before the enclave's own, and after it behind a marker.
        for is_first in [true, false] {
            let bucket = Bucket::default();
            let enclave = enclave(&bucket).await;
            if !is_first {
                enclave.spend(&key(), &[], &[claim(1, 7, 0xaa)]).await.unwrap();
            }
            let id = bucket.put(&name(1, 7), &content);
            let error = enclave.spend(&key(), &[], &[claim(1, 7, 0xaa)]).await.unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains(&name(1, 7)) && error.contains(&id), "{case}: {error}");
            enclave.spend(&key(), &[], &[claim(1, 8, 0xaa), claim(2, 7, 0xaa)]).await.expect(case);
        }
    }
    let bucket = Bucket::default();
    bucket.put(&name(1, 7), &right);
    bucket.put(&name(1, 7), &right);
    enclave(&bucket).await.spend(&key(), &[], &[claim(1, 7, 0xaa)]).await.expect("copies of the right one");
}

#[tokio::test(start_paused = true)]
async fn more_objects_than_enclaves_make_are_not_read() {
    let bucket = Bucket::default();
    let enclave = enclave(&bucket).await;
    for _ in 0..=MAX_READ {
        bucket.put(&name(1, 7), b"garbage");
    }
    bucket.requests();
    let error = enclave.spend(&key(), &[], &[claim(1, 7, 0xaa)]).await.unwrap_err();
    assert!(matches!(error, LedgerError::Crowded { nonce: 7, chain: 1, .. }), "{error}");
    assert_eq!(bucket.requests(), 2);
    // Those of other chains are in the same list.
    let folder = LedgerKey::of(&key()).folder(9).prefix;
    for at in 0..=1000 {
        bucket.put(&format!("{folder}{at}"), b"garbage");
    }
    let error = enclave.spend(&key(), &[], &[claim(1, 9, 0xaa)]).await.unwrap_err();
    assert!(error.to_string().contains(&folder), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_authorisation_for_every_chain_spends_its_nonce_on_every_chain() {
    let bucket = Bucket::default();
    let enclave = enclave(&bucket).await;
    enclave.spend(&key(), &[], &[claim(0, 1, 0xaa)]).await.unwrap();
    enclave.spend(&key(), &[], &[claim(0, 1, 0xaa)]).await.unwrap();
    let error = enclave.spend(&key(), &[], &[claim(5, 1, 0xbb)]).await.unwrap_err();
    assert_eq!(error, LedgerError::Spent { nonce: 1, chain: 5, on: 0, payload: [0xaa; 32] });
    assert!(error.to_string().contains("for every chain"), "{error}");
    // Whatever its hash is.
    enclave.spend(&key(), &[], &[claim(0, 3, 0xaa)]).await.unwrap();
    assert!(enclave.spend(&key(), &[], &[claim(5, 3, 0xaa)]).await.is_err());
    enclave.spend(&key(), &[], &[claim(5, 2, 0xaa)]).await.unwrap();
    let error = enclave.spend(&key(), &[], &[claim(0, 2, 0xbb)]).await.unwrap_err();
    assert_eq!(error, LedgerError::Spent { nonce: 2, chain: 0, on: 5, payload: [0xaa; 32] });
}

#[tokio::test(start_paused = true)]
async fn fees_may_be_raised_where_the_policy_says_so() {
    let bucket = Bucket::default();
    let enclave = enclave(&bucket).await;
    let first = Claim { identity: [1; 32], ..claim(1, 7, 0xaa) };
    let raised = Claim { payload: [0xbb; 32], may_bump: true, ..first };
    enclave.spend(&key(), &[], &[first]).await.unwrap();
    enclave.spend(&key(), &[], &[raised]).await.unwrap();
    enclave.spend(&key(), &[], &[first]).await.expect("its record is still there");
    for other in [Claim { may_bump: false, ..raised }, Claim { identity: [2; 32], ..raised }] {
        let error = enclave.spend(&key(), &[], &[other]).await.unwrap_err();
        assert!(matches!(error, LedgerError::Spent { .. }), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_without_an_answer_is_looked_for() {
    use Fault::{AnswerLost, Conflict, Lost, Refused};
    for faults in [&[AnswerLost][..], &[Lost], &[Conflict], &[Lost, AnswerLost], &[Conflict, Conflict, Lost]] {
        let bucket = Bucket::default();
        let (one, other) = (enclave(&bucket).await, enclave(&bucket).await);
        bucket.fail(faults);
        one.spend(&key(), &[], &[claim(1, 7, 0xaa)]).await.unwrap();
        let error = other.spend(&key(), &[], &[claim(1, 7, 0xbb)]).await.unwrap_err();
        assert!(matches!(error, LedgerError::Spent { .. }), "{error}");
        assert_eq!(bucket.all().len(), 1);
    }
    let bucket = Bucket::default();
    let enclave = enclave(&bucket).await;
    bucket.fail(&[Refused]);
    let error = enclave.spend(&key(), &[], &[claim(1, 7, 0xaa)]).await.unwrap_err();
    assert_eq!(error, LedgerError::Store(StoreError::Refused("AccessDenied".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_is_away_refuses_within_two_seconds() {
    let bucket = Bucket::default();
    let enclave = enclave(&bucket).await;
    bucket.fail(&[Fault::Lost; 1000]);
    for is_silent in [false, true] {
        *bucket.0.is_silent.lock().unwrap() = is_silent;
        let start = Instant::now();
        let error = enclave.spend(&key(), &[], &[claim(1, 7, 0xaa)]).await.unwrap_err();
        assert!(matches!(error, LedgerError::Store(StoreError::Unavailable(_))), "{error}");
        assert!(start.elapsed() <= DEADLINE, "{:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_reserved_in_a_bucket_that_was_not_checked() {
    let bucket = Bucket::default();
    let ledger = Ledger::new(settings(true));
    let unchecked = |error: LedgerError| assert!(error.to_string().contains("not been checked"), "{error}");
    unchecked(ledger.spend(&key(), &[], &[claim(1, 7, 0xaa)]).await.unwrap_err());
    ledger.keep_in(bucket.clone());
    unchecked(ledger.spend(&key(), &[], &[claim(1, 7, 0xaa)]).await.unwrap_err());

    *bucket.0.problem.lock().unwrap() = Some(StoreError::Refused("no versioning".to_owned()));
    let checking = async {
        sleep(Duration::from_millis(1)).await;
        let error = ledger.spend(&key(), &[], &[claim(1, 7, 0xaa)]).await.unwrap_err();
        assert!(error.to_string().contains("no versioning"), "{error}");
        assert_eq!(bucket.requests(), 0);
        *bucket.0.problem.lock().unwrap() = None;
    };
    tokio::join!(ledger.keep_checking(), checking);
    ledger.spend(&key(), &[], &[claim(1, 7, 0xaa)]).await.expect("it has been checked again");
}

/// One run of two enclaves and an administrator, with the delays of their requests.
async fn signed_payloads(delays: &[u64], hides: &[u64], chains: [u64; 2]) -> usize {
    let bucket = Bucket::default();
    let (one, other) = (enclave(&bucket).await, enclave(&bucket).await);
    *bucket.0.delays.lock().unwrap() = delays.to_vec();
    let key = key();
    let administrator = async {
        for after in hides {
            sleep(Duration::from_millis(*after)).await;
            chains.iter().for_each(|chain| bucket.hide(&name(*chain, 7)));
        }
    };
    let (first, second) = ([claim(chains[0], 7, 0xaa)], [claim(chains[1], 7, 0xbb)]);
    let (first, second, ()) =
        tokio::join!(one.spend(&key, &[], &first), other.spend(&key, &[], &second), administrator);
    usize::from(first.is_ok()) + usize::from(second.is_ok())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn two_enclaves_never_sign_two_payloads_for_one_nonce(
        delays in prop::collection::vec(0_u64..30, 0..12),
        hides in prop::collection::vec(0_u64..40, 0..4),
        chains in prop::sample::select(vec![[1, 1], [0, 1], [1, 0], [0, 0]]),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let signed = runtime.block_on(signed_payloads(&delays, &hides, chains));
        prop_assert!(signed <= 1);
        if hides.is_empty() && chains == [1, 1] {
            prop_assert_eq!(signed, 1, "without an administrator, one of them signs");
        }
    }
}
