//! Keys and peers of a WireGuard interface. The only file that calls `wireguard-control`: the keys of that library are
//! neither zeroed nor silent, so they live within a function here and are never formatted.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::SystemTime;

use ipnet::IpNet;
use tunnel::control::PublicKey;
use tunnel::preshared::PresharedKey;
use wireguard_control::{Backend, DeviceUpdate, InterfaceName, Key, PeerConfigBuilder, PeerInfo};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// A Curve25519 private key.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct PrivateKey([u8; 32]);

/// What the kernel has of an interface, but for its private key.
#[derive(Debug)]
pub struct State {
    /// None before a private key is set.
    pub public_key: Option<PublicKey>,
    /// Whether the kernel showed a private key; it shows it to CAP_NET_ADMIN only.
    pub has_private_key: bool,
    /// The UDP port.
    pub listen_port: Option<u16>,
    /// The mark of its own packets; 0 is none.
    pub fwmark: Option<u32>,
    /// In no particular order.
    pub peers: Vec<Peer>,
}

/// What the kernel has of a peer.
#[derive(Debug)]
pub struct Peer {
    /// Its identity.
    pub public_key: PublicKey,
    /// None where the kernel has zeros.
    pub preshared_key: Option<PresharedKey>,
    /// Where its last datagram came from, or where it was set to be.
    pub endpoint: Option<SocketAddr>,
    /// Inner addresses that belong to it.
    pub allowed_ips: Vec<IpNet>,
    /// None before the first.
    pub latest_handshake: Option<SystemTime>,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// In seconds; none or 0 is never.
    pub keepalive: Option<u16>,
}

/// Changes to an interface. What it does not name stays as it is.
#[must_use = "an update changes nothing until it is applied"]
pub struct Update(DeviceUpdate);

/// Changes to a peer. What it does not name stays as it is; a peer that is not there is added.
#[must_use = "a peer changes nothing until its update is applied"]
pub struct PeerUpdate(PeerConfigBuilder);

impl PrivateKey {
    /// Takes the bytes of a key.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Makes 32 random bytes a Curve25519 scalar (RFC 7748, section 5).
    #[must_use]
    pub const fn from_random(random: [u8; 32]) -> Self {
        let mut key = Self(random);
        let [first, .., last] = &mut key.0;
        *first &= 248;
        *last = (*last & 127) | 64;
        key
    }

    /// The bytes, for the file that stores them.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The public half.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        let mut key = Key(self.0);
        let public = PublicKey(key.get_public().0);
        key.0.zeroize();
        public
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

/// Reads the state of an interface; blocks for the kernel's reply, about a millisecond.
///
/// # Errors
/// The kernel's: `ENODEV` where there is no WireGuard interface of that name.
pub fn state(name: &str) -> io::Result<State> {
    let mut device = wireguard_control::Device::get(&parse(name)?, Backend::Kernel)?;
    let has_private_key = device.private_key.is_some();
    if let Some(key) = &mut device.private_key {
        key.0.zeroize();
    }
    Ok(State {
        public_key: device.public_key.map(|key| PublicKey(key.0)),
        has_private_key,
        listen_port: device.listen_port,
        fwmark: device.fwmark,
        peers: device.peers.into_iter().map(Peer::from).collect(),
    })
}

/// Deletes an interface, and with it the kernel's copy of its keys; blocks as [`state`].
///
/// # Errors
/// The kernel's.
pub fn delete(name: &str) -> io::Result<()> {
    let mut device = wireguard_control::Device::get(&parse(name)?, Backend::Kernel)?;
    if let Some(key) = &mut device.private_key {
        key.0.zeroize();
    }
    device.delete()
}

impl From<PeerInfo> for Peer {
    fn from(PeerInfo { mut config, stats }: PeerInfo) -> Self {
        let preshared_key = config.preshared_key.as_mut().and_then(|key| {
            let bytes = std::mem::take(&mut key.0);
            (bytes != [0; 32]).then(|| PresharedKey::new(bytes))
        });
        let net = |ip: &wireguard_control::AllowedIp| {
            IpNet::new(ip.address, ip.cidr)
                .expect("the kernel checks the prefix length (drivers/net/wireguard/netlink.c)")
        };
        Self {
            public_key: PublicKey(config.public_key.0),
            preshared_key,
            endpoint: config.endpoint,
            allowed_ips: config.allowed_ips.iter().map(net).collect(),
            latest_handshake: stats.last_handshake_time,
            rx_bytes: stats.rx_bytes,
            tx_bytes: stats.tx_bytes,
            keepalive: config.persistent_keepalive_interval,
        }
    }
}

impl Update {
    /// Changes nothing yet.
    pub fn new() -> Self {
        Self(DeviceUpdate::new())
    }

    /// Sets the key. The key that the interface has already keeps its sessions (drivers/net/wireguard/netlink.c).
    pub fn private_key(self, key: &PrivateKey) -> Self {
        Self(self.0.set_private_key(Key(key.0)))
    }

    /// Sets the UDP port.
    pub fn listen_port(self, port: u16) -> Self {
        Self(self.0.set_listen_port(port))
    }

    /// Removes every peer that this update does not name.
    pub fn replace_peers(self) -> Self {
        Self(self.0.replace_peers())
    }

    /// Adds or changes a peer.
    pub fn peer(self, peer: PeerUpdate) -> Self {
        Self(self.0.add_peer(peer.0))
    }

    /// Removes a peer, if it is there.
    pub fn remove_peer(self, public_key: PublicKey) -> Self {
        Self(self.0.remove_peer_by_key(&Key(public_key.0)))
    }

    /// Makes the changes, and the interface too if there is none of that name; blocks as [`state`].
    ///
    /// # Errors
    /// The kernel's: `EOPNOTSUPP` where it has no WireGuard.
    pub fn apply(self, name: &str) -> io::Result<()> {
        self.0.apply(&parse(name)?, Backend::Kernel)
    }
}

impl Default for Update {
    fn default() -> Self {
        Self::new()
    }
}

impl PeerUpdate {
    /// Changes nothing of this peer yet.
    pub fn new(public_key: PublicKey) -> Self {
        Self(PeerConfigBuilder::new(&Key(public_key.0)))
    }

    /// Removes the allowed IPs that this update does not name.
    pub fn replace_allowed_ips(self) -> Self {
        Self(self.0.replace_allowed_ips())
    }

    /// Adds allowed IPs, and takes them from the peer that has had them.
    pub fn allowed_ip(self, net: IpNet) -> Self {
        Self(self.0.add_allowed_ip(net.addr(), net.prefix_len()))
    }

    /// Sets the pre-shared key of the next handshake.
    pub fn preshared_key(self, key: &PresharedKey) -> Self {
        Self(self.0.set_preshared_key(Key(*key.expose())))
    }

    /// Sets where the peer is reached.
    pub fn endpoint(self, address: SocketAddr) -> Self {
        Self(self.0.set_endpoint(address))
    }

    /// Sets the persistent keepalive; 0 is none. The change from 0 makes the kernel send at once
    /// (drivers/net/wireguard/netlink.c).
    pub fn keepalive(self, seconds: u16) -> Self {
        Self(self.0.set_persistent_keepalive_interval(seconds))
    }
}

fn parse(name: &str) -> io::Result<InterfaceName> {
    name.parse().map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_from_random_bytes_is_a_multiple_of_eight_with_its_second_highest_bit_set() {
        let clamped = |random| {
            let key = PrivateKey::from_random(random);
            (key.expose()[0], key.expose()[31])
        };
        assert_eq!(clamped([0xff; 32]), (0xf8, 0x7f));
        assert_eq!(clamped([0; 32]), (0, 0x40));
    }

    /// RFC 7748, section 6.1.
    #[test]
    fn a_public_key_is_that_of_rfc_7748() {
        let alice = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
        let public = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";
        let PublicKey(secret) = alice.parse().expect("32 bytes in base64");
        assert_eq!(PrivateKey::new(secret).public_key().to_string(), public);
        assert_eq!(format!("{:?}", PrivateKey::new(secret)), "PrivateKey(..)");
    }

    #[test]
    fn a_name_that_no_interface_can_have_is_an_error() {
        assert!(state("a name of more than 15 bytes").is_err());
    }
}
