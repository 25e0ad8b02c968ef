//! The kernel's WireGuard side of `wg0`: its own key and port, and its peers.

use std::hash::RandomState;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use ipnet::IpNet;
use tunnel::control::PublicKey;
use tunnel::preshared::PresharedKey;
use wireguard::device::{self, PeerUpdate, PrivateKey, Update};

use super::{Fingerprint, Peer, PeerChange};
use crate::config::InterfaceName;

/// The interface's own public key and port.
pub(super) async fn own(name: &InterfaceName) -> Result<(Option<PublicKey>, Option<u16>)> {
    let state = state(name).await?;
    Ok((state.public_key, state.listen_port))
}

/// Creates the interface if there is none. Setting the key that it already has keeps its sessions
/// (drivers/net/wireguard/netlink.c).
pub(super) async fn configure(name: &InterfaceName, key: &PrivateKey, listen_port: u16) -> Result<()> {
    let update = Update::new().private_key(key).listen_port(listen_port);
    apply_update(name, update, Absent::Make).await
}

pub(super) async fn apply(name: &InterfaceName, change: PeerChange, keepalive: Duration) -> Result<()> {
    let keepalive = seconds(keepalive);
    let absent = if matches!(change, PeerChange::Remove(_)) { Absent::Leave } else { Absent::Refuse };
    let update = match change {
        PeerChange::Remove(public_key) => Update::new().remove_peer(public_key),
        PeerChange::Own { public_key, addresses } => {
            let peer = PeerUpdate::new(public_key).replace_allowed_ips().keepalive(keepalive);
            Update::new().peer(addresses.into_iter().map(IpNet::from).fold(peer, PeerUpdate::allowed_ip))
        }
        PeerChange::Move { public_key, endpoint } => Update::new().peer(PeerUpdate::new(public_key).endpoint(endpoint)),
        PeerChange::KeepAlive(public_key) => Update::new().peer(PeerUpdate::new(public_key).keepalive(keepalive)),
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
    let mut peer = PeerUpdate::new(public_key).replace_allowed_ips().preshared_key(key);
    if let Some(endpoint) = endpoint {
        peer = peer.endpoint(endpoint);
    }
    apply_update(name, Update::new().peer(peer), Absent::Refuse).await
}

/// The keepalive in seconds.
pub(crate) fn seconds(keepalive: Duration) -> u16 {
    u16::try_from(keepalive.as_secs()).expect("the configuration allows at most 65535 s")
}

pub(super) async fn peers(name: &InterfaceName, fingerprints: &RandomState) -> Result<Vec<Peer>> {
    let peers = state(name).await?.peers.into_iter();
    Ok(peers
        .map(|peer| Peer {
            public_key: peer.public_key,
            endpoint: peer.endpoint,
            allowed_ips: peer.allowed_ips,
            preshared_key: Fingerprint::of(
                peer.preshared_key.as_ref().map_or(&[0; 32], PresharedKey::expose),
                fingerprints,
            ),
            keepalive: peer.keepalive.unwrap_or(0),
            latest_handshake: peer.latest_handshake,
            rx_bytes: peer.rx_bytes,
            tx_bytes: peer.tx_bytes,
        })
        .collect())
}

async fn state(name: &InterfaceName) -> Result<device::State> {
    let name = name.clone();
    Ok(blocking(move || device::state(name.as_str())).await?)
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

async fn apply_update(name: &InterfaceName, update: Update, absent: Absent) -> Result<()> {
    let device = name.clone();
    let update = move || {
        if absent != Absent::Make
            && let Err(error) = nix::net::if_::if_nametoindex(device.as_str())
        {
            return if absent == Absent::Leave { Ok(()) } else { Err(error.into()) };
        }
        update.apply(device.as_str())
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
