//! The kernel's WireGuard side of `wg0`, through `wireguard-control`, whose types stay in this file: its keys have a `Display` that shows them.

use std::hash::RandomState;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use ipnet::IpNet;
use tunnel::control::PublicKey;
use tunnel::preshared::PresharedKey;
use wireguard_control::{Backend, Device, DeviceUpdate, Key, PeerConfigBuilder, PeerInfo};

use super::{Fingerprint, Peer, PeerChange};
use crate::config::InterfaceName;
use crate::key::PrivateKey;

/// A new private key from the kernel's random numbers.
pub(crate) fn generate_private_key() -> PrivateKey {
    PrivateKey::new(Key::generate_private().0)
}

/// The public half.
pub(crate) fn public_key(key: &PrivateKey) -> PublicKey {
    PublicKey(Key(*key.expose()).get_public().0)
}

/// The interface's own public key and port.
pub(super) async fn own(name: &InterfaceName) -> Result<(Option<PublicKey>, Option<u16>)> {
    let device = device(name).await?;
    Ok((device.public_key.map(|key| PublicKey(key.0)), device.listen_port))
}

/// Creates the interface if there is none. Setting the key that it already has keeps its sessions
/// (drivers/net/wireguard/netlink.c).
pub(super) async fn configure(name: &InterfaceName, key: &PrivateKey, listen_port: u16) -> Result<()> {
    let update = DeviceUpdate::new().set_private_key(Key(*key.expose())).set_listen_port(listen_port);
    apply_update(name, update, Absent::Make).await
}

pub(super) async fn apply(name: &InterfaceName, change: PeerChange, keepalive: Duration) -> Result<()> {
    let keepalive = seconds(keepalive);
    let absent = if matches!(change, PeerChange::Remove(_)) { Absent::Leave } else { Absent::Refuse };
    let update = match change {
        PeerChange::Remove(public_key) => DeviceUpdate::new().remove_peer_by_key(&Key(public_key.0)),
        PeerChange::Own { public_key, addresses } => {
            let mut peer = PeerConfigBuilder::new(&Key(public_key.0))
                .replace_allowed_ips()
                .set_persistent_keepalive_interval(keepalive);
            for address in addresses {
                peer = peer.add_allowed_ip(address, if address.is_ipv4() { 32 } else { 128 });
            }
            DeviceUpdate::new().add_peer(peer)
        }
        PeerChange::Move { public_key, endpoint } => {
            DeviceUpdate::new().add_peer(PeerConfigBuilder::new(&Key(public_key.0)).set_endpoint(endpoint))
        }
        PeerChange::KeepAlive(public_key) => DeviceUpdate::new()
            .add_peer(PeerConfigBuilder::new(&Key(public_key.0)).set_persistent_keepalive_interval(keepalive)),
    };
    apply_update(name, update, absent).await
}

/// Sets no keepalive, which would make the kernel send at once: the enclave switches to the new keys and sends first.
pub(super) async fn add_candidate(
    name: &InterfaceName,
    public_key: PublicKey,
    key: &PresharedKey,
    endpoint: Option<SocketAddr>,
) -> Result<()> {
    let mut peer =
        PeerConfigBuilder::new(&Key(public_key.0)).replace_allowed_ips().set_preshared_key(Key(*key.expose()));
    if let Some(endpoint) = endpoint {
        peer = peer.set_endpoint(endpoint);
    }
    apply_update(name, DeviceUpdate::new().add_peer(peer), Absent::Refuse).await
}

/// The keepalive in seconds.
pub(crate) fn seconds(keepalive: Duration) -> u16 {
    u16::try_from(keepalive.as_secs()).expect("the configuration allows at most 65535 s")
}

pub(super) async fn peers(name: &InterfaceName, fingerprints: &RandomState) -> Result<Vec<Peer>> {
    let read = |peer: PeerInfo| {
        let allowed_ips = peer.config.allowed_ips.iter().map(|ip| IpNet::new(ip.address, ip.cidr));
        Ok(Peer {
            public_key: PublicKey(peer.config.public_key.0),
            endpoint: peer.config.endpoint,
            allowed_ips: allowed_ips.collect::<Result<_, _>>().context("the kernel's allowed IPs")?,
            preshared_key: Fingerprint::of(&peer.config.preshared_key.map_or([0; 32], |key| key.0), fingerprints),
            keepalive: peer.config.persistent_keepalive_interval.unwrap_or(0),
            latest_handshake: peer.stats.last_handshake_time,
            rx_bytes: peer.stats.rx_bytes,
            tx_bytes: peer.stats.tx_bytes,
        })
    };
    device(name).await?.peers.into_iter().map(read).collect()
}

async fn device(name: &InterfaceName) -> Result<Device> {
    let name = name.as_str().parse()?;
    Ok(blocking(move || Device::get(&name, Backend::Kernel)).await?)
}

/// What an update does if the interface is missing. The library would create one without key and addresses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Absent {
    Make,
    /// Fails.
    Refuse,
    /// Succeeds: a missing interface has no peer to remove.
    Leave,
}

async fn apply_update(name: &InterfaceName, update: DeviceUpdate, absent: Absent) -> Result<()> {
    let device = name.as_str().parse()?;
    let is_there = name.clone();
    let update = move || {
        if absent != Absent::Make
            && let Err(error) = nix::net::if_::if_nametoindex(is_there.as_str())
        {
            return if absent == Absent::Leave { Ok(()) } else { Err(error.into()) };
        }
        update.apply(&device, Backend::Kernel)
    };
    blocking(update).await.map_err(|error| match error.raw_os_error() {
        Some(nix::libc::EOPNOTSUPP) => {
            anyhow::Error::new(error).context("this kernel has no WireGuard: load the module `wireguard`")
        }
        Some(nix::libc::ENODEV) => {
            anyhow::Error::new(error).context(format!("{name} is missing, wg-server creates it again"))
        }
        _ => error.into(),
    })
}

/// Runs a call of the library, each of which opens a netlink socket and blocks until the answer.
async fn blocking<T: Send + 'static>(call: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(call).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_key_is_clamped_and_has_a_public_half() {
        let key = generate_private_key();
        assert_eq!(key.expose()[0] & 7, 0);
        assert_eq!(key.expose()[31] & 0xc0, 0x40);
        assert_ne!(public_key(&key).0, [0; 32]);
    }
}
