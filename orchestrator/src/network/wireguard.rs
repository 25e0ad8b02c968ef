//! wg0's keys and peer. The only file that handles its private key, and the only one that calls `wireguard-control`.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use tunnel::control::PublicKey;
use tunnel::preshared::PresharedKey;
use wireguard_control::{Backend, DeviceUpdate, InterfaceName, Key, PeerConfigBuilder};
use zeroize::{Zeroize, Zeroizing};

use super::{RELAY_ADDR, WG0, WIREGUARD_ADDR};
use crate::{show, sys};

/// wg0 as the kernel knows it; its private key is there and nowhere else.
pub(crate) struct Device {
    name: InterfaceName,
}

/// A Curve25519 key pair for wg0.
pub(crate) struct KeyPair {
    pub(crate) public: PublicKey,
    secret: Zeroizing<[u8; 32]>,
}

/// With whom wg0 speaks.
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
        let mut secret = Zeroizing::new([0; 32]);
        sys::random(&mut *secret).context("random bytes for wg0's key")?;
        clamp(&mut secret);
        // `Key` is neither zeroed nor silent: it lives in this block, and is never formatted.
        let mut key = Key(*secret);
        let public = PublicKey(key.get_public().0);
        key.0.zeroize();
        Ok(Self { public, secret })
    }
}

impl Device {
    /// Creates wg0 in this thread's network namespace, without a key and without a peer.
    pub(super) fn create() -> Result<Self> {
        let name: InterfaceName = WG0.parse().context("the name wg0")?;
        let update = DeviceUpdate::new().set_listen_port(WIREGUARD_ADDR.port());
        update.apply(&name, Backend::Kernel).context("create wg0")?;
        Ok(Self { name })
    }

    /// Takes the keys into use, with the gateway as the only peer, and speaks at once.
    pub(crate) fn start(&self, keys: KeyPair, session: &Session) -> Result<()> {
        let gateway = Key(session.gateway.0);
        let everywhere = [IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED)];
        let peer = everywhere
            .into_iter()
            .fold(PeerConfigBuilder::new(&gateway), |peer, address| peer.add_allowed_ip(address, 0))
            .set_endpoint(RELAY_ADDR)
            .set_preshared_key(Key(*session.preshared_key.expose()))
            // Zero: only the change from zero below makes the kernel speak (drivers/net/wireguard/netlink.c).
            .set_persistent_keepalive_interval(0);
        let update = DeviceUpdate::new().set_private_key(Key(*keys.secret));
        let update = if session.is_same_peer { update } else { update.replace_peers() };
        self.apply(update.add_peer(peer)).context("wg0: set the keys and the peer")?;
        let seconds = u16::try_from(session.keepalive.as_secs()).context("the keepalive of wg0's peer")?;
        let peer = PeerConfigBuilder::new(&gateway).set_persistent_keepalive_interval(seconds);
        self.apply(DeviceUpdate::new().add_peer(peer)).context("wg0: set the peer's keepalive")
    }

    /// What wg(8) would show.
    pub(crate) fn snapshot(&self) -> Result<show::Interface> {
        let mut device = wireguard_control::Device::get(&self.name, Backend::Kernel).context("wg0: read its state")?;
        let has_private_key = device.private_key.is_some();
        if let Some(key) = &mut device.private_key {
            key.0.zeroize();
        }
        let peers = device.peers.into_iter().map(peer).collect();
        Ok(show::Interface {
            name: WG0.into(),
            public_key: device.public_key.map(|key| PublicKey(key.0)),
            has_private_key,
            listening_port: device.listen_port,
            fwmark: device.fwmark,
            peers,
        })
    }

    /// Removes wg0, and with it the kernel's copy of the key.
    pub(crate) fn delete(&self) -> io::Result<()> {
        let mut device = wireguard_control::Device::get(&self.name, Backend::Kernel)?;
        if let Some(key) = &mut device.private_key {
            key.0.zeroize();
        }
        device.delete()
    }

    fn apply(&self, update: DeviceUpdate) -> io::Result<()> {
        // It blocks, but only for the kernel's answer to a netlink request, a millisecond.
        update.apply(&self.name, Backend::Kernel)
    }
}

fn peer(info: wireguard_control::PeerInfo) -> show::Peer {
    let wireguard_control::PeerInfo { mut config, stats } = info;
    let has_preshared_key = config.preshared_key.as_ref().is_some_and(|key| key.0 != [0; 32]);
    if let Some(key) = &mut config.preshared_key {
        key.0.zeroize();
    }
    show::Peer {
        public_key: PublicKey(config.public_key.0),
        has_preshared_key,
        endpoint: config.endpoint,
        allowed_ips: config.allowed_ips.iter().map(|allowed| (allowed.address, allowed.cidr)).collect(),
        latest_handshake: stats.last_handshake_time,
        received: stats.rx_bytes,
        sent: stats.tx_bytes,
        persistent_keepalive: config.persistent_keepalive_interval,
    }
}

/// Makes 32 random bytes a Curve25519 scalar (RFC 7748, section 5).
fn clamp(key: &mut [u8; 32]) {
    let [first, .., last] = key;
    *first &= 248;
    *last = (*last & 127) | 64;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clamped_key_is_a_multiple_of_eight_with_its_second_highest_bit_set() {
        let mut key = [0xff; 32];
        clamp(&mut key);
        assert_eq!((key[0], key[31]), (0xf8, 0x7f));
        let mut key = [0; 32];
        clamp(&mut key);
        assert_eq!((key[0], key[31]), (0, 0x40));
    }
}
