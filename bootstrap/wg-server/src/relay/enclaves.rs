//! The enclaves whose streams this host relays. Decisions without I/O.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, ensure};
use tunnel::port::Cid;
use tunnel::preface::Role;

use crate::streams::{OpenStream, Streams};

/// Nitro allows four enclaves per instance; the rest is for those that have gone and left a socket.
const MAX_ENCLAVES: usize = 16;

/// Every enclave that has, or lately had, a stream. `R` is what outlives its streams.
#[derive(Debug)]
pub(super) struct Enclaves<R> {
    enclaves: BTreeMap<Cid, Enclave<R>>,
    /// Grows with every stream.
    last: u64,
}

#[derive(Debug)]
struct Enclave<R> {
    relay: Arc<R>,
    streams: Streams,
    /// Which of all streams was its latest.
    used: u64,
}

impl<R> Default for Enclaves<R> {
    fn default() -> Self {
        Self { enclaves: BTreeMap::new(), last: 0 }
    }
}

impl<R> Enclaves<R> {
    /// Opens a stream, and ends the one that it replaces. Calls `make` for an enclave that is new.
    pub(super) fn open(
        &mut self,
        cid: Cid,
        role: Role,
        make: impl FnOnce() -> Result<R>,
    ) -> Result<(OpenStream, Arc<R>)> {
        if !self.enclaves.contains_key(&cid) {
            self.make_room();
            ensure!(self.enclaves.len() < MAX_ENCLAVES, "refused: {MAX_ENCLAVES} enclaves are connected, the maximum");
            let relay = Arc::new(make()?);
            self.enclaves.insert(cid, Enclave { relay, streams: Streams::default(), used: 0 });
        }
        self.last += 1;
        let enclave = self.enclaves.get_mut(&cid).expect("it was there, or has just been put there");
        enclave.used = self.last;
        Ok((enclave.streams.open(role), Arc::clone(&enclave.relay)))
    }

    /// A stream has ended. What outlives it stays until the room is needed.
    pub(super) fn close(&mut self, cid: Cid, stream: &OpenStream) {
        if let Some(enclave) = self.enclaves.get_mut(&cid) {
            enclave.streams.close(stream);
        }
    }

    /// Forgets the enclave that has been away the longest, if there is no room: nitro-cli may give every launch a new CID.
    fn make_room(&mut self) {
        if self.enclaves.len() < MAX_ENCLAVES {
            return;
        }
        let away = self.enclaves.iter().filter(|(_, enclave)| enclave.streams.is_empty());
        if let Some(cid) = away.min_by_key(|(_, enclave)| enclave.used).map(|(cid, _)| *cid) {
            self.enclaves.remove(&cid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(enclaves: &mut Enclaves<u32>, cid: u32, role: Role) -> OpenStream {
        enclaves.open(Cid(cid), role, || Ok(cid)).unwrap().0
    }

    #[test]
    fn a_newer_stream_replaces_the_older_of_its_own_enclave() {
        let mut enclaves = Enclaves::default();
        let older = open(&mut enclaves, 16, Role::Data);
        let other = open(&mut enclaves, 17, Role::Data);
        let newer = open(&mut enclaves, 16, Role::Data);
        enclaves.close(Cid(16), &older);
        let current = |cid| enclaves.enclaves[&Cid(cid)].streams.data();
        assert_eq!((current(16), current(17)), (Some(&newer), Some(&other)));
    }

    #[test]
    fn what_an_enclave_has_outlives_its_streams() {
        let mut enclaves = Enclaves::default();
        let (stream, relay) = enclaves.open(Cid(16), Role::Data, || Ok(16)).unwrap();
        enclaves.close(Cid(16), &stream);
        let (_, again) = enclaves.open(Cid(16), Role::Data, || anyhow::bail!("made twice")).unwrap();
        assert!(Arc::ptr_eq(&relay, &again));
    }

    #[test]
    fn the_number_of_enclaves_is_bounded_and_the_one_away_the_longest_makes_room() {
        let mut enclaves = Enclaves::default();
        let opened: Vec<_> = (100..116).map(|cid| open(&mut enclaves, cid, Role::Control)).collect();
        let refused = enclaves.open(Cid(200), Role::Control, || Ok(200)).unwrap_err();
        assert_eq!(refused.to_string(), "refused: 16 enclaves are connected, the maximum");
        for at in [3, 2] {
            enclaves.close(Cid(100 + at), &opened[at as usize]);
        }
        open(&mut enclaves, 200, Role::Control);
        assert!(!enclaves.enclaves.contains_key(&Cid(102)) && enclaves.enclaves.contains_key(&Cid(103)));
    }
}
