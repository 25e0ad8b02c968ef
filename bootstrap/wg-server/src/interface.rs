//! `wg0`: made, or taken over from a wg-server that was killed, and taken down again.

mod link;
mod wireguard;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use ipnet::IpNet;
use tunnel::control::PublicKey;
use tunnel::preshared::PresharedKey;

use crate::config::{InterfaceName, WireGuard};
use crate::key::PrivateKey;

pub(crate) use link::default_route_interface;
pub(crate) use wireguard::{generate_private_key, public_key};

/// The gateway's WireGuard interface.
#[derive(Clone, Debug)]
pub(crate) struct Interface {
    name: InterfaceName,
}

/// One change to the kernel's peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PeerChange {
    /// No longer a peer.
    Remove(PublicKey),
    /// A peer that exactly these addresses belong to; whoever had them has them no longer.
    Own { public_key: PublicKey, addresses: Vec<IpAddr> },
    /// A peer that stays as it is, but is reached elsewhere.
    Move { public_key: PublicKey, endpoint: SocketAddr },
}

/// A peer as the kernel has it.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) public_key: PublicKey,
    pub(crate) endpoint: Option<SocketAddr>,
    pub(crate) allowed_ips: Vec<IpNet>,
    pub(crate) latest_handshake: Option<SystemTime>,
    pub(crate) rx_bytes: u64,
    pub(crate) tx_bytes: u64,
}

/// What was there when wg-server started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing: the interface is new.
    Nothing,
    /// An interface with our key: its sessions go on.
    Ours,
}

/// Refuses a name that something else than WireGuard has.
pub(crate) async fn ensure_usable(name: &InterfaceName) -> Result<()> {
    match link::kind(name).await? {
        link::Kind::Absent | link::Kind::WireGuard => Ok(()),
        link::Kind::Other(kind) => {
            bail!(
                "{name} is there already and is no WireGuard interface but {kind}; expected a name that is free, like \"wg0\""
            )
        }
    }
}

impl Interface {
    /// Looks whether the interface can be made, or adopted because it has the same private key; touches nothing.
    pub(crate) async fn find(config: &WireGuard, key: &PrivateKey) -> Result<(Self, Found)> {
        let name = config.interface.clone();
        let found = match link::kind(&name).await? {
            link::Kind::Absent => Found::Nothing,
            link::Kind::Other(kind) => bail!("{name} is there already and is no WireGuard interface but {kind}"),
            link::Kind::WireGuard => match wireguard::has_private_key(&name, key).await? {
                true => Found::Ours,
                false => bail!(
                    "{name} is there already with another private key: `ip link delete {name}` if nothing needs it, or \
                     set wireguard.interface to another name"
                ),
            },
        };
        Ok((Self { name }, found))
    }

    /// Makes the interface if need be and brings it up; the sessions of an adopted one are not touched.
    pub(crate) async fn set_up(&self, config: &WireGuard, key: &PrivateKey) -> Result<()> {
        let name = &self.name;
        wireguard::configure(name, key, config.listen_port).await.with_context(|| format!("configure {name}"))?;
        link::bring_up(name, &config.addresses, config.mtu).await
    }

    pub(crate) fn name(&self) -> &InterfaceName {
        &self.name
    }

    /// Tells the kernel about a peer.
    pub(crate) async fn apply(&self, change: PeerChange, keepalive: Duration) -> Result<()> {
        wireguard::apply(&self.name, change, keepalive).await.with_context(|| format!("change a peer of {}", self.name))
    }

    /// Adds a peer without addresses: it can shake hands, and nothing else.
    /// Without an endpoint, the kernel learns it from the handshake.
    pub(crate) async fn admit(
        &self,
        public_key: PublicKey,
        key: &PresharedKey,
        endpoint: Option<SocketAddr>,
    ) -> Result<()> {
        wireguard::admit(&self.name, public_key, key, endpoint)
            .await
            .with_context(|| format!("add a peer to {}", self.name))
    }

    /// What the kernel knows about the peers.
    pub(crate) async fn peers(&self) -> Result<Vec<Peer>> {
        wireguard::peers(&self.name).await.with_context(|| format!("read the peers of {}", self.name))
    }

    /// Takes the interface down and its sessions with it.
    pub(crate) async fn delete(&self) -> Result<()> {
        link::delete(&self.name).await.with_context(|| format!("delete {}", self.name))
    }
}
