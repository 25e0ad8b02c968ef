//! What enclaves sign in windows, counted by all of them: slices of a limit, each an object that can be made once.
//!
//! A lease is a part of a window's limit that one enclave may spend, for a short time. Its amount counts from the moment at which S3 got it
//! until a whole period after the last moment at which it can have been spent. What is not spent of it is lost: after a crash nobody knows.
//! So a slice is what the signature at hand needs, and twice the slice before if that was used up in its time.
//!
//! The leases of a window are objects `lease/SCOPE/EPOCH-SEQUENCE`; an epoch is as long as the period, and numbers start anew in each. An
//! enclave lists them, writes the next, and with `strict` lists them again, for the same reason as with nonces. All times are S3's. An
//! object that is no lease of the window blocks it until its time is over.

mod account;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use ethereum::number::Uint;
use tokio::time::{Instant, sleep};
use tracing::debug;

use super::error::LedgerError;
use super::record::{LeaseRecord, MAX_LEN};
use super::store::{Creation, StoreError, Version, Versions};
use super::{ATTEMPT, DEADLINE, Desk, PAUSE, within};
use crate::policy::Window;
use crate::windows::{CountedBy, Owner, exceeded};
use account::{Account, Lease};

/// A lease may be spent for this part of the period, and at least for [`SHORTEST`].
const PARTS_OF_PERIOD: u32 = 64;
/// Longer than a signature waits for the ledger.
const SHORTEST: Duration = Duration::from_secs(3);
const _: () = assert!(SHORTEST.as_secs() > DEADLINE.as_secs(), "a lease could be over before it is spent");
/// How much later than a lease's last moment a signature can come, which has taken its part before: after the rest of what it needs of
/// the ledger. And S3 writes times in whole seconds.
const LATEST: Duration = Duration::from_secs(DEADLINE.as_secs() + 2);
/// How much longer than it counts a lease is kept.
const KEEP_MORE: Duration = Duration::from_hours(24);
/// Windows that are remembered. What is forgotten is read again, and what it had left is lost.
const MAX_WINDOWS: usize = 1 << 12;
/// Objects that are listed and read at once. A window has some hundred leases in its period, and expired ones are deleted after a day.
const MOST_LISTED: usize = 16_000;
const MOST_READ: usize = 2_000;
/// How much older than a lease's time its epoch may be.
const LATE: Duration = Duration::from_secs(10);
/// Numbers above are nobody's: whoever writes such an object cannot use up the numbers.
const LAST_NUMBER: u64 = 1 << 32;

/// What this enclave knows of all windows.
#[derive(Default)]
pub(super) struct Leases(Mutex<HashMap<String, Arc<Shared>>>);

/// One window, shared by the requests that spend of it.
#[derive(Default)]
struct Shared {
    /// Locked while more is leased: whoever comes meanwhile waits for the same.
    account: tokio::sync::Mutex<Account>,
    /// What has come back, which nobody waits to give.
    returned: Mutex<Vec<Lease>>,
}

/// What is to be spent of one window.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) owner: Owner,
    pub(crate) window: Window,
    pub(crate) chain_id: Option<u64>,
    pub(crate) amount: Uint,
}

/// What has been taken. It can be given back as long as nothing is signed with it.
pub(super) struct Taken {
    from: Arc<Shared>,
    lease: Lease,
}

impl Leases {
    /// Takes a part of what this enclave has leased, and leases more if that is not enough.
    pub(super) async fn take(&self, desk: &Desk<'_>, part: &Part) -> Result<Taken, LedgerError> {
        let scope = part.scope();
        let folder = desk.key.lease_folder(desk.ledger, &part.owner, &scope);
        let from = self.shared(&folder);
        let mut account = from.account.lock().await;
        from.returned().drain(..).for_each(|lease| account.take_back(lease));
        let missing = part.amount.saturating_sub(account.left(Instant::now()));
        if missing > Uint::ZERO {
            let slice = account.next_slice(missing, part.window.max(), Instant::now());
            let lease = desk.lease(&mut account, part, &scope, &folder, missing, slice).await?;
            account.hold(lease);
        }
        let lease = account.draw(part.amount);
        drop(account);
        Ok(Taken { from, lease })
    }

    fn shared(&self, folder: &str) -> Arc<Shared> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MAX_WINDOWS && !all.contains_key(folder) {
            all.clear();
        }
        Arc::clone(all.entry(folder.to_owned()).or_default())
    }
}

impl Part {
    /// What is counted together, whichever image counts. The limit is not part of it: images may differ in it.
    fn scope(&self) -> String {
        let Self { owner, window, chain_id, .. } = self;
        let owner = match owner {
            Owner::Key(address) => format!("key {address}"),
            Owner::Client(name) => format!("client {name}"),
        };
        let chain = chain_id.map_or_else(|| "no chain".to_owned(), |chain| format!("chain {chain}"));
        format!("{owner}, {} in {}, {chain}", window.counts(), window.period())
    }

    fn exceeded(&self, counted: Uint) -> LedgerError {
        let Self { owner, window, chain_id, amount } = self;
        Box::new(exceeded(owner, window, *chain_id, counted, *amount, CountedBy::Ledger)).into()
    }

    /// How long a lease may be spent.
    fn spendable(&self) -> Duration {
        (self.window.length() / PARTS_OF_PERIOD).max(SHORTEST)
    }

    /// How long a lease counts from when S3 got it.
    fn counts_for(&self) -> Duration {
        self.window.length() + self.spendable() + LATEST
    }
}

impl Taken {
    /// Gives it back.
    pub(super) fn give_back(self) {
        self.from.returned().push(self.lease);
    }
}

impl Shared {
    fn returned(&self) -> MutexGuard<'_, Vec<Lease>> {
        self.returned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Desk<'_> {
    /// Leases at least `missing`, and `slice` if there is room.
    async fn lease(
        &self,
        account: &mut Account,
        part: &Part,
        scope: &str,
        folder: &str,
        missing: Uint,
        slice: Uint,
    ) -> Result<Lease, LedgerError> {
        loop {
            let free = match self.refresh(account, part, scope, folder, None).await {
                Err(LedgerError::Store(StoreError::Unavailable(problem))) => {
                    debug!(scope, problem, "ledger: no answer to a list");
                    sleep(PAUSE).await;
                    continue;
                }
                refreshed => refreshed?,
            };
            let room = part.window.max().saturating_sub(account.counted());
            if missing > room {
                return Err(part.exceeded(account.counted()));
            }
            let amount = slice.min(room);
            let record = LeaseRecord {
                ledger: self.ledger.to_owned(),
                key: self.key.address(),
                scope: scope.to_owned(),
                place: free.clone(),
                amount,
            };
            let name = format!("{folder}{free}");
            // Before it counts.
            let until = Instant::now() + part.spendable();
            let content = record.seal(self.key.of_leases());
            let keep = part.counts_for() + KEEP_MORE;
            match within(ATTEMPT, self.store.create(&name, &content, keep)).await {
                Ok(Creation::Made { version }) if self.strict => {
                    self.refresh(account, part, scope, folder, Some((&name, &version, amount))).await?;
                    if account.counted() > part.window.max() {
                        return Err(part.exceeded(account.counted().saturating_sub(amount)));
                    }
                }
                Ok(Creation::Made { .. }) => {}
                Ok(Creation::Taken) => continue,
                Err(StoreError::Unavailable(problem)) => {
                    // If it was written all the same, it counts, and nobody spends it.
                    debug!(name, problem, "ledger: no answer to a write");
                    sleep(PAUSE).await;
                    continue;
                }
                Err(error @ StoreError::Refused(_)) => return Err(error.into()),
            }
            return Ok(Lease { left: amount, until });
        }
    }

    /// Reads the leases that count; the next place that is free. `made` is the version that has just been written, and for how much.
    async fn refresh(
        &self,
        account: &mut Account,
        part: &Part,
        scope: &str,
        folder: &str,
        made: Option<(&str, &str, Uint)>,
    ) -> Result<String, LedgerError> {
        let (length, counts_for) = (part.window.length(), part.counts_for());
        // An epoch's name is before those of its leases.
        let first = account.now(Instant::now()).and_then(|now| now.checked_sub(counts_for + LATE));
        let mut after = first.map(|first| format!("{folder}{}", epoch(first, length)));
        let mut listed: Vec<Version> = Vec::new();
        let crowded = || LedgerError::CrowdedWindow { owner: part.owner.clone(), folder: folder.to_owned() };
        let now = loop {
            let page = within(ATTEMPT, self.store.versions(folder, after.as_deref())).await?;
            let Versions { versions, is_whole, now, .. } = page;
            listed.extend(versions);
            if is_whole {
                break now;
            }
            // The page may end within the versions of a name: the next begins with that name.
            let last = listed.last().map(|version| version.name.clone());
            listed.retain(|version| Some(&version.name) != last.as_ref());
            let before = listed.last().map(|version| version.name.clone());
            if listed.len() > MOST_LISTED || before <= after {
                return Err(crowded());
            }
            after = before;
        };
        account.pass(now, counts_for);
        if let Some((name, id, amount)) = made {
            let version = listed.iter().find(|version| version.name == name && version.id == id);
            let missing = || StoreError::Unavailable("S3's list lacks what has just been written".to_owned());
            account.count(version.ok_or_else(missing)?, amount);
        }
        let unknown: Vec<_> = listed.iter().filter(|version| account.is_unknown(version, now, counts_for)).collect();
        if unknown.len() > MOST_READ {
            return Err(crowded());
        }
        for version in unknown {
            let content = within(ATTEMPT, self.store.read(version, MAX_LEN)).await?;
            let garbage = |problem: String| LedgerError::Lease {
                owner: part.owner.clone(),
                object: format!("{}, version {}", version.name, version.id),
                problem,
                period: part.window.period(),
            };
            let record = LeaseRecord::open(&content, self.key.of_leases(), self.key.address());
            let record = record.map_err(|problem| garbage(problem.to_string()))?;
            if record.ledger != self.ledger
                || record.scope != scope
                || format!("{folder}{}", record.place) != version.name
            {
                let LeaseRecord { ledger, scope, place, .. } = record;
                return Err(garbage(format!("the lease {place} of {scope} in {ledger}")));
            }
            account.count(version, record.amount);
        }
        let epoch = epoch(now, length);
        let is_taken = |place: &str| listed.iter().any(|version| version.name.strip_prefix(folder) == Some(place));
        let numbers = listed.iter().filter_map(|version| number(&epoch, version.name.strip_prefix(folder)?));
        let mut free = numbers.filter(|number| *number < LAST_NUMBER).max().map_or(0, |last| last + 1);
        while is_taken(&place(&epoch, free)) {
            free += 1;
        }
        Ok(place(&epoch, free))
    }
}

/// The number of the period, sorted as the numbers are.
fn epoch(time: SystemTime, length: Duration) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    format!("{:010}", seconds / length.as_secs().max(1))
}

fn place(epoch: &str, number: u64) -> String {
    format!("{epoch}-{number:010}")
}

fn number(epoch: &str, place: &str) -> Option<u64> {
    let number = place.strip_prefix(epoch)?.strip_prefix('-')?.parse().ok()?;
    (self::place(epoch, number) == place).then_some(number)
}

#[cfg(test)]
mod tests;
