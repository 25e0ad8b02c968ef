//! The accounts of the keys that the configuration names, so that a client can name a key by its address.
//!
//! `[[signer.keys]]` are loaded when the service starts, until all are there. The secrets of a client are loaded when it
//! first needs them. What is remembered is the address: the key itself is in the cache, for its time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::home::pause::{Pauses, Troubles};
use ethereum::address::Address;
use signer_api::key::KeyReference;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use super::Shared;
use super::failure::Failure;
use super::home::random;
use crate::cache::Id;
use crate::config::ConfiguredKey;
use crate::keys::{Attestor, KeyError, Keys};
use crate::metrics::{Collect, Snapshot};
use crate::permission::{Caller, Denied};

/// Keys that are loaded at once at the start: the others leave room for what clients ask for.
const LOADING: usize = 4;

/// The pauses between two attempts to load a key.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// What is known of the keys.
pub(super) struct Accounts {
    keys: Vec<(Id, ConfiguredKey)>,
    /// The addresses of keys that have been loaded: of the above, and of clients' secrets.
    loaded: Mutex<HashMap<Id, Address>>,
    loading: Semaphore,
}

/// A key that a client may name.
struct Candidate {
    reference: KeyReference,
    /// None: it has not been loaded.
    address: Option<Address>,
}

impl Accounts {
    pub(super) fn new(keys: Vec<ConfiguredKey>) -> Self {
        let keys = keys.into_iter().map(|key| (Id::new(&key.reference, None), key)).collect();
        Self { keys, loaded: Mutex::default(), loading: Semaphore::new(LOADING) }
    }

    /// Whether the configuration names this very key.
    pub(super) fn has(&self, reference: &KeyReference) -> bool {
        self.keys.iter().any(|(_, key)| key.reference == *reference)
    }

    /// Checks that a key which has been fetched is the configured one, and the one that a client has named.
    pub(super) fn check(&self, reference: &KeyReference, is: Address, named: Option<Address>) -> Result<(), KeyError> {
        let configured = self.keys.iter().find(|(_, key)| key.reference == *reference);
        if let Some(expected) = configured.and_then(|(_, key)| key.address).filter(|expected| *expected != is) {
            return Err(KeyError::Answer(format!("a key of {is}, expected that of {expected}, as in signer.keys")));
        }
        match named.filter(|named| *named != is) {
            None => Ok(()),
            Some(expected) => {
                // Replaced since it was loaded. The next one to ask learns of it.
                self.learn(reference, is);
                Err(KeyError::Answer(format!("a key of {is}, expected that of {expected}; it has been replaced")))
            }
        }
    }

    /// The configured keys that have not been loaded.
    pub(super) fn missing(&self) -> Vec<&str> {
        let loaded = self.loaded();
        self.keys.iter().filter(|(id, _)| !loaded.contains_key(id)).map(|(_, key)| key.name.as_str()).collect()
    }

    pub(super) fn count(&self) -> usize {
        self.keys.len()
    }

    fn learn(&self, reference: &KeyReference, address: Address) {
        self.loaded().insert(Id::new(reference, None), address);
    }

    /// The key of this account, as far as it is known.
    fn known(&self, caller: &Caller, account: Address) -> Option<KeyReference> {
        let loaded = self.loaded();
        let is_it = |(id, key): &&(Id, ConfiguredKey)| {
            let address = loaded.get(id).copied().or(key.address);
            address == Some(account) && caller.may_use(&key.reference, account).is_ok()
        };
        if let Some((_, key)) = self.keys.iter().find(is_it) {
            return Some(key.reference.clone());
        }
        let mut secrets = caller.secret_ids().map(|id| KeyReference::SecretId(id.to_owned()));
        secrets.find(|secret| loaded.get(&Id::new(secret, None)) == Some(&account))
    }

    /// The keys that the caller could be allowed to use, in the order of the configuration.
    fn candidates(&self, caller: &Caller) -> Vec<Candidate> {
        let loaded = self.loaded();
        let candidate = |id: Id, reference: KeyReference| Candidate { address: loaded.get(&id).copied(), reference };
        let configured = self.keys.iter().filter(|(_, key)| caller.may_ask(&key.reference).is_ok());
        let configured = configured.map(|(id, key)| candidate(*id, key.reference.clone()));
        let secrets = caller.secret_ids().map(|id| KeyReference::SecretId(id.to_owned()));
        let secrets = secrets.filter(|reference| !self.has(reference));
        configured.chain(secrets.map(|reference| candidate(Id::new(&reference, None), reference))).collect()
    }

    fn loaded(&self) -> MutexGuard<'_, HashMap<Id, Address>> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Candidate {
    /// Its address, if the caller may use it.
    fn of(&self, caller: &Caller) -> Option<Address> {
        self.address.filter(|address| caller.may_use(&self.reference, *address).is_ok())
    }
}

impl<K: Keys, A: Attestor> Shared<K, A> {
    /// The accounts that the caller may use, each once.
    ///
    /// # Errors
    /// There are none, because a key could not be loaded.
    pub(super) async fn accounts_of(&self, caller: &Caller) -> Result<Vec<Address>, Failure> {
        let (mut addresses, mut failure) = (Vec::new(), None);
        for mut candidate in self.accounts.candidates(caller) {
            if candidate.address.is_none() {
                match self.load(&candidate.reference).await {
                    Ok(address) => candidate.address = Some(address),
                    Err(error) => failure = Some(error),
                }
            }
            addresses.extend(candidate.of(caller).filter(|address| !addresses.contains(address)));
        }
        match failure {
            Some(failure) if addresses.is_empty() => Err(failure.into()),
            Some(_) | None => Ok(addresses),
        }
    }

    /// The key of this account.
    ///
    /// # Errors
    /// The caller has no such account, or a key could not be loaded that may be it.
    pub(super) async fn key_of(&self, caller: &Caller, account: Address) -> Result<KeyReference, Failure> {
        if let Some(reference) = self.accounts.known(caller, account) {
            return Ok(reference);
        }
        let mut failure = None;
        // Also those that have been loaded: a secret may hold another key by now.
        for mut candidate in self.accounts.candidates(caller) {
            match self.load(&candidate.reference).await {
                Ok(address) => candidate.address = Some(address),
                Err(error) => failure = Some(error),
            }
            if candidate.of(caller) == Some(account) {
                return Ok(candidate.reference);
            }
        }
        Err(failure.map_or_else(|| Denied::Account(caller.name().to_owned(), account).into(), Failure::from))
    }

    async fn load(&self, reference: &KeyReference) -> Result<Address, KeyError> {
        let id = Id::new(reference, None);
        let address = self.cache.key(id, Instant::now(), self.fetch(reference, None)).await?.address();
        self.accounts.check(reference, address, None)?;
        self.accounts.learn(reference, address);
        Ok(address)
    }
}

impl Collect for Accounts {
    fn collect(&self, snapshot: &Snapshot) {
        snapshot.gauge("signer_keys_missing", "Configured keys that are not loaded.", self.missing().len());
    }
}

/// Loads one of the configured keys, however long it takes.
pub(super) async fn keep_loading<K: Keys, A: Attestor>(shared: Arc<Shared<K, A>>, at: usize) {
    let Some((_, ConfiguredKey { reference, name, .. })) = shared.accounts.keys.get(at) else { return };
    let (mut pauses, mut troubles) = (Pauses::new(FIRST_PAUSE, LONGEST_PAUSE), Troubles::default());
    loop {
        let loaded = {
            let Ok(_turn) = shared.accounts.loading.acquire().await else { return };
            shared.load(reference).await
        };
        match loaded {
            Ok(address) => return info!(key = name, %address, "key loaded"),
            Err(error) => match troubles.is_news(&error.to_string(), Instant::now()) {
                true => warn!(key = name, "load a key: {error}; trying again"),
                false => debug!(key = name, "load a key: {error}; trying again"),
            },
        }
        sleep(pauses.next(random())).await;
    }
}
