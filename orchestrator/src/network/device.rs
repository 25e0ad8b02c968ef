//! wg0's keys and peer.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::{Context, Result};
use ipnet::IpNet;
use tunnel::control::PublicKey;
use tunnel::preshared::PresharedKey;
use wireguard::device::{self, PeerUpdate, PrivateKey, Update};
use zeroize::Zeroizing;

use super::{RELAY_ADDR, WG0, WIREGUARD_ADDR};
use crate::{show, sys};

/// wg0 as the kernel knows it; its private key is there and nowhere else.
pub(crate) struct Device(());

/// A Curve25519 key pair for wg0.
pub(crate) struct KeyPair {
    pub(crate) public: PublicKey,
    secret: PrivateKey,
}

/// wg0's peer.
pub(crate) struct Session {
    pub(crate) gateway: PublicKey,
    pub(crate) preshared_key: PresharedKey,
    pub(crate) keepalive: Duration,
    /// The gateway is wg0's peer already, and gets new keys only: what it still sends under the old ones is read.
    pub(crate) is_same_peer: bool,
}

impl KeyPair {
    /// A new pair from the kernel's generator, which the NSM has seeded.
    pub(crate) fn generate() -> Result<Self> {
        let mut random = Zeroizing::new([0; 32]);
        sys::random(&mut *random).context("random bytes for wg0's key")?;
        let secret = PrivateKey::from_random(*random);
        Ok(Self { public: secret.public_key(), secret })
    }
}

impl Device {
    /// Creates wg0 in this thread's network namespace, without a key and without a peer.
    pub(super) fn create() -> Result<Self> {
        Update::new().listen_port(WIREGUARD_ADDR.port()).apply(WG0).context("create wg0")?;
        Ok(Self(()))
    }

    /// Switches to the keys, with the gateway as the only peer, and sends at once.
    pub(crate) fn start(&self, keys: &KeyPair, session: &Session) -> Result<()> {
        let everywhere =
            [IpNet::new_assert(Ipv4Addr::UNSPECIFIED.into(), 0), IpNet::new_assert(Ipv6Addr::UNSPECIFIED.into(), 0)];
        let peer = everywhere
            .into_iter()
            .fold(PeerUpdate::new(session.gateway), PeerUpdate::allowed_ip)
            .endpoint(RELAY_ADDR)
            .preshared_key(&session.preshared_key)
            // Zero, so that the keepalive below is a change from zero, which makes the kernel send.
            .keepalive(0);
        let update = Update::new().private_key(&keys.secret);
        let update = if session.is_same_peer { update } else { update.replace_peers() };
        update.peer(peer).apply(WG0).context("wg0: set the keys and the peer")?;
        let seconds = u16::try_from(session.keepalive.as_secs()).context("the keepalive of wg0's peer")?;
        let peer = PeerUpdate::new(session.gateway).keepalive(seconds);
        Update::new().peer(peer).apply(WG0).context("wg0: set the peer's keepalive")
    }

    /// What wg(8) would show.
    pub(crate) fn snapshot(&self) -> Result<show::Interface> {
        let state = device::state(WG0).context("wg0: read its state")?;
        Ok(show::Interface {
            name: WG0.into(),
            public_key: state.public_key,
            has_private_key: state.has_private_key,
            listening_port: state.listen_port,
            fwmark: state.fwmark,
            peers: state.peers.into_iter().map(show::Peer::from).collect(),
        })
    }

    /// Removes wg0, and with it the kernel's copy of the key.
    pub(crate) fn delete(&self) -> io::Result<()> {
        device::delete(WG0)
    }
}

impl From<device::Peer> for show::Peer {
    fn from(peer: device::Peer) -> Self {
        Self {
            public_key: peer.public_key,
            has_preshared_key: peer.preshared_key.is_some(),
            endpoint: peer.endpoint,
            allowed_ips: peer.allowed_ips,
            latest_handshake: peer.latest_handshake,
            received: peer.rx_bytes,
            sent: peer.tx_bytes,
            persistent_keepalive: peer.keepalive,
        }
    }
}
