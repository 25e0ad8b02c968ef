//! Which streams there are: an enclave has one of each role, and a newer one takes over. Decisions without I/O.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, ensure};
use tokio_util::sync::CancellationToken;
use tunnel::port::Cid;
use tunnel::preface::Role;

/// Nitro allows four enclaves per instance; the rest is for those that have gone and left a socket.
const MAX_ENCLAVES: usize = 16;

/// Every enclave that has, or lately had, a stream. `R` is what outlives its streams.
#[derive(Debug)]
pub(super) struct Streams<R> {
    enclaves: BTreeMap<Cid, Enclave<R>>,
    /// Grows with every stream.
    last: u64,
}

#[derive(Debug)]
struct Enclave<R> {
    relay: Arc<R>,
    data: Option<Current>,
    control: Option<Current>,
    /// The number of its latest stream.
    used: u64,
}

#[derive(Debug)]
struct Current {
    number: u64,
    replaced: CancellationToken,
}

/// A stream that may go on.
#[derive(Debug)]
pub(super) struct Opened<R> {
    number: u64,
    /// Cancelled when a newer stream takes over.
    pub(super) replaced: CancellationToken,
    pub(super) relay: Arc<R>,
}

impl<R> Default for Streams<R> {
    fn default() -> Self {
        Self { enclaves: BTreeMap::new(), last: 0 }
    }
}

impl<R> Streams<R> {
    /// Lets a stream in and ends the one that it replaces; `make` is asked for an enclave that is new.
    pub(super) fn open(&mut self, cid: Cid, role: Role, make: impl FnOnce() -> Result<R>) -> Result<Opened<R>> {
        if !self.enclaves.contains_key(&cid) {
            self.make_room();
            ensure!(
                self.enclaves.len() < MAX_ENCLAVES,
                "refused: {MAX_ENCLAVES} enclaves are connected, which is the most"
            );
            let relay = Arc::new(make()?);
            self.enclaves.insert(cid, Enclave { relay, data: None, control: None, used: 0 });
        }
        self.last += 1;
        let (number, replaced) = (self.last, CancellationToken::new());
        let enclave = self.enclaves.get_mut(&cid).expect("it was there, or has just been put there");
        enclave.used = number;
        let former = enclave.current(role).replace(Current { number, replaced: replaced.clone() });
        if let Some(former) = former {
            former.replaced.cancel();
        }
        Ok(Opened { number, replaced, relay: Arc::clone(&enclave.relay) })
    }

    /// A stream has ended. What outlives it stays until the room is needed.
    pub(super) fn close(&mut self, cid: Cid, role: Role, opened: &Opened<R>) {
        if let Some(enclave) = self.enclaves.get_mut(&cid) {
            enclave.current(role).take_if(|current| current.number == opened.number);
        }
    }

    /// Forgets who has been away the longest, if there is no room: nitro-cli may give every launch a new CID.
    fn make_room(&mut self) {
        if self.enclaves.len() < MAX_ENCLAVES {
            return;
        }
        let away = self.enclaves.iter().filter(|(_, enclave)| enclave.data.is_none() && enclave.control.is_none());
        if let Some(cid) = away.min_by_key(|(_, enclave)| enclave.used).map(|(cid, _)| *cid) {
            self.enclaves.remove(&cid);
        }
    }
}

impl<R> Enclave<R> {
    fn current(&mut self, role: Role) -> &mut Option<Current> {
        match role {
            Role::Data => &mut self.data,
            Role::Control => &mut self.control,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(streams: &mut Streams<u32>, cid: u32, role: Role) -> Opened<u32> {
        streams.open(Cid(cid), role, || Ok(cid)).unwrap()
    }

    #[test]
    fn a_newer_stream_replaces_the_older_of_its_enclave_and_role_only() {
        let mut streams = Streams::default();
        let data = open(&mut streams, 16, Role::Data);
        let control = open(&mut streams, 16, Role::Control);
        open(&mut streams, 17, Role::Data);
        assert!(!data.replaced.is_cancelled());
        open(&mut streams, 16, Role::Data);
        assert!(data.replaced.is_cancelled() && !control.replaced.is_cancelled());
    }

    #[test]
    fn the_end_of_a_replaced_stream_does_not_end_the_newer() {
        let mut streams = Streams::default();
        let older = open(&mut streams, 16, Role::Data);
        let newer = open(&mut streams, 16, Role::Data);
        streams.close(Cid(16), Role::Data, &older);
        open(&mut streams, 16, Role::Data);
        assert!(newer.replaced.is_cancelled());
    }

    #[test]
    fn what_an_enclave_has_outlives_its_streams() {
        let mut streams = Streams::default();
        let first = open(&mut streams, 16, Role::Data);
        streams.close(Cid(16), Role::Data, &first);
        let again = streams.open(Cid(16), Role::Data, || anyhow::bail!("made anew")).unwrap();
        assert!(Arc::ptr_eq(&first.relay, &again.relay));
    }

    #[test]
    fn the_number_of_enclaves_is_bounded_and_the_one_away_the_longest_makes_room() {
        let mut streams = Streams::default();
        let opened: Vec<_> = (100..116).map(|cid| open(&mut streams, cid, Role::Control)).collect();
        let refused = streams.open(Cid(200), Role::Control, || Ok(200)).unwrap_err();
        assert_eq!(refused.to_string(), "refused: 16 enclaves are connected, which is the most");
        for at in [3, 2] {
            streams.close(Cid(100 + at), Role::Control, &opened[at as usize]);
        }
        open(&mut streams, 200, Role::Control);
        assert!(!streams.enclaves.contains_key(&Cid(102)) && streams.enclaves.contains_key(&Cid(103)));
    }
}
