//! `wg0`: made, or taken over from a wg-server that was killed, and taken down again.

mod drift;
mod link;
mod wireguard;

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use ipnet::IpNet;
use tunnel::control::PublicKey;
use tunnel::preshared::PresharedKey;

use crate::config::{InterfaceName, WireGuard};
use crate::key::PrivateKey;

pub(crate) use drift::{Desired, Observed, Repair, State};
pub(crate) use link::default_route_interface;
pub(crate) use wireguard::{generate_private_key, public_key, seconds};

/// The gateway's WireGuard interface.
#[derive(Clone, Debug)]
pub(crate) struct Interface {
    name: InterfaceName,
    fingerprints: RandomState,
}

/// Tells one pre-shared key from another, within this process, and nothing else of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint(u64);

/// One change to the kernel's peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PeerChange {
    /// No longer a peer.
    Remove(PublicKey),
    /// A peer that exactly these addresses belong to; whoever had them has them no longer.
    Own { public_key: PublicKey, addresses: Vec<IpAddr> },
    /// A peer that stays as it is, but is reached elsewhere.
    Move { public_key: PublicKey, endpoint: SocketAddr },
    /// A peer that stays as it is, but is kept alive as configured.
    KeepAlive(PublicKey),
}

/// A peer as the kernel has it.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) public_key: PublicKey,
    pub(crate) endpoint: Option<SocketAddr>,
    pub(crate) allowed_ips: Vec<IpNet>,
    pub(crate) preshared_key: Fingerprint,
    /// In seconds; 0 is never.
    pub(crate) keepalive: u16,
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
            link::Kind::WireGuard => match wireguard::own(&name).await?.0 {
                Some(theirs) if theirs == public_key(key) => Found::Ours,
                // Made and never configured.
                None => Found::Nothing,
                Some(_) => bail!(
                    "{name} is there already with another private key: `ip link delete {name}` if nothing needs it, or \
                     set wireguard.interface to another name"
                ),
            },
        };
        Ok((Self { name, fingerprints: RandomState::new() }, found))
    }

    /// Makes the interface what it should be; the sessions of one that is right are not touched. `done` gets what was not
    /// right and is now, also when something else then goes wrong.
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

    /// What has the interface's name now.
    pub(crate) async fn observe(&self) -> Result<Observed> {
        let name = &self.name;
        match link::kind(name).await? {
            link::Kind::Absent => return Ok(Observed::Nothing),
            link::Kind::Other(kind) => return Ok(Observed::Other(kind)),
            link::Kind::WireGuard => {}
        }
        let Some(link) = link::read(name).await? else { return Ok(Observed::Nothing) };
        let (public_key, listen_port) = wireguard::own(name).await.with_context(|| format!("read {name}"))?;
        let link::Link { mtu, is_up, addresses, routes } = link;
        Ok(Observed::WireGuard(State { public_key, listen_port, mtu, is_up, addresses, routes }))
    }

    async fn perform(&self, repair: &Repair, desired: &Desired, key: &PrivateKey) -> Result<()> {
        let name = &self.name;
        match repair {
            Repair::Make | Repair::SetKey { .. } | Repair::SetPort { .. } => {
                wireguard::configure(name, key, desired.listen_port)
                    .await
                    .with_context(|| format!("configure {name} with listen port {}", desired.listen_port))
            }
            Repair::SetMtu { mtu, .. } => link::set_mtu(name, *mtu).await,
            Repair::BringUp => link::bring_up(name).await,
            Repair::TakeDown => link::take_down(name).await,
            Repair::AddAddress(net) => link::add_address(name, *net).await,
            Repair::AddRoute(net) => link::add_route(name, *net).await,
            Repair::RemoveAddress(net) => link::remove_address(name, *net).await,
        }
    }

    pub(crate) fn name(&self) -> &InterfaceName {
        &self.name
    }

    /// Tells the kernel about a peer.
    pub(crate) async fn apply(&self, change: PeerChange, keepalive: Duration) -> Result<()> {
        wireguard::apply(&self.name, change, keepalive).await.with_context(|| format!("change a peer of {}", self.name))
    }

    /// Adds a peer without allowed IPs: it can shake hands, and nothing else.
    /// Without an endpoint, the kernel learns it from the handshake. The fingerprint is that of the pre-shared key.
    pub(crate) async fn add_candidate(
        &self,
        public_key: PublicKey,
        key: &PresharedKey,
        endpoint: Option<SocketAddr>,
    ) -> Result<Fingerprint> {
        wireguard::add_candidate(&self.name, public_key, key, endpoint)
            .await
            .with_context(|| format!("add a peer to {}", self.name))?;
        Ok(Fingerprint::of(key.expose(), &self.fingerprints))
    }

    /// What the kernel knows about the peers.
    pub(crate) async fn peers(&self) -> Result<Vec<Peer>> {
        wireguard::peers(&self.name, &self.fingerprints)
            .await
            .with_context(|| format!("read the peers of {}", self.name))
    }

    /// Takes the interface down and its sessions with it.
    pub(crate) async fn delete(&self) -> Result<()> {
        link::delete(&self.name).await.with_context(|| format!("delete {}", self.name))
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
