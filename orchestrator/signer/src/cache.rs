//! Decrypted keys: kept for the configured time, and fetched once however many requests wait.
//!
//! An entry belongs to its name (a secret's id, or a ciphertext) *and* to the credential that decrypted it: a request with
//! another credential, or with none, must decrypt the key again. A secret's entry is of one version; a new version
//! replaces it when its time is up.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use ethereum::key::SecretKey;
use signer_api::key::{Credential, KeyReference};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::keys::KeyError;

/// The most keys; beyond, the least recently used one is dropped.
const MAX_KEYS: usize = 256;

/// The most fetches at once; beyond, requests are refused. KMS's own limits are per second and account.
const MAX_FETCHES: usize = 16;

/// The name of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Id([u8; 32]);

/// See the module.
pub(crate) struct Cache {
    time: Duration,
    state: Mutex<State>,
}

/// Metrics of the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CacheMetrics {
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) keys: usize,
}

#[derive(Default)]
struct State {
    keys: HashMap<Id, Entry>,
    fetching: HashMap<Id, Arc<Fetch>>,
    hits: u64,
    misses: u64,
}

struct Entry {
    key: Arc<SecretKey>,
    expires: Instant,
    used: Instant,
}

/// A fetch that several requests wait for. If the one that fetches is cancelled, the next one does it.
type Fetch = OnceCell<Result<Arc<SecretKey>, KeyError>>;

impl Id {
    pub(crate) fn new(reference: &KeyReference, credential: Option<&Credential>) -> Self {
        let (kind, name) = match reference {
            KeyReference::SecretId(id) => (b"s", id.as_bytes()),
            KeyReference::EncryptedKey(ciphertext) => (b"c", ciphertext.as_slice()),
        };
        let mut context = Context::new(&SHA256);
        context.update(kind);
        // Each with its length in front, so that no two lists of parts have the same digest.
        let mut part = |bytes: &[u8]| {
            context.update(&bytes.len().to_be_bytes());
            context.update(bytes);
        };
        part(name);
        if let Some(credential) = credential {
            part(credential.access_key_id().as_bytes());
            part(credential.expose_secret_access_key().as_bytes());
            if let Some(token) = credential.expose_token() {
                part(token.as_bytes());
            }
        }
        let mut id = [0; 32];
        id.copy_from_slice(context.finish().as_ref());
        Self(id)
    }
}

impl Cache {
    pub(crate) fn new(time: Duration) -> Self {
        Self { time, state: Mutex::default() }
    }

    /// The key, cached or from `fetch`. Its time counts from `now`.
    ///
    /// # Errors
    /// Those of `fetch`, shared by all who wait and not by later requests; and [`KeyError::Busy`].
    pub(crate) async fn key(
        &self,
        id: Id,
        now: Instant,
        fetch: impl Future<Output = Result<SecretKey, KeyError>>,
    ) -> Result<Arc<SecretKey>, KeyError> {
        let waiting = match self.look_up(id, now)? {
            Found::Key(key) => return Ok(key),
            Found::Fetch(fetch) => Waiting { cache: self, id, fetch },
        };
        let fetched = waiting.fetch.get_or_init(|| async {
            let key = Arc::new(fetch.await?);
            self.insert(id, Arc::clone(&key), now);
            Ok(key)
        });
        fetched.await.clone()
    }

    /// Drops the keys whose time is up.
    pub(crate) fn evict(&self, now: Instant) {
        self.state().keys.retain(|_id, entry| now < entry.expires);
    }

    pub(crate) fn metrics(&self) -> CacheMetrics {
        let state = self.state();
        CacheMetrics { hits: state.hits, misses: state.misses, keys: state.keys.len() }
    }

    fn look_up(&self, id: Id, now: Instant) -> Result<Found, KeyError> {
        let mut state = self.state();
        if let Some(entry) = state.keys.get_mut(&id).filter(|entry| now < entry.expires) {
            entry.used = now;
            let key = Arc::clone(&entry.key);
            state.hits += 1;
            return Ok(Found::Key(key));
        }
        state.keys.remove(&id);
        state.misses += 1;
        if state.fetching.len() >= MAX_FETCHES && !state.fetching.contains_key(&id) {
            return Err(KeyError::Busy);
        }
        Ok(Found::Fetch(Arc::clone(state.fetching.entry(id).or_default())))
    }

    fn insert(&self, id: Id, key: Arc<SecretKey>, now: Instant) {
        let mut state = self.state();
        if state.keys.len() >= MAX_KEYS {
            let oldest = state.keys.iter().min_by_key(|(_id, entry)| entry.used).map(|(id, _entry)| *id);
            oldest.and_then(|id| state.keys.remove(&id));
        }
        state.keys.insert(id, Entry { key, expires: now + self.time, used: now });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Found {
    Key(Arc<SecretKey>),
    Fetch(Arc<Fetch>),
}

/// A request that waits. When it ends, cancelled or not, it drops a fetch that has ended or that no other request waits for.
struct Waiting<'a> {
    cache: &'a Cache,
    id: Id,
    fetch: Arc<Fetch>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.cache.state();
        let is_ours = state.fetching.get(&self.id).is_some_and(|fetch| Arc::ptr_eq(fetch, &self.fetch));
        // Two: the map's and ours. New ones are only made under the lock.
        if is_ours && (self.fetch.initialized() || Arc::strong_count(&self.fetch) == 2) {
            state.fetching.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests;
