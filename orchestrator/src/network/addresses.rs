//! The addresses that the gateway assigns, and wg0's routes.

use anyhow::Result;
use ipnet::IpNet;
use wireguard::link::{IpVersion, Netlink};

use super::WG0;
use crate::config::Tunnel;

/// Gives wg0 these addresses and no others, sets it up, and routes everything through it.
pub(crate) async fn assign(netlink: &Netlink, tunnel: &Tunnel, addresses: &[IpNet]) -> Result<()> {
    for present in netlink.addresses(WG0).await? {
        if !addresses.contains(&present) {
            netlink.remove_address(WG0, present).await?;
        }
    }
    for address in addresses {
        // The kernel adds the route to the address's network, which so has wg0's own MTU.
        netlink.add_address(WG0, *address).await?;
    }
    netlink.set_mtu(WG0, tunnel.mtu).await?;
    netlink.set_up(WG0).await?;
    for address in addresses {
        netlink.route_default(WG0, IpVersion::of(address.addr()), tunnel.default_route_mtu).await?;
    }
    Ok(())
}
