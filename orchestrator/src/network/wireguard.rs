//! wg0's keys and peer. The only file that handles a private key, and the only one that calls `wireguard-control`.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use tunnel::control::PublicKey;
use wireguard_control::{Backend, DeviceUpdate, InterfaceName, Key, PeerConfigBuilder};
use zeroize::Zeroize;

use super::{RELAY_ADDR, WG0, WIREGUARD_ADDR};
use crate::{show, sys};

/// wg0 as the kernel knows it; the private key is there and nowhere else.
pub(crate) struct Device {
    pub(crate) public_key: PublicKey,
    name: InterfaceName,
}

impl Device {
    /// Creates wg0 in this thread's network namespace, with a new key and no peer.
    pub(super) fn create() -> Result<Self> {
        let name: InterfaceName = WG0.parse().context("the name wg0")?;
        // `Key` is neither zeroed nor silent: it lives in this block, and is never formatted.
        let mut key = Key([0; 32]);
        sys::random(&mut key.0).context("random bytes for wg0's key")?;
        clamp(&mut key.0);
        let public_key = PublicKey(key.get_public().0);
        let update = DeviceUpdate::new().set_private_key(key.clone()).set_listen_port(WIREGUARD_ADDR.port());
        let result = update.apply(&name, Backend::Kernel).context("create wg0");
        key.0.zeroize();
        result?;
        Ok(Self { public_key, name })
    }

    /// Makes the gateway the only peer; wg0 does not speak first until [`Device::keep_alive`].
    pub(crate) fn set_peer(&self, gateway: PublicKey) -> Result<()> {
        let everywhere = [IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED)];
        let peer = everywhere
            .into_iter()
            .fold(PeerConfigBuilder::new(&Key(gateway.0)), |peer, address| peer.add_allowed_ip(address, 0))
            .set_endpoint(RELAY_ADDR);
        self.apply(DeviceUpdate::new().replace_peers().add_peer(peer)).context("wg0: set the peer")
    }

    /// Lets the peer hear from us now and in this rhythm.
    pub(crate) fn keep_alive(&self, gateway: PublicKey, every: Duration) -> Result<()> {
        let seconds = u16::try_from(every.as_secs()).context("the keepalive of wg0's peer")?;
        let peer = PeerConfigBuilder::new(&Key(gateway.0)).set_persistent_keepalive_interval(seconds);
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
