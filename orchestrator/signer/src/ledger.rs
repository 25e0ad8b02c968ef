//! What all enclaves of a fleet have signed: records in a bucket of S3, each of which can be made once.
//!
//! ```toml
//! [signer.ledger]
//! bucket = "example-ledger"             # with versioning and Object Lock
//! owner = "111122223333"                # its account
//! retention_years = 10                  # after that time, nonces can be signed again
//! strict = true                         # optional
//! ```
//!
//! Before a signature leaves, its nonce has a record: an object that is written only if there is none of its name. That write is the lock
//! among enclaves. Then the object's versions are listed, and **a signature is made only if every version is a genuine record of this very
//! payload**. The order of versions proves nothing: a write can be late.
//!
//! | who | can | what comes of it |
//! |---|---|---|
//! | another enclave | write at the same moment | one write succeeds; the other enclave finds it |
//! | the parent, with the enclave's role | withhold, delay or repeat requests; write garbage | nothing is signed for that nonce |
//! | an administrator | hide an object behind a delete marker, after which a write succeeds | the hidden version is listed, too, with `strict` |
//!
//! The write comes before the list, never beside it: of two enclaves that both write, at least one sees the other's record. Without
//! `strict`, a successful write is enough, which saves the list and trusts the administrators of the bucket.
//!
//! What windows limit is counted in the ledger, too: see [`leases`].
//!
//! An authorisation of EIP-7702 for chain 0 spends its nonce on every chain. So the records of a nonce have one folder for all chains, and
//! one list shows them.

mod error;
mod key;
mod leases;
mod record;
mod store;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use ethereum::key::SecretKey;
use tokio::time::{sleep, timeout};
use tracing::{debug, error, info, warn};

pub use error::LedgerError;
pub use record::{LeaseRecord, MAX_LEN, NonceRecord, RecordError};
pub use store::{Creation, Store, StoreError, Version, Versions};

use crate::config::LedgerSettings;
use crate::metrics::{Collect, Snapshot};
use key::LedgerKey;
use leases::{Leases, Taken};

pub(crate) use leases::Part;

/// For everything that a signature needs of the ledger. A client that waits longer would rather ask another enclave.
const DEADLINE: Duration = Duration::from_secs(2);
/// For one request: there is time for another one.
const ATTEMPT: Duration = Duration::from_millis(800);
/// Between a write that has not been found and the next.
const PAUSE: Duration = Duration::from_millis(50);
/// Versions of one object that are read. Two enclaves and an administrator leave a few; the rest is garbage.
const MAX_READ: usize = 16;
/// In place of a chain's number: every chain (EIP-7702).
const EVERY_CHAIN: u64 = 0;
/// How long the bucket's check is waited for before the next.
const CHECK_DEADLINE: Duration = Duration::from_secs(10);
const CHECK_PAUSE: Duration = Duration::from_secs(5);

/// The ledger, if there is one.
pub(crate) struct Ledger {
    settings: LedgerSettings,
    store: OnceLock<Arc<dyn Store>>,
    leases: Leases,
    /// Why the bucket is not known to be right; none: it is.
    doubt: Mutex<Option<StoreError>>,
    /// What came of requests, by outcome.
    outcomes: Mutex<BTreeMap<&'static str, u64>>,
}

/// What one signature needs of the ledger.
struct Desk<'a> {
    store: &'a dyn Store,
    key: &'a LedgerKey,
    /// As [`LedgerSettings::identity`] has it.
    ledger: &'a str,
    strict: bool,
    retention: Duration,
}

/// A nonce, and what it is to be spent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    /// 0 is every chain.
    pub(crate) chain: u64,
    pub(crate) nonce: u64,
    /// The hash that is signed.
    pub(crate) payload: [u8; 32],
    /// The same for a transaction with other fees.
    pub(crate) identity: [u8; 32],
    /// Whether the policy allows the same transaction with other fees.
    pub(crate) may_bump: bool,
}

/// What a list shows.
enum Found {
    /// All records are of the payload, and there is one.
    Reserved,
    /// No record.
    Nothing,
}

impl Ledger {
    pub(crate) fn new(settings: LedgerSettings) -> Self {
        let doubt = Mutex::new(Some(StoreError::Unavailable("the bucket has not been checked yet".to_owned())));
        let outcomes = Mutex::new(["ok", "spent", "window", "foreign", "away"].map(|outcome| (outcome, 0)).into());
        Self { settings, store: OnceLock::new(), leases: Leases::default(), doubt, outcomes }
    }

    /// Uses this bucket. A second one is ignored.
    pub(crate) fn keep_in(&self, store: impl Store) {
        drop(self.store.set(Arc::new(store)));
    }

    /// Checks the bucket until it is right.
    pub(crate) async fn keep_checking(&self) {
        let Some(store) = self.store.get() else { return };
        loop {
            let checked = timeout(CHECK_DEADLINE, store.check()).await;
            let checked = checked.unwrap_or_else(|_elapsed| Err(too_late(CHECK_DEADLINE)));
            match checked {
                Ok(()) => {
                    info!(ledger = %self.settings.identity(), "ledger: the bucket keeps what is written");
                    *self.doubt() = None;
                    return;
                }
                Err(problem) => {
                    let before = self.doubt().replace(problem.clone());
                    if before.as_ref() != Some(&problem) {
                        error!(ledger = %self.settings.identity(), %problem, "ledger: nothing with a nonce or in a window is signed");
                    }
                }
            }
            sleep(CHECK_PAUSE).await;
        }
    }

    /// Why nothing can be reserved; none: it can.
    pub(crate) fn problem(&self) -> Option<StoreError> {
        self.doubt().clone()
    }

    /// Spends parts of windows and nonces for what this key is to sign. The same payloads may come again.
    ///
    /// # Errors
    /// One of them cannot be spent, or the ledger does not tell. Then nothing may be signed. Nonces that were reserved before stay so.
    pub(crate) async fn spend(&self, key: &SecretKey, parts: &[Part], claims: &[Claim]) -> Result<(), LedgerError> {
        if parts.is_empty() && claims.is_empty() {
            return Ok(());
        }
        if let Some(problem) = self.problem() {
            return Err(problem.into());
        }
        let store = self.store.get().ok_or_else(|| StoreError::Unavailable("there is no bucket".to_owned()))?;
        let (key, ledger) = (LedgerKey::of(key), self.settings.identity());
        let LedgerSettings { strict, retention, .. } = self.settings;
        let desk = Desk { store: &**store, key: &key, ledger: &ledger, strict, retention };
        let mut taken = Vec::new();
        // Windows first: a nonce that is reserved, and then not signed, is of use for nothing else.
        let spending = async {
            for part in parts {
                taken.push(self.leases.take(&desk, part).await?);
            }
            for claim in claims {
                desk.reserve(claim).await?;
            }
            Ok(())
        };
        let spent = timeout(DEADLINE, spending).await.unwrap_or_else(|_elapsed| Err(too_late(DEADLINE).into()));
        if spent.is_err() {
            taken.into_iter().for_each(Taken::give_back);
        }
        let outcome = spent.as_ref().map_or_else(LedgerError::outcome, |()| "ok");
        *self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).entry(outcome).or_default() += 1;
        spent.inspect_err(|error| warn!(key = %key.address(), %error, "ledger"))
    }

    fn doubt(&self) -> MutexGuard<'_, Option<StoreError>> {
        self.doubt.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Desk<'_> {
    /// Reserves a nonce, or finds that it is reserved for the same payload.
    async fn reserve(&self, claim: &Claim) -> Result<(), LedgerError> {
        let &Self { store, key, ledger, .. } = self;
        let name = key.name(&key.folder(claim.nonce), claim.chain);
        let &Claim { chain, nonce, payload, identity, .. } = claim;
        let record = NonceRecord { ledger: ledger.to_owned(), key: key.address(), chain, nonce, payload, identity };
        let content = record.seal(key.of_nonces());
        loop {
            let written = within(ATTEMPT, store.create(&name, &content, self.retention)).await;
            let made = match written {
                Ok(Creation::Made { .. }) if !self.strict => return Ok(()),
                Ok(Creation::Made { version }) => Some(version),
                Ok(Creation::Taken) => None,
                Err(StoreError::Unavailable(problem)) => {
                    // It may have been written all the same.
                    debug!(name, problem, "ledger: no answer to a write");
                    None
                }
                Err(error @ StoreError::Refused(_)) => return Err(error.into()),
            };
            match within(ATTEMPT, self.look(claim, made.as_deref())).await {
                Ok(Found::Reserved) => return Ok(()),
                Ok(Found::Nothing) => {}
                Err(LedgerError::Store(StoreError::Unavailable(problem))) => {
                    debug!(name, problem, "ledger: no answer to a list");
                }
                Err(error) => return Err(error),
            }
            sleep(PAUSE).await;
        }
    }

    /// Looks at all records of a nonce. `made` is the version that has just been written.
    async fn look(&self, claim: &Claim, made: Option<&str>) -> Result<Found, LedgerError> {
        let &Self { store, key, .. } = self;
        let &Claim { chain, nonce, .. } = claim;
        let folder = key.folder(nonce);
        let Versions { versions, markers, is_whole, .. } = store.versions(&folder.prefix, None).await?;
        if markers > 0 {
            warn!(folder = folder.prefix, markers, "ledger: somebody has put delete markers over records");
        }
        let (own, every) = (key.name(&folder, chain), key.name(&folder, EVERY_CHAIN));
        let is_relevant = |version: &&Version| chain == EVERY_CHAIN || version.name == own || version.name == every;
        let is_made = |version: &&Version| version.name == own && Some(version.id.as_str()) == made;
        let (made, others): (Vec<_>, Vec<_>) = versions.iter().filter(is_relevant).partition(is_made);
        if !is_whole || others.len() > MAX_READ {
            return Err(LedgerError::Crowded { nonce, chain, folder: folder.prefix });
        }
        let mut found = if made.is_empty() { Found::Nothing } else { Found::Reserved };
        for version in others {
            let content = store.read(version, MAX_LEN).await?;
            let object = || format!("{}, version {}", version.name, version.id);
            let record = NonceRecord::open(&content, key.of_nonces());
            let record = record.map_err(|problem| LedgerError::Garbage { nonce, chain, object: object(), problem })?;
            if record.ledger != self.ledger || version.name != key.name(&key.folder(record.nonce), record.chain) {
                let NonceRecord { ledger, nonce: of, chain: on, .. } = record;
                return Err(LedgerError::Foreign { nonce, chain, object: object(), of, on, ledger });
            }
            let is_same = record.payload == claim.payload || claim.may_bump && record.identity == claim.identity;
            if record.chain != chain || !is_same {
                return Err(LedgerError::Spent { nonce, chain, on: record.chain, payload: record.payload });
            }
            found = Found::Reserved;
        }
        Ok(found)
    }
}

impl Collect for Ledger {
    fn collect(&self, snapshot: &Snapshot) {
        let ready = usize::from(self.problem().is_none());
        snapshot.gauge("signer_ledger_ready", "1 if the ledger's bucket is as it has to be.", ready);
        let outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        snapshot.counters(
            "signer_ledger_requests_total",
            "What a signature needed of the ledger, by outcome.",
            "outcome",
            outcomes,
        );
    }
}

async fn within<T, E: From<StoreError>>(limit: Duration, request: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    timeout(limit, request).await.unwrap_or_else(|_elapsed| Err(too_late(limit).into()))
}

fn too_late(limit: Duration) -> StoreError {
    StoreError::Unavailable(format!("S3 gave no answer within {limit:?}"))
}

#[cfg(test)]
mod tests;
