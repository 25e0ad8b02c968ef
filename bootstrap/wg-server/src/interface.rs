//! `wg0`: created, or taken over from a wg-server that was killed, and deleted at the end.

mod device;
mod drift;

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use ipnet::IpNet;
use tunnel::control::PublicKey;
use tunnel::preshared::PresharedKey;
use wireguard::device::PrivateKey;
use wireguard::link::{IpVersion, Kind, Link, Netlink};

use crate::config::{InterfaceName, WireGuard};

pub(crate) use device::seconds;
pub(crate) use drift::{Desired, Observed, Repair, State};

/// The gateway's WireGuard interface.
#[derive(Clone, Debug)]
pub(crate) struct Interface {
    name: InterfaceName,
    fingerprints: RandomState,
}

/// A hash of a pre-shared key: equal for equal keys within this process, and otherwise without information about the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint(u64);

/// One change to the kernel's peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PeerChange {
    /// Removes a peer.
    Remove(PublicKey),
    /// Gives a peer exactly these addresses. The peers that had them lose them.
    Own { public_key: PublicKey, addresses: Vec<IpAddr> },
    /// Changes the endpoint of a peer, and nothing else.
    Move { public_key: PublicKey, endpoint: SocketAddr },
    /// Sets the keepalive of a peer to the configured one, and nothing else.
    KeepAlive(PublicKey),
}

/// A peer as the kernel has it.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) public_key: PublicKey,
    pub(crate) endpoint: Option<SocketAddr>,
    pub(crate) allowed_ips: Vec<IpNet>,
    pub(crate) preshared_key: Fingerprint,
    /// In seconds; 0 is off.
    pub(crate) keepalive: u16,
    pub(crate) latest_handshake: Option<SystemTime>,
    pub(crate) rx_bytes: u64,
    pub(crate) tx_bytes: u64,
}

/// What existed when wg-server started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// No configured interface.
    Nothing,
    /// An interface with our key. Its sessions continue.
    Ours,
}

/// Refuses the name of an interface that is not WireGuard's.
pub(crate) async fn ensure_usable(name: &InterfaceName) -> Result<()> {
    match Netlink::open()?.link(name.as_str()).await?.map(|link| link.kind) {
        None | Some(Kind::WireGuard) => Ok(()),
        Some(Kind::Other(kind)) => {
            bail!("{name} exists and is not a WireGuard interface but {kind}; expected a free name, like \"wg0\"")
        }
    }
}

impl Interface {
    /// Checks that the interface can be created, or adopted because it has the same private key. Changes nothing.
    pub(crate) async fn find(config: &WireGuard, key: &PrivateKey) -> Result<(Self, Found)> {
        let name = config.interface.clone();
        let found = match Netlink::open()?.link(name.as_str()).await?.map(|link| link.kind) {
            None => Found::Nothing,
            Some(Kind::Other(kind)) => {
                bail!("{name} exists and is not a WireGuard interface but {kind}; expected a free name, like \"wg0\"")
            }
            Some(Kind::WireGuard) => match device::own(&name).await?.0 {
                Some(theirs) if theirs == key.public_key() => Found::Ours,
                // Created and never configured.
                None => Found::Nothing,
                Some(_) => bail!(
                    "{name} exists with another private key: run `ip link delete {name}` if nothing needs it, or set wireguard.interface \
                     to another name"
                ),
            },
        };
        Ok((Self { name, fingerprints: RandomState::new() }, found))
    }

    /// Repairs the interface where it differs from `desired`. Sessions survive. `done` gets each repair that succeeded, even if a
    /// later one fails.
    pub(crate) async fn settle(&self, desired: &Desired, key: &PrivateKey, done: &mut Vec<Repair>) -> Result<()> {
        let repairs = drift::repairs(desired, &self.observe().await?);
        let is_new = repairs.contains(&Repair::Make);
        for repair in repairs {
            self.perform(&repair, desired, key).await?;
            done.push(repair);
        }
        if is_new {
            for repair in drift::repairs(desired, &self.observe().await?) {
                self.perform(&repair, desired, key).await?;
            }
        }
        Ok(())
    }

    /// Reads what has the interface's name.
    pub(crate) async fn observe(&self) -> Result<Observed> {
        let name = &self.name;
        let netlink = Netlink::open()?;
        let Some(Link { kind, mtu, is_up, .. }) = netlink.link(name.as_str()).await? else {
            return Ok(Observed::Nothing);
        };
        if let Kind::Other(kind) = kind {
            return Ok(Observed::Other(kind));
        }
        let mut addresses = netlink.addresses(name.as_str()).await?;
        addresses.retain(|net| !is_link_local(net.addr()));
        let mut routes = Vec::new();
        for version in IpVersion::ALL {
            if addresses.iter().any(|net| IpVersion::of(net.addr()) == version) {
                routes.extend(netlink.routes(name.as_str(), version).await?);
            }
        }
        let (public_key, listen_port) = device::own(name).await.with_context(|| format!("read {name}"))?;
        Ok(Observed::WireGuard(State { public_key, listen_port, mtu, is_up, addresses, routes }))
    }

    async fn perform(&self, repair: &Repair, desired: &Desired, key: &PrivateKey) -> Result<()> {
        let name = self.name.as_str();
        let netlink = Netlink::open()?;
        match repair {
            Repair::Make | Repair::SetKey { .. } | Repair::SetPort { .. } => {
                device::configure(&self.name, key, desired.listen_port)
                    .await
                    .with_context(|| format!("configure {name} with listen port {}", desired.listen_port))?;
            }
            Repair::SetMtu { mtu, .. } => netlink.set_mtu(name, *mtu).await?,
            Repair::BringUp => netlink.set_up(name).await?,
            Repair::TakeDown => netlink.set_down(name).await?,
            Repair::AddAddress(net) => netlink.add_address(name, *net).await?,
            Repair::AddRoute(net) => netlink.route_network(name, *net).await?,
            Repair::RemoveAddress(net) => netlink.remove_address(name, *net).await?,
        }
        Ok(())
    }

    pub(crate) fn name(&self) -> &InterfaceName {
        &self.name
    }

    /// Changes one of the kernel's peers.
    pub(crate) async fn apply(&self, change: PeerChange, keepalive: Duration) -> Result<()> {
        device::apply(&self.name, change, keepalive).await.with_context(|| format!("change a peer of {}", self.name))
    }

    /// Adds a peer without allowed IPs: it can shake hands, and nothing else.
    /// Without an endpoint, the kernel learns it from the handshake. The fingerprint is that of the pre-shared key.
    pub(crate) async fn add_candidate(
        &self,
        public_key: PublicKey,
        key: &PresharedKey,
        endpoint: Option<SocketAddr>,
    ) -> Result<Fingerprint> {
        device::add_candidate(&self.name, public_key, key, endpoint)
            .await
            .with_context(|| format!("add a peer to {}", self.name))?;
        Ok(Fingerprint::of(key.expose(), &self.fingerprints))
    }

    /// Reads the kernel's peers.
    pub(crate) async fn peers(&self) -> Result<Vec<Peer>> {
        device::peers(&self.name, &self.fingerprints).await.with_context(|| format!("read the peers of {}", self.name))
    }

    /// Deletes the interface and with it its sessions.
    pub(crate) async fn delete(&self) -> Result<()> {
        Ok(Netlink::open()?.delete(self.name.as_str()).await?)
    }
}

impl Fingerprint {
    fn of(key: &[u8; 32], fingerprints: &RandomState) -> Self {
        Self(fingerprints.hash_one(key))
    }

    #[cfg(test)]
    pub(crate) const fn test(value: u64) -> Self {
        Self(value)
    }
}

/// The interface of the default route.
pub(crate) async fn default_route_interface() -> Result<InterfaceName> {
    let name = Netlink::open()?.default_route_interface().await?;
    let name = name
        .context("this host has no default route; expected the interface that leads to the outside, like \"eth0\"")?;
    InterfaceName::parse(&name)
}

/// Whether the kernel gives such an address to an interface by itself.
fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests;
