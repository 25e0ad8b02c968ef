//! What has been signed in rolling windows, since this process started.
//!
//! A window counts for each key, or for each client, and for each chain by itself: a *scope*. A scope is divided into buckets of 1/64 of
//! its period. What goes into a bucket counts until the whole period has passed for the last of it. So an amount counts for at least the
//! period and at most 1/64 longer, and a scope takes the same memory for ten signatures and for a million.
//!
//! | part | what it holds | when a share is full |
//! |---|---|---|
//! | buckets | sums | a scope goes on with the buckets that it has: its amounts count longer. A scope without one is refused |
//! | counted | what the latest signatures were of, so that the same request counts once | the oldest is dropped: the same request counts again |
//!
//! Both are divided equally among payers, see [`Payer`]. All errors are on the strict side: nothing is signed beyond a limit.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use ethereum::address::Address;
use ethereum::number::Uint;
use thiserror::Error;
use tokio::time::Instant;

use crate::ledger::Part;
use crate::nonces::Payer;
use crate::policy::{Amounts, Window};

/// Parts of a period.
const BUCKETS_OF_PERIOD: u32 = 64;

/// Buckets of all scopes.
pub const MAX_BUCKETS: usize = 1 << 16;

/// Signatures that are remembered for all scopes.
pub const MAX_COUNTED: usize = 1 << 16;

/// The most memory that all this takes, in bytes.
pub const MAX_MEMORY: usize = 64 << 20;

/// Whose windows they are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// Those of the policy, for each key by itself.
    Key(Address),
    /// Those of a client, for all of its keys together.
    Client(String),
}

/// What is to be signed.
#[derive(Clone, Debug)]
pub struct Spending<'a> {
    /// Who pays for the memory.
    pub payer: Payer<'a>,
    /// The same for the same request, and for one that replaces it with other fees.
    pub id: Id,
    /// None for what is of no chain.
    pub chain_id: Option<u64>,
    /// What it adds.
    pub amounts: Amounts,
    /// The windows that it counts in.
    pub windows: Vec<(Owner, &'a [Window])>,
}

/// A window that has no room.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WindowError {
    /// For this amount.
    #[error(
        "{part} more{on_chain} would be {sum} in {period}, at most {max}; {}; expected at most {left} now", .counted.words()
    )]
    Exceeded {
        /// Whose it is.
        owner: Owner,
        /// What the request adds.
        part: String,
        /// ` on chain 1`, or nothing.
        on_chain: String,
        /// What it would be.
        sum: String,
        /// The length of the window.
        period: String,
        /// Whose signatures the sum is of.
        counted: CountedBy,
        /// The limit.
        max: String,
        /// What is left of it.
        left: String,
    },
    /// In memory.
    #[error(
        "the signer counts in {buckets} parts of windows for this client already, and this key has none; expected a key that has signed \
         in the last {period}, or a later time"
    )]
    Full {
        /// Whose it is.
        owner: Owner,
        /// How many there are.
        buckets: usize,
        /// The length of the window.
        period: String,
    },
}

/// Whose signatures a sum is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountedBy {
    /// Those of this process.
    Signer,
    /// Those of all enclaves of a ledger.
    Ledger,
}

/// What has been signed.
#[derive(Debug)]
pub struct Windows {
    scopes: BTreeMap<Scope, Sums>,
    counted: HashMap<Counted, Instant>,
    shares: Vec<Share>,
    names: BTreeSet<Name>,
    max_buckets: usize,
    max_counted: usize,
    next_number: u64,
    /// Whether a ledger sees to the limits.
    is_in_ledger: bool,
}

impl CountedBy {
    fn words(self) -> &'static str {
        match self {
            Self::Signer => "counted since the signer started",
            Self::Ledger => "counted is what all enclaves of the ledger have signed or may still sign",
        }
    }
}

/// What is counted together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Scope {
    owner: Owner,
    /// Its place in the list of windows.
    window: usize,
    chain_id: Option<u64>,
}

#[derive(Debug)]
struct Sums {
    /// No other scope has had it.
    number: u64,
    name: Name,
    max: Uint,
    period: Duration,
    sum: Uint,
    /// The oldest in front.
    buckets: VecDeque<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    first: Instant,
    last: Instant,
    sum: Uint,
    /// Which share has it.
    share: usize,
}

/// A key, and a hash of what it signed.
pub type Id = (Address, [u8; 32]);

/// A scope's number, and what was signed.
type Counted = (u64, Id);

#[derive(Debug)]
struct Share {
    client: String,
    is_key_brought: bool,
    buckets: usize,
    /// The oldest in front.
    counted: VecDeque<Counted>,
}

/// A series of the metrics: `each key` or the client, what is limited, and the period.
type Name = (String, &'static str, String);

/// A signature that has room in all of its windows.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    share: usize,
    id: Id,
    now: Instant,
    parts: Vec<(Scope, &'a Window, Uint)>,
}

/// Metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WindowMetrics {
    /// Of each name, how many percent of the limit the fullest scope has used.
    pub used: BTreeMap<(String, &'static str, String), u8>,
    /// Buckets of all scopes.
    pub buckets: usize,
    /// Buckets that a share may have.
    pub max_buckets: usize,
}

impl Plan<'_> {
    /// What it adds to each window, for a ledger.
    pub(crate) fn parts(&self) -> Vec<Part> {
        let part = |(scope, window, amount): &(Scope, &Window, Uint)| Part {
            owner: scope.owner.clone(),
            window: (*window).clone(),
            chain_id: scope.chain_id,
            amount: *amount,
        };
        self.parts.iter().map(part).collect()
    }
}

impl Windows {
    /// Nothing signed yet; for so many payers. `owners` are all windows of the configuration, with the client whose they are.
    #[must_use]
    pub fn new<'a>(payers: usize, owners: impl IntoIterator<Item = (Option<&'a str>, &'a [Window])>) -> Self {
        Self::with_bounds(payers, MAX_BUCKETS, MAX_COUNTED, owners)
    }

    fn with_bounds<'a>(
        payers: usize,
        buckets: usize,
        counted: usize,
        owners: impl IntoIterator<Item = (Option<&'a str>, &'a [Window])>,
    ) -> Self {
        let names =
            owners.into_iter().flat_map(|(client, windows)| windows.iter().map(move |window| name(client, window)));
        Self {
            scopes: BTreeMap::new(),
            counted: HashMap::new(),
            shares: Vec::new(),
            names: names.collect(),
            max_buckets: (buckets / payers.max(1)).max(1),
            max_counted: (counted / payers.max(1)).max(1),
            next_number: 0,
            is_in_ledger: false,
        }
    }

    /// Counts, and leaves the limits to a ledger, which knows what other enclaves have signed.
    #[must_use]
    pub(crate) fn in_ledger(self, is_in_ledger: bool) -> Self {
        Self { is_in_ledger, ..self }
    }

    /// Checks that all windows have room. Nothing is spent yet.
    ///
    /// # Errors
    /// The first window that has none.
    pub(crate) fn plan<'a>(&mut self, spending: &Spending<'a>, now: Instant) -> Result<Plan<'a>, Box<WindowError>> {
        let (share, mut parts, mut made) = (self.share_of(spending.payer), Vec::new(), 0);
        for (owner, windows) in &spending.windows {
            for (at, window) in windows.iter().enumerate() {
                let part = window.part(&spending.amounts);
                let scope = Scope { owner: owner.clone(), window: at, chain_id: spending.chain_id };
                if part == Uint::ZERO || self.has_counted(&scope, spending.id, now) {
                    continue;
                }
                let sums = self.scopes.get_mut(&scope);
                let sum = match sums {
                    Some(sums) => {
                        expire(sums, &mut self.shares, now);
                        sums.sum
                    }
                    None => Uint::ZERO,
                };
                if !self.is_in_ledger && sum.checked_add(part).is_none_or(|sum| sum > window.max()) {
                    return Err(Box::new(exceeded(owner, window, spending.chain_id, sum, part, CountedBy::Signer)));
                }
                if self.scopes.get(&scope).is_none_or(|sums| sums.buckets.is_empty()) {
                    let buckets = self.shares.get(share).map_or(0, |share| share.buckets) + made;
                    if buckets >= self.max_buckets {
                        let full = WindowError::Full { owner: owner.clone(), buckets, period: window.period() };
                        return Err(Box::new(full));
                    }
                    made += 1;
                }
                parts.push((scope, window, part));
            }
        }
        Ok(Plan { share, id: spending.id, now, parts })
    }

    /// Counts what was planned. Without a ledger, under the same lock; with one, it has counted in between.
    pub(crate) fn spend(&mut self, plan: Plan<'_>) {
        let Plan { share: at, id, now, parts } = plan;
        let share = self.shares.get_mut(at).expect("plan() made it");
        for (scope, window, part) in parts {
            let next_number = &mut self.next_number;
            let client = scope.owner.client().map(str::to_owned);
            let sums = self.scopes.entry(scope).or_insert_with(|| {
                *next_number += 1;
                Sums {
                    number: *next_number,
                    name: name(client.as_deref(), window),
                    max: window.max(),
                    period: window.period,
                    sum: Uint::ZERO,
                    buckets: VecDeque::with_capacity(1),
                }
            });
            sums.sum = sums.sum.saturating_add(part);
            let has_room = share.buckets < self.max_buckets;
            match sums.buckets.back_mut() {
                Some(bucket) if now < bucket.first + window.period / BUCKETS_OF_PERIOD || !has_room => {
                    bucket.sum = bucket.sum.saturating_add(part);
                    bucket.last = now;
                }
                _ => {
                    sums.buckets.push_back(Bucket { first: now, last: now, sum: part, share: at });
                    share.buckets += 1;
                }
            }
            let counted = (sums.number, id);
            if self.counted.insert(counted, now).is_none() {
                if share.counted.len() >= self.max_counted
                    && let Some(oldest) = share.counted.pop_front()
                {
                    self.counted.remove(&oldest);
                }
                share.counted.push_back(counted);
            }
        }
    }

    /// Drops what no window counts any more.
    pub(crate) fn expire(&mut self, now: Instant) {
        let shares = &mut self.shares;
        self.scopes.retain(|_scope, sums| {
            expire(sums, shares, now);
            !sums.buckets.is_empty()
        });
    }

    /// Its metrics.
    #[must_use]
    pub fn metrics(&self, now: Instant) -> WindowMetrics {
        let mut used: BTreeMap<Name, u8> = self.names.iter().map(|name| (name.clone(), 0)).collect();
        for sums in self.scopes.values() {
            let old = sums.buckets.iter().take_while(|bucket| bucket.last + sums.period <= now);
            let sum = old.fold(sums.sum, |sum, bucket| sum.saturating_sub(bucket.sum));
            if let Some(most) = used.get_mut(&sums.name) {
                *most = (*most).max(sum.percent_of(sums.max));
            }
        }
        let buckets = self.scopes.values().map(|sums| sums.buckets.len()).sum();
        WindowMetrics { used, buckets, max_buckets: self.max_buckets }
    }

    /// The place of the payer's share.
    fn share_of(&mut self, payer: Payer<'_>) -> usize {
        let Payer { client, is_key_brought } = payer;
        let is_theirs = |share: &Share| share.client == client && share.is_key_brought == is_key_brought;
        self.shares.iter().position(is_theirs).unwrap_or_else(|| {
            self.shares.push(Share { client: client.to_owned(), is_key_brought, buckets: 0, counted: VecDeque::new() });
            self.shares.len() - 1
        })
    }

    /// Whether the scope counts this signature now.
    fn has_counted(&self, scope: &Scope, id: Id, now: Instant) -> bool {
        let Some(sums) = self.scopes.get(scope) else { return false };
        self.counted.get(&(sums.number, id)).is_some_and(|counted| now < *counted + sums.period)
    }
}

/// Drops the buckets whose time is up.
fn expire(sums: &mut Sums, shares: &mut [Share], now: Instant) {
    while let Some(bucket) = sums.buckets.pop_front_if(|bucket| bucket.last + sums.period <= now) {
        sums.sum = sums.sum.saturating_sub(bucket.sum);
        if let Some(share) = shares.get_mut(bucket.share) {
            share.buckets -= 1;
        }
    }
}

pub(crate) fn exceeded(
    owner: &Owner,
    window: &Window,
    chain_id: Option<u64>,
    sum: Uint,
    part: Uint,
    counted: CountedBy,
) -> WindowError {
    WindowError::Exceeded {
        owner: owner.clone(),
        part: window.shown(part),
        on_chain: chain_id.map_or_else(String::new, |chain_id| format!(" on chain {chain_id}")),
        sum: window.shown(sum.saturating_add(part)),
        period: window.period(),
        counted,
        max: window.shown(window.max()),
        left: window.shown(window.max().saturating_sub(sum)),
    }
}

fn name(client: Option<&str>, window: &Window) -> Name {
    (client.unwrap_or("each key").to_owned(), window.kind(), window.period())
}

impl Owner {
    /// The client; none for a key.
    #[must_use]
    pub fn client(&self) -> Option<&str> {
        match self {
            Self::Key(_) => None,
            Self::Client(client) => Some(client),
        }
    }
}

impl WindowError {
    /// The client whose window it is; none for a key's.
    #[must_use]
    pub fn client(&self) -> Option<&str> {
        let (Self::Exceeded { owner, .. } | Self::Full { owner, .. }) = self;
        owner.client()
    }
}

#[cfg(test)]
mod tests;
