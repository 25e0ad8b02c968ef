//! The link side of `wg0`: addresses, MTU, up, through rtnetlink.

use std::net::IpAddr;

use anyhow::{Context, Result};
use futures_util::TryStreamExt;
use ipnet::IpNet;
use netlink_packet_route::address::AddressAttribute;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::route::{RouteAttribute, RouteMessage};
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};
use tokio::task::JoinSet;

use crate::config::InterfaceName;

/// What has a name now.
pub(super) enum Kind {
    Absent,
    WireGuard,
    Other(String),
}

/// A netlink socket and the task that serves it; both end together.
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

    async fn link(&self, name: &InterfaceName) -> Result<Option<LinkMessage>> {
        match self.handle.link().get().match_name(name.as_str()).execute().try_next().await {
            Ok(link) => Ok(link),
            Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -nix::libc::ENODEV => Ok(None),
            Err(error) => Err(error).with_context(|| format!("look for {name}")),
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

/// Gives the link exactly these addresses and this MTU, and brings it up; what is right already is not touched.
pub(super) async fn bring_up(name: &InterfaceName, addresses: &[IpNet], mtu: u16) -> Result<()> {
    let netlink = Netlink::open()?;
    let link = netlink.link(name).await?.with_context(|| format!("{name} has vanished"))?;
    let index = link.header.index;
    let has_mtu = link.attributes.contains(&LinkAttribute::Mtu(u32::from(mtu)));
    if !has_mtu || !link.header.flags.contains(LinkFlags::Up) {
        let change = LinkUnspec::new_with_index(index).mtu(u32::from(mtu)).up().build();
        netlink.handle.link().set(change).execute().await.with_context(|| format!("bring {name} up, MTU {mtu}"))?;
    }
    let mut present = Vec::new();
    let mut dump = netlink.handle.address().get().set_link_index_filter(index).execute();
    while let Some(message) = dump.try_next().await.with_context(|| format!("list the addresses of {name}"))? {
        let address = message.attributes.iter().find_map(|attribute| {
            if let AddressAttribute::Address(address) = attribute { Some(*address) } else { None }
        });
        if let Some(net) = address.and_then(|address| IpNet::new(address, message.header.prefix_len).ok()) {
            present.push((net, message));
        }
    }
    for (net, message) in &present {
        if !addresses.contains(net) && !is_link_local(net.addr()) {
            let removal = netlink.handle.address().del(message.clone()).execute().await;
            removal.with_context(|| format!("remove the address {net} of {name}"))?;
        }
    }
    for net in addresses.iter().filter(|net| !present.iter().any(|(present, _)| present == *net)) {
        let addition = netlink.handle.address().add(index, net.addr(), net.prefix_len()).execute().await;
        addition.with_context(|| format!("give {name} the address {net}"))?;
    }
    Ok(())
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
    for query in [
        RouteMessageBuilder::<std::net::Ipv4Addr>::new().build(),
        RouteMessageBuilder::<std::net::Ipv6Addr>::new().build(),
    ] {
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
    anyhow::bail!("there is no default route: set nat.uplink to the interface that leads to the outside")
}

fn is_default(route: &RouteMessage) -> bool {
    route.header.destination_prefix_length == 0
        && route.header.table == netlink_packet_route::route::RouteHeader::RT_TABLE_MAIN
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
