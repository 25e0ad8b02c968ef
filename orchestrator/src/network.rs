//! The machine's two network namespaces, and wg0 between them.
//!
//! wg0 is created in the relay's namespace and moved to PID 1's: WireGuard keeps its UDP socket in the first. So the
//! relay sees only ciphertext, and processes in PID 1's namespace can reach the network only through wg0.

mod addresses;
mod device;
mod namespace;
pub(crate) mod resolv_conf;
mod sysctl;

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use egress::{Firewall, Refusals, Rules};
use tokio::runtime::Runtime;
use wireguard::link::Netlink;

use crate::boot::{self, step};
use crate::config::{Config, DNS_PORT, Lookups};
use crate::services;

pub(crate) use addresses::assign;
pub(crate) use device::{Device, KeyPair, Session};

/// The name of the WireGuard interface.
pub(crate) const WG0: &str = "wg0";

/// WireGuard's socket in the relay's namespace.
pub(crate) const WIREGUARD_ADDR: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 51_820);

/// The relay's socket there, which is the peer's endpoint for WireGuard.
pub(crate) const RELAY_ADDR: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 51_821);

/// What exists before the first offer.
pub(crate) struct Network {
    pub(crate) netlink: Netlink,
    pub(crate) device: Device,
    pub(crate) firewall: Firewall,
    pub(crate) refusals: Refusals,
    pub(crate) relay_namespace: OwnedFd,
    /// Open for as long as PID 1 lives, so that a restarted relay finds the datagrams.
    pub(crate) relay_socket: UdpSocket,
    /// As above, for the resolver: its UDP and TCP socket for each of [`Config::lookups`].
    pub(crate) resolver_sockets: Vec<(UdpSocket, TcpListener)>,
}

/// Makes the namespaces, wg0 (down, without a key or a peer), and the files and settings that go with them.
///
/// # Errors
/// The step's name, its object, and the cause.
pub(crate) fn up(runtime: &Runtime, config: &Config) -> Result<Network> {
    step("sysctl", sysctl::write_all)?;
    let netlink = step("loopback", || {
        runtime.block_on(async {
            let netlink = Netlink::open()?;
            netlink.set_up("lo").await?;
            Ok(netlink)
        })
    })?;
    // Before wg0 exists, and so before the first packet.
    let (firewall, refusals) = step("egress", || load_rules(runtime, &config.rules))?;
    let relay = step("wg0", namespace::create)?;
    let resolver_sockets = step("resolver", || config.lookups.iter().map(bind_resolver).collect())?;
    step("services", || services::make_roots(config))?;
    step("root", boot::seal_root)?;
    Ok(Network {
        netlink,
        device: relay.device,
        firewall,
        refusals,
        relay_namespace: relay.namespace,
        relay_socket: relay.socket,
        resolver_sockets,
    })
}

fn bind_resolver(lookups: &Lookups) -> Result<(UdpSocket, TcpListener)> {
    let address = SocketAddr::from((lookups.address, DNS_PORT));
    let bind = || -> std::io::Result<_> { Ok((UdpSocket::bind(address)?, TcpListener::bind(address)?)) };
    bind().with_context(|| format!("bind {address}"))
}

/// Loads the rules for this namespace. The relay's needs none: it holds nothing but the relay's and WireGuard's socket.
fn load_rules(runtime: &Runtime, rules: &Rules) -> Result<(Firewall, Refusals)> {
    let firewall = Firewall::load(rules)?;
    sysctl::bound_connections()?;
    let refusals = runtime.block_on(async { Refusals::open() }).context("subscribe to refused packets")?;
    Ok((firewall, refusals))
}

/// This thread's network namespace.
fn current_namespace() -> Result<OwnedFd> {
    const PATH: &str = "/proc/thread-self/ns/net";
    Ok(std::fs::File::open(PATH).context(PATH)?.into())
}
