//! Watches wg0 for what belongs on the console: the first handshake, and changes of its state.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use tunnel::control::PublicKey;

use crate::show::Interface;

/// WireGuard gives up a session of this age (REJECT_AFTER_TIME, its paper, section 6.1); with a keepalive it would
/// have been renewed after 120 s.
const STALE: Duration = Duration::from_secs(180);

/// What makes a new state for an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    public_key: Option<PublicKey>,
    peers: Vec<(PublicKey, Option<SocketAddr>, Handshake)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handshake {
    None,
    Fresh,
    Stale,
}

/// What a look at wg0 found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    Nothing,
    /// For the first time since power-on.
    FirstHandshake,
    /// Another key of wg0, another peer or endpoint, a handshake that became stale, or fresh again.
    Changed,
}

/// The last state seen.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    last: Option<State>,
    had_handshake: bool,
}

impl Watch {
    /// How often to look: often until the first handshake, because its time is logged.
    pub(crate) const fn interval(&self) -> Duration {
        if self.had_handshake { Duration::from_secs(1) } else { Duration::from_millis(25) }
    }

    /// Whether there was a handshake since power-on.
    pub(crate) const fn had_handshake(&self) -> bool {
        self.had_handshake
    }

    /// Compares wg0 with what it was.
    pub(crate) fn look(&mut self, interface: &Interface, now: SystemTime) -> News {
        let state = State {
            public_key: interface.public_key,
            peers: interface
                .peers
                .iter()
                .map(|peer| (peer.public_key, peer.endpoint, handshake(peer.latest_handshake, now)))
                .collect(),
        };
        let is_fresh = state.peers.iter().any(|(_, _, handshake)| *handshake == Handshake::Fresh);
        let is_first = is_fresh && !self.had_handshake;
        self.had_handshake |= is_fresh;
        let changed = self.last.as_ref() != Some(&state);
        // Without a peer yet there is nothing to show.
        let is_worth_it = changed && (self.last.is_some() || !state.peers.is_empty());
        if is_worth_it {
            self.last = Some(state);
        }
        match (is_first, is_worth_it) {
            (true, _) => News::FirstHandshake,
            (false, true) => News::Changed,
            (false, false) => News::Nothing,
        }
    }
}

fn handshake(latest: Option<SystemTime>, now: SystemTime) -> Handshake {
    match latest {
        None => Handshake::None,
        // The clock was slewed after a handshake that is in the future.
        Some(latest) if now.duration_since(latest).unwrap_or(Duration::ZERO) < STALE => Handshake::Fresh,
        Some(_) => Handshake::Stale,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::Peer;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn wg0(handshake: Option<SystemTime>, key: u8) -> Interface {
        Interface {
            name: "wg0".into(),
            public_key: None,
            has_private_key: true,
            listening_port: Some(51_820),
            fwmark: None,
            peers: vec![Peer {
                public_key: PublicKey([key; 32]),
                has_preshared_key: false,
                endpoint: None,
                allowed_ips: vec![],
                latest_handshake: handshake,
                received: 0,
                sent: 0,
                persistent_keepalive: None,
            }],
        }
    }

    #[test]
    fn each_change_is_news_once() {
        let mut watch = Watch::default();
        let no_peer = Interface { peers: vec![], ..wg0(None, 1) };
        assert_eq!(watch.look(&no_peer, at(1000)), News::Nothing);
        assert_eq!(watch.look(&wg0(None, 1), at(1000)), News::Changed);
        assert_eq!(watch.look(&wg0(None, 1), at(1000)), News::Nothing);
        assert_eq!(watch.look(&wg0(Some(at(1000)), 1), at(1000)), News::FirstHandshake);
        assert_eq!(watch.look(&wg0(Some(at(1100)), 1), at(1150)), News::Nothing, "a renewal is not a change");
        assert_eq!(watch.look(&wg0(Some(at(1100)), 1), at(1280)), News::Changed, "stale");
        assert_eq!(watch.look(&wg0(Some(at(1300)), 1), at(1300)), News::Changed, "fresh again, not the first");
        assert_eq!(watch.look(&wg0(Some(at(1300)), 2), at(1300)), News::Changed, "another key");
        let renewed = Interface { public_key: Some(PublicKey([9; 32])), ..wg0(Some(at(1300)), 2) };
        assert_eq!(watch.look(&renewed, at(1300)), News::Changed, "another key of its own");
        assert_eq!(watch.look(&renewed, at(1300)), News::Nothing);
        assert_eq!(watch.look(&no_peer, at(1300)), News::Changed, "no peer any more");
    }

    #[test]
    fn a_handshake_from_before_the_clock_was_slewed_is_fresh() {
        assert_eq!(handshake(Some(at(10)), at(9)), Handshake::Fresh);
    }

    #[test]
    fn wg0_is_looked_at_often_only_until_the_first_handshake() {
        let mut watch = Watch::default();
        assert!(watch.interval() < Duration::from_millis(100));
        watch.look(&wg0(Some(at(1)), 1), at(1));
        assert_eq!(watch.interval(), Duration::from_secs(1));
    }
}
