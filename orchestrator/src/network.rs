//! The machine's two network namespaces, and wg0 between them.
//!
//! wg0 is born in the relay's namespace and moved to PID 1's: WireGuard keeps its UDP socket where it was born. So the
//! relay sees ciphertext only, and whatever runs in PID 1's namespace has no way out but wg0.

mod addresses;
mod device;
mod namespace;
pub(crate) mod resolver;
mod sysctl;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context, Result};
use tokio::runtime::Runtime;
use wireguard::link::Netlink;

use crate::boot::{self, step};
use crate::config::Config;
use crate::services;

pub(crate) use addresses::assign;
pub(crate) use device::{Device, KeyPair, Session};

/// The interface, on both sides of the tunnel.
pub(crate) const WG0: &str = "wg0";

/// WireGuard's socket in the relay's namespace.
pub(crate) const WIREGUARD_ADDR: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 51_820);

/// The relay's socket there, which is the peer's endpoint for WireGuard.
pub(crate) const RELAY_ADDR: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 51_821);

/// What exists before the gateway has said anything.
pub(crate) struct Network {
    pub(crate) netlink: Netlink,
    pub(crate) device: Device,
    pub(crate) relay_namespace: OwnedFd,
    /// Open for as long as PID 1 lives, so that a relay that starts again finds the datagrams.
    pub(crate) relay_socket: UdpSocket,
}

/// Makes the namespaces, wg0 (down, without a key or a peer), and the files and settings that go with them.
///
/// # Errors
/// The step's name, its object, and the cause.
pub(crate) fn up(runtime: &Runtime, config: &Config) -> Result<Network> {
    step("sysctl", sysctl::write_all)?;
    step("resolver", || resolver::write(Path::new("/"), &config.name_servers))?;
    let netlink = step("loopback", || {
        runtime.block_on(async {
            let netlink = Netlink::open()?;
            netlink.set_up("lo").await?;
            Ok(netlink)
        })
    })?;
    let born = step("wg0", namespace::create)?;
    step("services", || services::make_roots(config))?;
    step("root", boot::seal_root)?;
    Ok(Network { netlink, device: born.device, relay_namespace: born.namespace, relay_socket: born.socket })
}

/// This thread's network namespace.
fn current_namespace() -> Result<OwnedFd> {
    const PATH: &str = "/proc/thread-self/ns/net";
    Ok(std::fs::File::open(PATH).context(PATH)?.into())
}
