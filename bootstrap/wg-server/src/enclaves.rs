//! Which enclaves are connected, which are peers, and what the kernel must change. Decisions without I/O.
//!
//! An enclave is identified by its CID, which the hypervisor guarantees, or by its parent's address and its CID on that parent.
//! A verified answer on its control stream makes its key a candidate: a peer of the kernel's without addresses. The first handshake with that key makes it the peer, and moves the addresses to it from the key before. When the
//! control stream ends, the peer stays for a grace period, so that a reconnect finds its session as it was.
//!
//! Deadlines only ever come closer. A proof is good for the keys' lifetime and a grace period; a stream that opens, closes or
//! brings an answer changes nothing about that. Only the first handshake with a key that was proved later does.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ipnet::IpNet;
use thiserror::Error;
use tunnel::control::PublicKey;
use tunnel::port::Cid;
use tunnel::preface::Role;

use crate::admission::Attested;
use crate::config::Ranges;
use crate::enclave_id::{EnclaveId, is_enclave};
use crate::interface::PeerChange;
use crate::lease::Leases;
use crate::streams::{OpenStream, Streams};

/// How long a peer outlives its control stream; an enclave's reconnect takes at most 5 s and a handshake's deadline.
pub(crate) const GRACE: Duration = Duration::from_secs(30);
/// The same for peers of a wg-server that was killed: their enclaves have been without a gateway already.
pub(crate) const ADOPTED_GRACE: Duration = Duration::from_secs(120);
/// How long the peer stays when the enclave could not prove its next keys: WireGuard itself ends a session at this age
/// (REJECT_AFTER_TIME, its paper, section 6.1).
pub(crate) const REFUSED_GRACE: Duration = Duration::from_secs(180);
/// How long a proof is good beyond the keys' lifetime: for the exchange that replaces them, and its handshake.
pub(crate) const PROOF_GRACE: Duration = REFUSED_GRACE;
/// Nitro allows four enclaves per instance. More than that indicates a fault.
const MAX_ENCLAVES: usize = 64;

/// An enclave's addresses in the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Addresses {
    pub(crate) ipv4: Option<Ipv4Addr>,
    pub(crate) ipv6: Option<Ipv6Addr>,
}

/// Why the gateway does not serve an enclave. The text is sent to the enclave.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum Refusal {
    #[error("{MAX_ENCLAVES} enclaves are connected, the maximum")]
    Full,
    #[error("every address of the ranges is in use")]
    NoAddress,
    #[error("CID {0} is not an enclave's")]
    NotAnEnclave(Cid),
    #[error("the public key is all zero")]
    ZeroKey,
    #[error("the public key is the gateway's own")]
    OwnKey,
    #[error("the public key is in use already")]
    KeyTaken,
    #[error("a newer control stream has taken over")]
    Replaced,
}

/// How far an enclave has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Connected, not yet a peer.
    Connecting,
    /// A peer with a control stream.
    Peer,
    /// A peer whose control stream is gone, to be removed soon.
    Away,
}

/// Every enclave that is connected or a peer.
#[derive(Debug)]
pub(crate) struct Enclaves {
    own_key: PublicKey,
    ranges: Ranges,
    leases: Leases,
    /// How long a proof is good.
    proof_lifetime: Duration,
    entries: BTreeMap<EnclaveId, Enclave>,
}

/// One of them.
#[derive(Clone, Debug)]
pub(crate) struct Enclave {
    pub(crate) addresses: Addresses,
    pub(crate) peer: Option<Member>,
    /// The next peer, which has not had a handshake yet.
    pub(crate) candidate: Option<Member>,
    pub(crate) streams: Streams,
    pub(crate) connected_since: Option<SystemTime>,
    /// How often it opened its control stream.
    pub(crate) connections: u64,
    /// When the peer is removed, if that is before its proof expires.
    remove_at: Option<Instant>,
    /// The last document was refused. The peer stays until its session expires.
    is_refused: bool,
}

/// A key and what its enclave proved.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) public_key: PublicKey,
    /// `None` if an earlier wg-server verified the document.
    pub(crate) attested: Option<Arc<Attested>>,
    /// When the proof expires. Never changed.
    good_until: Instant,
}

/// A key to remove from the kernel, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expired {
    pub(crate) id: EnclaveId,
    pub(crate) public_key: PublicKey,
    pub(crate) reason: &'static str,
}

impl Addresses {
    pub(crate) fn all(self) -> Vec<IpAddr> {
        self.ipv4.map(IpAddr::V4).into_iter().chain(self.ipv6.map(IpAddr::V6)).collect()
    }
}

impl Enclave {
    pub(crate) fn phase(&self) -> Phase {
        match (&self.peer, self.streams.control()) {
            (None, _) => Phase::Connecting,
            (Some(_), Some(_)) => Phase::Peer,
            (Some(_), None) => Phase::Away,
        }
    }

    fn is_unused(&self) -> bool {
        self.peer.is_none() && self.streams.is_empty()
    }

    fn has_key(&self, public_key: PublicKey) -> bool {
        [&self.peer, &self.candidate].into_iter().flatten().any(|member| member.public_key == public_key)
    }
}

impl Enclaves {
    pub(crate) fn new(own_key: PublicKey, ranges: Ranges, leases: Leases, key_lifetime: Duration) -> Self {
        let proof_lifetime = key_lifetime + PROOF_GRACE;
        Self { own_key, ranges, leases, proof_lifetime, entries: BTreeMap::new() }
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (EnclaveId, &Enclave)> {
        self.entries.iter().map(|(id, enclave)| (*id, enclave))
    }

    pub(crate) fn contains(&self, id: EnclaveId) -> bool {
        self.entries.contains_key(&id)
    }

    pub(crate) fn leases(&self) -> &Leases {
        &self.leases
    }

    /// How old the proof of each peer's key is.
    pub(crate) fn proofs(&self, now: Instant) -> impl Iterator<Item = (PublicKey, Duration)> {
        let peers = self.entries.values().filter_map(|enclave| enclave.peer.as_ref());
        peers.map(move |peer| {
            (peer.public_key, self.proof_lifetime.saturating_sub(peer.good_until.saturating_duration_since(now)))
        })
    }

    /// An enclave has connected: opens its stream, and leases addresses to an enclave that is new.
    pub(crate) fn opened(
        &mut self,
        id: EnclaveId,
        role: Role,
        now: SystemTime,
    ) -> Result<(OpenStream, Addresses), Refusal> {
        if !is_enclave(id.cid) {
            return Err(Refusal::NotAnEnclave(id.cid));
        }
        if !self.entries.contains_key(&id) && self.entries.len() >= MAX_ENCLAVES {
            return Err(Refusal::Full);
        }
        let Self { entries, leases, .. } = self;
        let place = leases.place(id, |other| entries.contains_key(&other)).ok_or(Refusal::NoAddress)?;
        let addresses = addresses_at(&self.ranges, place);
        let enclave = self.entries.entry(id).or_insert_with(|| Enclave::new(addresses));
        if role == Role::Control {
            enclave.connected_since = Some(now);
            enclave.connections += 1;
        }
        Ok((enclave.streams.open(role), addresses))
    }

    /// The enclave has proved a key, which becomes the candidate. Returns the removal of the candidate before it.
    pub(crate) fn answered(
        &mut self,
        id: EnclaveId,
        stream: &OpenStream,
        attested: Arc<Attested>,
        now: Instant,
    ) -> Result<Option<PeerChange>, Refusal> {
        let public_key = attested.binding.public_key;
        if public_key.0 == [0; 32] {
            return Err(Refusal::ZeroKey);
        }
        if public_key == self.own_key {
            return Err(Refusal::OwnKey);
        }
        // The kernel identifies a peer by its key: another enclave with the same key would take over its addresses.
        if self.entries.values().any(|enclave| enclave.has_key(public_key)) {
            return Err(Refusal::KeyTaken);
        }
        let enclave = self.entries.get_mut(&id).filter(|enclave| enclave.streams.control() == Some(stream));
        let enclave = enclave.ok_or(Refusal::Replaced)?;
        let good_until = now + self.proof_lifetime;
        let former = enclave.candidate.replace(Member { public_key, attested: Some(attested), good_until });
        Ok(former.map(|former| PeerChange::Remove(former.public_key)))
    }

    /// The candidate had a handshake. Returns the changes for the kernel, in order: none if it is not the candidate any more.
    pub(crate) fn confirmed(&mut self, id: EnclaveId, public_key: PublicKey) -> Vec<PeerChange> {
        let Some(enclave) = self.entries.get_mut(&id) else { return Vec::new() };
        let Some(member) = enclave.candidate.take_if(|candidate| candidate.public_key == public_key) else {
            return Vec::new();
        };
        let own = PeerChange::Own { public_key, addresses: enclave.addresses.all() };
        (enclave.remove_at, enclave.is_refused) = (None, false);
        let former = enclave.peer.replace(member).map(|former| PeerChange::Remove(former.public_key));
        std::iter::once(own).chain(former).collect()
    }

    /// The enclave could not prove its next keys. The present ones stay until their session expires.
    pub(crate) fn refused(&mut self, id: EnclaveId, stream: &OpenStream, now: Instant) {
        let enclave = self.entries.get_mut(&id).filter(|enclave| enclave.streams.control() == Some(stream));
        let Some(enclave) = enclave else { return };
        if enclave.peer.is_some() && !enclave.is_refused {
            enclave.remove_by(now + REFUSED_GRACE);
            enclave.is_refused = true;
        }
    }

    /// A stream has ended. Forgets an enclave that has neither streams nor keys. A candidate is removed with the control stream
    /// that proved it: on the next one the enclave has other keys.
    pub(crate) fn closed(&mut self, id: EnclaveId, stream: &OpenStream, now: Instant) -> Option<PeerChange> {
        let enclave = self.entries.get_mut(&id)?;
        if !enclave.streams.close(stream) {
            return None;
        }
        let mut change = None;
        if stream.role() == Role::Control {
            enclave.connected_since = None;
            change = enclave.candidate.take().map(|candidate| PeerChange::Remove(candidate.public_key));
            if enclave.peer.is_some() && !enclave.is_refused {
                enclave.remove_by(now + GRACE);
            }
        }
        if enclave.is_unused() {
            self.entries.remove(&id);
        }
        change
    }

    /// Removes the keys that have expired.
    pub(crate) fn expired(&mut self, now: Instant) -> Vec<Expired> {
        let mut expired = Vec::new();
        self.entries.retain(|id, enclave| {
            let mut forget = |member: Option<Member>, reason| {
                expired.extend(member.map(|Member { public_key, .. }| Expired { id: *id, public_key, reason }));
            };
            let is_too_old = |member: &mut Member| member.good_until <= now;
            forget(enclave.candidate.take_if(is_too_old), "no handshake before the proof expired");
            forget(enclave.peer.take_if(is_too_old), "no new proof before the old one expired");
            if enclave.remove_at.is_some_and(|at| at <= now) {
                let reason = if enclave.is_refused { "its proof was refused" } else { "it did not reconnect" };
                forget(enclave.peer.take(), reason);
            }
            if enclave.peer.is_none() {
                (enclave.remove_at, enclave.is_refused) = (None, false);
            }
            !enclave.is_unused()
        });
        expired
    }

    /// Takes over a peer from a wg-server that was killed. Returns its enclave, or `None` if the peer must be removed: no enclave
    /// has its addresses, or its proof has expired. `proof_age` is `None` if it is not known.
    pub(crate) fn adopt(
        &mut self,
        public_key: PublicKey,
        allowed_ips: &[IpNet],
        proof_age: Option<Duration>,
        now: Instant,
    ) -> Option<EnclaveId> {
        let found = (0..self.ranges.len()).find_map(|place| {
            let addresses = addresses_at(&self.ranges, place);
            let expected: Vec<IpNet> = addresses.all().into_iter().map(IpNet::from).collect();
            let is_same = expected.len() == allowed_ips.len() && expected.iter().all(|net| allowed_ips.contains(net));
            if is_same { self.leases.holder(place).map(|id| (id, addresses)) } else { None }
        });
        let (id, addresses) = found?;
        let left = proof_age.map_or(ADOPTED_GRACE, |age| self.proof_lifetime.saturating_sub(age));
        if left.is_zero() || self.entries.contains_key(&id) || self.entries.len() >= MAX_ENCLAVES {
            return None;
        }
        let remove_at = Some(now + ADOPTED_GRACE);
        let peer = Some(Member { public_key, attested: None, good_until: now + left });
        self.entries.insert(id, Enclave { peer, remove_at, ..Enclave::new(addresses) });
        Some(id)
    }
}

impl Enclave {
    fn new(addresses: Addresses) -> Self {
        Self {
            addresses,
            peer: None,
            candidate: None,
            streams: Streams::default(),
            connected_since: None,
            connections: 0,
            remove_at: None,
            is_refused: false,
        }
    }

    /// An earlier end stays.
    fn remove_by(&mut self, end: Instant) {
        self.remove_at = Some(self.remove_at.map_or(end, |due| due.min(end)));
    }
}

fn addresses_at(ranges: &Ranges, place: u16) -> Addresses {
    Addresses { ipv4: ranges.ipv4_at(place), ipv6: ranges.ipv6_at(place) }
}

#[cfg(test)]
mod tests;
