//! Compares the kernel's peers with the enclaves that have proved their keys, and reverts what another program changed.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use ipnet::IpNet;
use tunnel::control::PublicKey;

use super::{Gateway, State};
use crate::enclave_id::EnclaveId;
use crate::enclaves::Enclave;
use crate::interface::{Fingerprint, Peer, PeerChange};

/// A requested renewal takes no longer than this: the deadline of the answer, and one repeated handshake.
const RENEWAL: Duration = Duration::from_secs(20);
/// WireGuard replaces an older session when it sends anything (REJECT_AFTER_TIME, its paper, section 6.1), and it sends
/// keepalives.
const LONGEST_SESSION: Duration = Duration::from_secs(180);
/// For repeated handshakes, and an overloaded host.
const SLACK: Duration = Duration::from_mins(1);
/// A path that loses datagrams may also lose new handshakes: do not ask an enclave more often than this.
const RENEWAL_OF_STALE: Duration = Duration::from_mins(5);

/// A key that the kernel should have.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Expected {
    id: EnclaveId,
    public_key: PublicKey,
    /// Empty for a key that has had no handshake yet.
    addresses: Vec<IpAddr>,
    /// `None`: the kernel learns it from the enclave's datagrams.
    endpoint: Option<SocketAddr>,
    preshared_key: Option<Fingerprint>,
    /// In seconds; `None` for a key that has had no handshake yet.
    keepalive: Option<u16>,
    /// Whether new keys can be requested.
    renewal: Renewal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Renewal {
    /// They can be requested.
    Possible,
    /// The kernel already has the next key.
    UnderWay,
    /// The enclave has no control stream. It gets new keys when it reconnects.
    Away,
}

/// One repair of the kernel's peers.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Repair {
    /// The key is missing or does not work. Only the enclave can make another.
    Renew {
        id: EnclaveId,
        public_key: PublicKey,
        found: String,
        again_after: Duration,
    },
    Change(PeerChange, String),
}

/// A repair that was made, for the log and the status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Repaired {
    pub(crate) found: String,
    pub(crate) done: String,
}

/// When a renewal was requested for which key.
#[derive(Debug, Default)]
pub(crate) struct Renewals {
    asked: BTreeMap<[u8; 32], Instant>,
}

/// The result of one comparison.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    pub(crate) repaired: Vec<Repaired>,
    /// What only the enclave can repair.
    pub(crate) problems: Vec<String>,
}

impl Gateway {
    /// Restores the peers that have proved their keys, with their addresses, and removes all others.
    pub(crate) async fn settle_peers(&self, renewals: &mut Renewals, now: Instant) -> Result<Settled> {
        let mut state = self.shared.state.lock().await;
        let expected: Vec<Expected> = state.expected(self.keepalive());
        state.preshared_keys.retain(|key, _| expected.iter().any(|expected| expected.public_key.0 == *key));
        self.narrow_lists(&state).await?;
        let kernel = self.shared.interface.peers().await?;
        renewals.forget_all_but(&expected);
        let mut settled = Settled { problems: unmendable(&expected, &kernel), ..Settled::default() };
        for repair in repairs(&expected, &kernel, SystemTime::now()) {
            match repair {
                Repair::Renew { id, public_key, found, again_after } => {
                    let enclave = state.enclaves.entries().find(|(of, _)| *of == id);
                    let stream = enclave.and_then(|(_, enclave)| enclave.streams.control());
                    if let Some(stream) = stream.filter(|_| renewals.is_due(public_key, again_after, now)) {
                        stream.request_renewal();
                        settled.repaired.push(Repaired { found, done: "asked the enclave for new keys".to_owned() });
                    }
                }
                Repair::Change(change, found) => {
                    let done = described(&change);
                    self.tell(Some(change)).await?;
                    settled.repaired.push(Repaired { found, done });
                }
            }
        }
        self.settle_lists(&state).await?;
        Ok(settled)
    }
}

impl Renewals {
    fn is_due(&mut self, public_key: PublicKey, again_after: Duration, now: Instant) -> bool {
        let is_due = self.asked.get(&public_key.0).is_none_or(|asked| now.duration_since(*asked) >= again_after);
        if is_due {
            self.asked.insert(public_key.0, now);
        }
        is_due
    }

    fn forget_all_but(&mut self, expected: &[Expected]) {
        self.asked.retain(|key, _| expected.iter().any(|expected| expected.public_key.0 == *key));
    }
}

impl State {
    /// The keys that the kernel should have.
    fn expected(&self, keepalive: u16) -> Vec<Expected> {
        let keys = |(id, enclave): (EnclaveId, &Enclave)| {
            let key = |public_key: PublicKey, addresses, keepalive, renewal| Expected {
                id,
                public_key,
                addresses,
                endpoint: self.relays.get(&id).map(|relay| relay.endpoint()),
                preshared_key: self.preshared_keys.get(&public_key.0).copied(),
                keepalive,
                renewal,
            };
            let can = if enclave.streams.control().is_some() { Renewal::Possible } else { Renewal::Away };
            let of_peer = if enclave.candidate.is_some() { Renewal::UnderWay } else { can };
            let (peer, candidate) = (enclave.peer.as_ref(), enclave.candidate.as_ref());
            let peer = peer.map(|member| key(member.public_key, enclave.addresses.all(), Some(keepalive), of_peer));
            peer.into_iter().chain(candidate.map(|member| key(member.public_key, Vec::new(), None, can)))
        };
        self.enclaves.entries().flat_map(keys).collect()
    }
}

fn repairs(expected: &[Expected], kernel: &[Peer], now: SystemTime) -> Vec<Repair> {
    let mut repairs = Vec::new();
    for peer in kernel.iter().filter(|peer| !expected.iter().any(|it| it.public_key == peer.public_key)) {
        let found = format!("the peer {} with {}, which is not an enclave's", peer.public_key, list(&peer.allowed_ips));
        repairs.push(Repair::Change(PeerChange::Remove(peer.public_key), found));
    }
    for Expected { id, public_key, addresses, endpoint, preshared_key, keepalive, renewal } in expected {
        let renew = |found: String, again_after| {
            let is_possible = *renewal == Renewal::Possible;
            is_possible.then_some(Repair::Renew { id: *id, public_key: *public_key, found, again_after })
        };
        let Some(peer) = kernel.iter().find(|peer| peer.public_key == *public_key) else {
            repairs.extend(renew(format!("no peer {public_key}, the key of {id}"), RENEWAL));
            continue;
        };
        if preshared_key.is_some_and(|right| right != peer.preshared_key) {
            repairs.extend(renew(format!("a pre-shared key of {id} that it did not agree on"), RENEWAL));
        } else if let Some(age) = keepalive.and_then(|keepalive| too_old(peer, keepalive, now)) {
            let found = format!("no handshake with {id} for {} s, though it has a control stream", age.as_secs());
            repairs.extend(renew(found, RENEWAL_OF_STALE));
        }
        if let Some(keepalive) = keepalive.filter(|keepalive| peer.keepalive != *keepalive) {
            let found = format!("a persistent keepalive of {} s of {id} in place of {keepalive} s", peer.keepalive);
            repairs.push(Repair::Change(PeerChange::KeepAlive(*public_key), found));
        }
        let right: Vec<IpNet> = addresses.iter().copied().map(IpNet::from).collect();
        if right.len() != peer.allowed_ips.len() || right.iter().any(|net| !peer.allowed_ips.contains(net)) {
            let found = format!("the allowed IPs {} of {id}", list(&peer.allowed_ips));
            let change = PeerChange::Own { public_key: *public_key, addresses: addresses.clone() };
            repairs.push(Repair::Change(change, found));
        }
        if let Some(endpoint) = endpoint.filter(|endpoint| peer.endpoint != Some(*endpoint)) {
            let found = peer.endpoint.map_or_else(|| "none".to_owned(), |endpoint| endpoint.to_string());
            let change = PeerChange::Move { public_key: *public_key, endpoint };
            repairs.push(Repair::Change(change, format!("the endpoint {found} of {id}")));
        }
    }
    repairs
}

/// The age of the latest handshake, if it is older than any session that is kept alive.
fn too_old(peer: &Peer, keepalive: u16, now: SystemTime) -> Option<Duration> {
    // If the clock was set back, nothing is old.
    let age = now.duration_since(peer.latest_handshake?).ok()?;
    (age > LONGEST_SESSION + Duration::from_secs(keepalive.into()) + SLACK).then_some(age)
}

fn unmendable(expected: &[Expected], kernel: &[Peer]) -> Vec<String> {
    let is_missing =
        |it: &&Expected| it.renewal == Renewal::Away && !kernel.iter().any(|peer| peer.public_key == it.public_key);
    let problem = |Expected { id, public_key, .. }: &Expected| {
        format!(
            "the peer {public_key} of {id} was removed while the enclave has no control stream: it gets new keys as soon as \
             it connects; if it does not, look at its console"
        )
    };
    expected.iter().filter(is_missing).map(problem).collect()
}

fn described(change: &PeerChange) -> String {
    match change {
        PeerChange::Remove(_) => "removed it".to_owned(),
        PeerChange::Own { addresses, .. } => {
            let nets: Vec<IpNet> = addresses.iter().copied().map(IpNet::from).collect();
            format!("set {}", list(&nets))
        }
        PeerChange::Move { endpoint, .. } => format!("set {endpoint}"),
        PeerChange::KeepAlive(_) => "set the configured keepalive".to_owned(),
    }
}

fn list(nets: &[IpNet]) -> String {
    if nets.is_empty() {
        return "(none)".to_owned();
    }
    nets.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use tunnel::port::Cid;

    use super::*;

    const RELAY: &str = "127.0.0.1:40000";
    const SECRET: Fingerprint = Fingerprint::test(1);
    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn key(byte: u8) -> PublicKey {
        PublicKey([byte; 32])
    }

    fn expects(byte: u8, addresses: &[&str], renewal: Renewal) -> Expected {
        Expected {
            id: EnclaveId::here(Cid(16)),
            public_key: key(byte),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            endpoint: Some(RELAY.parse().unwrap()),
            preshared_key: Some(SECRET),
            keepalive: (!addresses.is_empty()).then_some(15),
            renewal,
        }
    }

    fn peer(byte: u8, allowed_ips: &[&str]) -> Peer {
        Peer {
            public_key: key(byte),
            endpoint: Some(RELAY.parse().unwrap()),
            allowed_ips: allowed_ips.iter().map(|net| net.parse().unwrap()).collect(),
            preshared_key: SECRET,
            keepalive: 15,
            latest_handshake: None,
            rx_bytes: 0,
            tx_bytes: 0,
        }
    }

    /// The changes alone.
    fn changes(expected: &[Expected], kernel: &[Peer]) -> Vec<PeerChange> {
        let change = |repair| match repair {
            Repair::Change(change, _) => Some(change),
            Repair::Renew { .. } => None,
        };
        repairs(expected, kernel, NOW).into_iter().filter_map(change).collect()
    }

    #[test]
    fn a_kernel_that_has_what_was_proved_is_left_alone() {
        let expected = [expects(1, &["203.0.113.2", "fd3b::2"], Renewal::UnderWay), expects(2, &[], Renewal::Possible)];
        let kernel = [peer(2, &[]), peer(1, &["fd3b::2/128", "203.0.113.2/32"])];
        assert_eq!(repairs(&expected, &kernel, NOW), []);
    }

    /// Why the one enclave is asked for new keys, and after which time again.
    fn renewal(expected: &[Expected], kernel: &[Peer], now: SystemTime) -> Option<(String, Duration)> {
        match repairs(expected, kernel, now).as_slice() {
            [] => None,
            [Repair::Renew { id, public_key, found, again_after }] => {
                assert_eq!((*id, *public_key), (EnclaveId::here(Cid(16)), key(1)));
                Some((found.clone(), *again_after))
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_key_that_is_gone_is_renewed_unless_that_is_under_way_or_cannot_be() {
        let possible = [expects(1, &["203.0.113.2"], Renewal::Possible)];
        let (found, again_after) = renewal(&possible, &[], NOW).unwrap();
        assert!(found.starts_with("no peer ") && again_after == RENEWAL, "{found}");
        let away = [expects(1, &["203.0.113.2"], Renewal::Away)];
        for expected in [&[expects(1, &["203.0.113.2"], Renewal::UnderWay)], &away] {
            assert_eq!(renewal(expected, &[], NOW), None);
        }
        assert!(unmendable(&away, &[])[0].contains("has no control stream"));
        assert_eq!(unmendable(&away, &[peer(1, &[])]), [] as [String; 0]);
    }

    #[test]
    fn a_peer_that_nobody_proved_is_removed() {
        assert_eq!(changes(&[], &[peer(9, &["0.0.0.0/0"])]), [PeerChange::Remove(key(9))]);
    }

    #[test]
    fn addresses_and_endpoints_that_somebody_changed_are_put_back() {
        let expected = [expects(1, &["203.0.113.2"], Renewal::Possible)];
        let own = PeerChange::Own { public_key: key(1), addresses: vec!["203.0.113.2".parse().unwrap()] };
        for wrong in [&[] as &[&str], &["203.0.113.3/32"], &["203.0.113.2/32", "0.0.0.0/0"], &["203.0.113.0/24"]] {
            assert_eq!(changes(&expected, &[peer(1, wrong)]), std::slice::from_ref(&own), "{wrong:?}");
        }
        let mut moved = peer(1, &["203.0.113.2/32"]);
        moved.endpoint = Some("192.0.2.1:1".parse().unwrap());
        let back = PeerChange::Move { public_key: key(1), endpoint: RELAY.parse().unwrap() };
        assert_eq!(changes(&expected, &[moved.clone()]), [back]);
        let elsewhere = [Expected { endpoint: None, ..expected[0].clone() }];
        assert_eq!(changes(&elsewhere, &[moved]), [], "an enclave elsewhere may move");
    }

    #[test]
    fn a_pre_shared_key_that_somebody_changed_is_renewed_as_it_cannot_be_put_back() {
        let changed = [Peer { preshared_key: Fingerprint::test(2), ..peer(1, &["203.0.113.2/32"]) }];
        let expected = |renewal| [expects(1, &["203.0.113.2"], renewal)];
        let (found, again_after) = renewal(&expected(Renewal::Possible), &changed, NOW).unwrap();
        assert!(found.starts_with("a pre-shared key of ") && again_after == RENEWAL, "{found}");
        assert_eq!(renewal(&expected(Renewal::UnderWay), &changed, NOW), None);
        assert_eq!(renewal(&expected(Renewal::Away), &changed, NOW), None, "it gets new keys with its next stream");
    }

    #[test]
    fn a_peer_without_a_handshake_for_longer_than_any_session_lasts_is_renewed_now_and_then() {
        let kernel = [Peer { latest_handshake: Some(NOW), ..peer(1, &["203.0.113.2/32"]) }];
        let expected = |renewal| [expects(1, &["203.0.113.2"], renewal)];
        let at = |seconds| NOW + Duration::from_secs(seconds);
        assert_eq!(renewal(&expected(Renewal::Possible), &kernel, at(180 + 15 + 60)), None);
        let (found, again_after) = renewal(&expected(Renewal::Possible), &kernel, at(256)).unwrap();
        assert!(found.starts_with("no handshake with ") && again_after == RENEWAL_OF_STALE, "{found}");
        assert_eq!(renewal(&expected(Renewal::UnderWay), &kernel, at(256)), None);
        let later = [Peer { latest_handshake: Some(at(300)), ..kernel[0].clone() }];
        assert_eq!(renewal(&expected(Renewal::Possible), &later, at(256)), None, "the clock was set back");
    }

    #[test]
    fn a_keepalive_that_somebody_changed_is_put_back_and_a_new_key_has_none() {
        let off = |addresses| Peer { keepalive: 0, ..peer(1, addresses) };
        let back = [PeerChange::KeepAlive(key(1))];
        assert_eq!(changes(&[expects(1, &["203.0.113.2"], Renewal::Possible)], &[off(&["203.0.113.2/32"])]), back);
        assert_eq!(changes(&[expects(1, &[], Renewal::Possible)], &[off(&[])]), []);
    }

    #[test]
    fn a_renewal_is_asked_for_once_and_again_when_it_did_not_come() {
        let (mut renewals, start) = (Renewals::default(), Instant::now());
        assert!(renewals.is_due(key(1), RENEWAL, start));
        assert!(!renewals.is_due(key(1), RENEWAL, start + Duration::from_secs(3)));
        assert!(renewals.is_due(key(2), RENEWAL, start + Duration::from_secs(3)));
        assert!(renewals.is_due(key(1), RENEWAL, start + RENEWAL));
        assert!(!renewals.is_due(key(1), RENEWAL_OF_STALE, start + RENEWAL * 2));
        renewals.forget_all_but(&[expects(2, &[], Renewal::Possible)]);
        assert_eq!(renewals.asked.len(), 1);
    }
}
