//! Which enclave is connected, which is a peer, and what the kernel has to be told: decisions without I/O.
//!
//! An enclave is known by its CID, which the hypervisor vouches for. It has at most one control and one data stream; a newer
//! one replaces the older. The answer on its control stream makes it a peer. When the control stream ends, the peer stays for
//! a grace period, so that a reconnect finds its session as it was.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use ipnet::IpNet;
use thiserror::Error;
use tunnel::control::PublicKey;
use tunnel::port::Cid;
use tunnel::preface::Role;

use crate::config::Ranges;
use crate::interface::PeerChange;
use crate::lease::Leases;

/// How long a peer outlives its control stream; an enclave's reconnect takes at most 5 s and a handshake's deadline.
pub(crate) const GRACE: Duration = Duration::from_secs(30);
/// The same for peers of a wg-server that was killed: their enclaves have been without a gateway already.
pub(crate) const ADOPTED_GRACE: Duration = Duration::from_secs(120);
/// Nitro allows four enclaves per instance; what goes beyond that is a fault.
const MAX_ENCLAVES: usize = 64;

/// One accepted stream, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StreamId(u64);

/// An enclave's addresses in the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Addresses {
    pub(crate) ipv4: Option<Ipv4Addr>,
    pub(crate) ipv6: Option<Ipv6Addr>,
}

/// A stream that may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Admission {
    pub(crate) stream: StreamId,
    pub(crate) addresses: Addresses,
    /// The older stream of the same role, which has to end.
    pub(crate) replaces: Option<StreamId>,
}

/// Why an enclave is not served. The text goes to the enclave.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum Refusal {
    #[error("{MAX_ENCLAVES} enclaves are connected, which is the most")]
    Full,
    #[error("every address of the ranges is in use")]
    NoAddress,
    #[error("CID {0} is not an enclave's")]
    NotAnEnclave(Cid),
    #[error("the public key is all zero")]
    ZeroKey,
    #[error("the public key is the gateway's own")]
    OwnKey,
    #[error("the public key is that of another enclave")]
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
    entries: BTreeMap<Cid, Enclave>,
    last_stream: u64,
}

/// One of them.
#[derive(Clone, Debug)]
pub(crate) struct Enclave {
    pub(crate) addresses: Addresses,
    pub(crate) peer: Option<PublicKey>,
    pub(crate) control: Option<StreamId>,
    pub(crate) data: Option<StreamId>,
    pub(crate) connected_since: Option<SystemTime>,
    remove_at: Option<Instant>,
}

impl Addresses {
    pub(crate) fn all(self) -> Vec<IpAddr> {
        self.ipv4.map(IpAddr::V4).into_iter().chain(self.ipv6.map(IpAddr::V6)).collect()
    }
}

impl Enclave {
    pub(crate) fn phase(&self) -> Phase {
        match (self.peer, self.control) {
            (None, _) => Phase::Connecting,
            (Some(_), Some(_)) => Phase::Peer,
            (Some(_), None) => Phase::Away,
        }
    }

    fn stream(&mut self, role: Role) -> &mut Option<StreamId> {
        match role {
            Role::Data => &mut self.data,
            Role::Control => &mut self.control,
        }
    }

    fn is_unused(&self) -> bool {
        self.peer.is_none() && self.control.is_none() && self.data.is_none()
    }
}

impl Enclaves {
    pub(crate) fn new(own_key: PublicKey, ranges: Ranges, leases: Leases) -> Self {
        Self { own_key, ranges, leases, entries: BTreeMap::new(), last_stream: 0 }
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (Cid, &Enclave)> {
        self.entries.iter().map(|(cid, enclave)| (*cid, enclave))
    }

    pub(crate) fn contains(&self, cid: Cid) -> bool {
        self.entries.contains_key(&cid)
    }

    pub(crate) fn leases(&self) -> &Leases {
        &self.leases
    }

    /// An enclave has connected and said what for.
    pub(crate) fn opened(&mut self, cid: Cid, role: Role, now: SystemTime) -> Result<Admission, Refusal> {
        // 0 hypervisor, 1 this host through vsock's loopback, 2 host, 3 this host: any local user could connect from there.
        if cid <= Cid::PARENT || cid == Cid(u32::MAX) {
            return Err(Refusal::NotAnEnclave(cid));
        }
        if !self.entries.contains_key(&cid) && self.entries.len() >= MAX_ENCLAVES {
            return Err(Refusal::Full);
        }
        let Self { entries, leases, .. } = self;
        let place = leases.place(cid, |other| entries.contains_key(&other)).ok_or(Refusal::NoAddress)?;
        let addresses = addresses_at(&self.ranges, place);
        self.last_stream += 1;
        let stream = StreamId(self.last_stream);
        let enclave = self.entries.entry(cid).or_insert_with(|| Enclave::new(addresses));
        let replaces = enclave.stream(role).replace(stream);
        if role == Role::Control {
            enclave.connected_since = Some(now);
        }
        Ok(Admission { stream, addresses, replaces })
    }

    /// The enclave has answered with its key: what the kernel has to be told, in this order.
    pub(crate) fn answered(
        &mut self,
        cid: Cid,
        stream: StreamId,
        public_key: PublicKey,
        endpoint: SocketAddr,
    ) -> Result<Vec<PeerChange>, Refusal> {
        if public_key.0 == [0; 32] {
            return Err(Refusal::ZeroKey);
        }
        if public_key == self.own_key {
            return Err(Refusal::OwnKey);
        }
        // The kernel knows a peer by its key: the other enclave would lose its addresses to this one.
        if self.entries.iter().any(|(other, enclave)| *other != cid && enclave.peer == Some(public_key)) {
            return Err(Refusal::KeyTaken);
        }
        let enclave = self.entries.get_mut(&cid).filter(|enclave| enclave.control == Some(stream));
        let enclave = enclave.ok_or(Refusal::Replaced)?;
        enclave.remove_at = None;
        let former = enclave.peer.replace(public_key).filter(|former| *former != public_key);
        let set = PeerChange::Set { public_key, addresses: enclave.addresses.all(), endpoint };
        Ok(former.map(PeerChange::Remove).into_iter().chain([set]).collect())
    }

    /// A stream has ended; an enclave that has nothing left is forgotten.
    pub(crate) fn closed(&mut self, cid: Cid, role: Role, stream: StreamId, now: Instant) {
        let Some(enclave) = self.entries.get_mut(&cid) else { return };
        let current = enclave.stream(role);
        if *current != Some(stream) {
            return;
        }
        *current = None;
        if role == Role::Control {
            enclave.connected_since = None;
            enclave.remove_at = enclave.peer.map(|_| now + GRACE);
        }
        if enclave.is_unused() {
            self.entries.remove(&cid);
        }
    }

    /// Peers whose grace period is over.
    pub(crate) fn expired(&mut self, now: Instant) -> Vec<PeerChange> {
        let mut changes = Vec::new();
        self.entries.retain(|_, enclave| {
            if enclave.remove_at.is_some_and(|at| at <= now) {
                enclave.remove_at = None;
                changes.extend(enclave.peer.take().map(PeerChange::Remove));
            }
            !enclave.is_unused()
        });
        changes
    }

    /// Takes over a peer of a wg-server that was killed: its CID, or `None` if it belongs to nobody and has to go.
    pub(crate) fn adopt(&mut self, public_key: PublicKey, allowed_ips: &[IpNet], now: Instant) -> Option<Cid> {
        let cid = (0..self.ranges.len()).find_map(|place| {
            let addresses = addresses_at(&self.ranges, place);
            let expected: Vec<IpNet> = addresses.all().into_iter().map(IpNet::from).collect();
            let is_same = expected.len() == allowed_ips.len() && expected.iter().all(|net| allowed_ips.contains(net));
            if is_same { self.leases.holder(place).map(|cid| (cid, addresses)) } else { None }
        });
        let (cid, addresses) = cid?;
        if self.entries.contains_key(&cid) || self.entries.len() >= MAX_ENCLAVES {
            return None;
        }
        let remove_at = Some(now + ADOPTED_GRACE);
        self.entries.insert(cid, Enclave { peer: Some(public_key), remove_at, ..Enclave::new(addresses) });
        Some(cid)
    }
}

impl Enclave {
    fn new(addresses: Addresses) -> Self {
        Self { addresses, peer: None, control: None, data: None, connected_since: None, remove_at: None }
    }
}

fn addresses_at(ranges: &Ranges, place: u16) -> Addresses {
    Addresses { ipv4: ranges.ipv4_at(place), ipv6: ranges.ipv6_at(place) }
}

#[cfg(test)]
mod tests;
