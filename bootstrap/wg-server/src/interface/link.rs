//! The link side of `wg0`: addresses, MTU, up, through rtnetlink.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};
use futures_util::TryStreamExt;
use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, RouteMessageBuilder};
use tokio::task::JoinSet;

use crate::config::InterfaceName;

/// What has a name now.
pub(super) enum Kind {
    Absent,
    WireGuard,
    Other(String),
}

/// A netlink socket and the task that serves it. Both end together.
struct Netlink {
    handle: Handle,
    _connection: JoinSet<()>,
}

impl Netlink {
    fn open() -> Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection().context("open a netlink socket")?;
        let mut tasks = JoinSet::new();
        tasks.spawn(connection);
        Ok(Self { handle, _connection: tasks })
    }

    /// Opens a socket on which the kernel filters its answers: a host may have a million routes.
    fn open_strict() -> Result<Self> {
        let opened = rtnetlink::new_connection_with_strict_check();
        let (connection, handle, _) = opened.context("open a netlink socket that filters")?;
        let mut tasks = JoinSet::new();
        tasks.spawn(connection);
        Ok(Self { handle, _connection: tasks })
    }

    async fn link(&self, name: &InterfaceName) -> Result<Option<LinkMessage>> {
        match self.handle.link().get().match_name(name.as_str()).execute().try_next().await {
            Ok(link) => Ok(link),
            Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -nix::libc::ENODEV => Ok(None),
            Err(error) => Err(error).with_context(|| format!("look for {name}")),
        }
    }

    /// Without IPv6 link-local addresses, which the kernel assigns.
    async fn addresses(&self, name: &InterfaceName, index: u32) -> Result<Vec<(IpNet, AddressMessage)>> {
        let mut addresses = Vec::new();
        let mut dump = self.handle.address().get().set_link_index_filter(index).execute();
        while let Some(message) = dump.try_next().await.with_context(|| format!("list the addresses of {name}"))? {
            let address = message.attributes.iter().find_map(|attribute| {
                if let AddressAttribute::Address(address) = attribute { Some(*address) } else { None }
            });
            let net = address.and_then(|address| IpNet::new(address, message.header.prefix_len).ok());
            if let Some(net) = net.filter(|net| !is_link_local(net.addr())) {
                addresses.push((net, message));
            }
        }
        Ok(addresses)
    }

    /// The networks that the main table routes to a link without a gateway between.
    async fn routes(&self, name: &InterfaceName, index: u32, version: AddressFamily) -> Result<Vec<IpNet>> {
        let mut query = RouteMessage::default();
        query.header.address_family = version;
        query.header.table = RouteHeader::RT_TABLE_MAIN;
        query.attributes.push(RouteAttribute::Oif(index));
        let routes: std::result::Result<Vec<_>, _> = self.handle.route().get(query).execute().try_collect().await;
        match routes {
            Ok(routes) => Ok(routes.iter().filter_map(network).collect()),
            // A table that has never had a route, and a link that has just gone.
            Err(rtnetlink::Error::NetlinkError(error))
                if [-nix::libc::ENOENT, -nix::libc::ENODEV].contains(&error.raw_code()) =>
            {
                Ok(Vec::new())
            }
            Err(error) => Err(error).with_context(|| format!("list the routes to {name}")),
        }
    }
}

pub(super) async fn kind(name: &InterfaceName) -> Result<Kind> {
    let Some(link) = Netlink::open()?.link(name).await? else { return Ok(Kind::Absent) };
    let kind = link.attributes.iter().find_map(|attribute| {
        let LinkAttribute::LinkInfo(infos) = attribute else { return None };
        infos.iter().find_map(|info| if let LinkInfo::Kind(kind) = info { Some(kind) } else { None })
    });
    Ok(match kind {
        Some(kind) if *kind == InfoKind::Wireguard => Kind::WireGuard,
        Some(kind) => Kind::Other(kind.to_string()),
        None => Kind::Other("hardware".to_owned()),
    })
}

/// What rtnetlink tells of a link.
pub(super) struct Link {
    pub(super) mtu: Option<u32>,
    pub(super) is_up: bool,
    /// Without IPv6's link-local ones.
    pub(super) addresses: Vec<IpNet>,
    /// The networks that are routed to it, of the IP versions that it has addresses of.
    pub(super) routes: Vec<IpNet>,
}

/// The link now, if there is one.
pub(super) async fn read(name: &InterfaceName) -> Result<Option<Link>> {
    let netlink = Netlink::open()?;
    let Some(link) = netlink.link(name).await? else { return Ok(None) };
    let mtu = link
        .attributes
        .iter()
        .find_map(|attribute| if let LinkAttribute::Mtu(mtu) = attribute { Some(*mtu) } else { None });
    let index = link.header.index;
    let addresses: Vec<IpNet> = netlink.addresses(name, index).await?.into_iter().map(|(net, _)| net).collect();
    let mut routes = Vec::new();
    for (version, is_version) in [
        (AddressFamily::Inet, IpAddr::is_ipv4 as fn(&IpAddr) -> bool),
        (AddressFamily::Inet6, IpAddr::is_ipv6 as fn(&IpAddr) -> bool),
    ] {
        if addresses.iter().any(|net| is_version(&net.addr())) {
            routes.extend(Netlink::open_strict()?.routes(name, index, version).await?);
        }
    }
    Ok(Some(Link { mtu, is_up: link.header.flags.contains(LinkFlags::Up), addresses, routes }))
}

pub(super) async fn set_mtu(name: &InterfaceName, mtu: u16) -> Result<()> {
    change(name, |link| link.mtu(u32::from(mtu))).await.with_context(|| format!("set the MTU of {name} to {mtu}"))
}

pub(super) async fn bring_up(name: &InterfaceName) -> Result<()> {
    change(name, LinkMessageBuilder::up).await.with_context(|| format!("bring {name} up"))
}

pub(super) async fn take_down(name: &InterfaceName) -> Result<()> {
    change(name, LinkMessageBuilder::down).await.with_context(|| format!("take {name} down"))
}

async fn change(
    name: &InterfaceName,
    change: impl FnOnce(LinkMessageBuilder<LinkUnspec>) -> LinkMessageBuilder<LinkUnspec>,
) -> Result<()> {
    let netlink = Netlink::open()?;
    let link = netlink.link(name).await?.context("it has vanished")?;
    let change = change(LinkUnspec::new_with_index(link.header.index)).build();
    Ok(netlink.handle.link().set(change).execute().await?)
}

pub(super) async fn add_address(name: &InterfaceName, net: IpNet) -> Result<()> {
    let doing = || format!("give {name} the address {net}");
    let netlink = Netlink::open()?;
    let link = netlink.link(name).await?.context("it has vanished").with_context(doing)?;
    netlink.handle.address().add(link.header.index, net.addr(), net.prefix_len()).execute().await.with_context(doing)
}

pub(super) async fn remove_address(name: &InterfaceName, net: IpNet) -> Result<()> {
    let doing = || format!("remove the address {net} of {name}");
    let netlink = Netlink::open()?;
    let Some(link) = netlink.link(name).await? else { return Ok(()) };
    for (present, message) in netlink.addresses(name, link.header.index).await? {
        if present == net {
            netlink.handle.address().del(message).execute().await.with_context(doing)?;
        }
    }
    Ok(())
}

/// Makes the route that the kernel makes with this address, in place of any other to the same network.
pub(super) async fn add_route(name: &InterfaceName, net: IpNet) -> Result<()> {
    let doing = || format!("route {} to {name}", net.trunc());
    let netlink = Netlink::open()?;
    let index = netlink.link(name).await?.context("it has vanished").with_context(doing)?.header.index;
    let message = match net {
        IpNet::V4(net) => RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(net.network(), net.prefix_len())
            .pref_source(net.addr())
            .scope(RouteScope::Link)
            .protocol(RouteProtocol::Kernel)
            .output_interface(index)
            .build(),
        // IP6_RT_PRIO_ADDRCONF (net/ip6_route.h).
        IpNet::V6(net) => RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(net.network(), net.prefix_len())
            .priority(256)
            .protocol(RouteProtocol::Kernel)
            .output_interface(index)
            .build(),
    };
    netlink.handle.route().add(message).replace().execute().await.with_context(doing)
}

pub(super) async fn delete(name: &InterfaceName) -> Result<()> {
    let netlink = Netlink::open()?;
    if let Some(link) = netlink.link(name).await? {
        netlink.handle.link().del(link.header.index).execute().await?;
    }
    Ok(())
}

/// The interface of the default route with the lowest metric, IPv4's before IPv6's.
pub(crate) async fn default_route_interface() -> Result<InterfaceName> {
    let netlink = Netlink::open()?;
    for query in [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()] {
        let routes: Vec<RouteMessage> =
            netlink.handle.route().get(query).execute().try_collect().await.context("list the routes")?;
        let best = routes.iter().filter(|route| is_default(route)).min_by_key(|route| metric(route));
        let Some(index) = best.and_then(output_interface) else { continue };
        let link = netlink.handle.link().get().match_index(index).execute().try_next().await.context("read a link")?;
        let name = link
            .iter()
            .flat_map(|link| &link.attributes)
            .find_map(|attribute| if let LinkAttribute::IfName(name) = attribute { Some(name) } else { None });
        return InterfaceName::parse(name.context("an interface without a name")?);
    }
    anyhow::bail!("this host has no default route; expected the interface that leads to the outside, like \"eth0\"")
}

/// The network of a route without a gateway.
fn network(route: &RouteMessage) -> Option<IpNet> {
    let is_direct = route.header.kind == RouteType::Unicast
        && !route.attributes.iter().any(|it| matches!(it, RouteAttribute::Gateway(_) | RouteAttribute::Via(_)));
    let address = route.attributes.iter().find_map(|attribute| {
        if let RouteAttribute::Destination(RouteAddress::Inet(address)) = attribute {
            Some(IpAddr::V4(*address))
        } else if let RouteAttribute::Destination(RouteAddress::Inet6(address)) = attribute {
            Some(IpAddr::V6(*address))
        } else {
            None
        }
    });
    IpNet::new(address.filter(|_| is_direct)?, route.header.destination_prefix_length).ok()
}

fn is_default(route: &RouteMessage) -> bool {
    route.header.destination_prefix_length == 0
        && route.header.table == RouteHeader::RT_TABLE_MAIN
        && output_interface(route).is_some()
}

fn output_interface(route: &RouteMessage) -> Option<u32> {
    route
        .attributes
        .iter()
        .find_map(|attribute| if let RouteAttribute::Oif(index) = attribute { Some(*index) } else { None })
}

fn metric(route: &RouteMessage) -> u32 {
    let metric = route
        .attributes
        .iter()
        .find_map(|attribute| if let RouteAttribute::Priority(metric) = attribute { Some(*metric) } else { None });
    metric.unwrap_or(0)
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::{alone, sh};

    #[test]
    fn a_network_s_route_is_seen_and_made_as_the_kernel_made_it() {
        alone("interface::link::tests::inside_routes");
    }

    #[tokio::test]
    #[ignore = "run by the test above in a network of its own"]
    async fn inside_routes() {
        let name = InterfaceName::parse("wg0").unwrap();
        let nets: Vec<IpNet> = ["203.0.113.1/24", "fd3b::1/64"].map(|net| net.parse().unwrap()).to_vec();
        sh("ip link add wg0 type veth peer name other; ip link set other up; ip link set wg0 up
            ip addr add 203.0.113.1/24 dev wg0; ip addr add fd3b::1/64 dev wg0 nodad
            ip link add elsewhere type veth peer name more; ip link set elsewhere up");
        let listed = || sh("ip route show; ip -6 route show dev wg0");
        let routed = async || -> Vec<bool> {
            let routes = read(&name).await.unwrap().unwrap().routes;
            assert!(!routes.contains(&"192.0.2.0/24".parse().unwrap()), "that is behind a gateway");
            nets.iter().map(|net| routes.contains(&net.trunc())).collect()
        };
        let before = listed();
        sh("ip route add 192.0.2.0/24 via 203.0.113.9");
        assert_eq!(routed().await, [true, true]);
        sh("ip route del 192.0.2.0/24");
        for (change, expected) in [
            ("ip route flush dev wg0", [false, true]),
            ("ip -6 route del fd3b::/64 dev wg0", [true, false]),
            ("ip route replace 203.0.113.0/24 dev elsewhere", [false, true]),
            ("ip route replace blackhole 203.0.113.0/24", [false, true]),
        ] {
            sh(change);
            assert_eq!(routed().await, expected, "{change}");
            for (net, _) in nets.iter().zip(expected).filter(|(_, is_there)| !is_there) {
                add_route(&name, *net).await.unwrap();
            }
            assert_eq!(routed().await, [true, true], "{change}");
            assert_eq!(listed(), before, "{change}");
        }
    }
}
