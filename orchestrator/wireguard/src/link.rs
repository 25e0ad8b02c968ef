//! Links, their addresses and their routes, over rtnetlink.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use futures_util::TryStreamExt;
use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, RouteMessageBuilder};
use thiserror::Error;
use tokio::task::JoinSet;

/// ENOENT (asm-generic/errno-base.h), negative as netlink has it.
const NOT_FOUND: i32 = -2;

/// ENODEV (asm-generic/errno-base.h), negative as netlink has it.
const NO_DEVICE: i32 = -19;

/// A netlink socket in the namespace of the thread that opened it, and the task that serves it; both end together.
#[derive(Debug)]
pub struct Netlink {
    handle: Handle,
    _connection: JoinSet<()>,
}

/// A link as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    index: u32,
    /// What made it.
    pub kind: Kind,
    /// In bytes.
    pub mtu: Option<u32>,
    /// Whether it was set up.
    pub is_up: bool,
}

/// The kind of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// WireGuard.
    WireGuard,
    /// Another, by the kernel's name, or `hardware`.
    Other(String),
}

/// An IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpVersion {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// What could not be done.
#[derive(Debug, Error)]
#[error("{doing}")]
pub struct LinkError {
    doing: String,
    #[source]
    cause: Cause,
}

#[derive(Debug, Error)]
enum Cause {
    #[error("the link does not exist")]
    Missing,
    #[error(transparent)]
    Open(#[from] io::Error),
    #[error(transparent)]
    Netlink(#[from] rtnetlink::Error),
}

type Result<T, E = LinkError> = std::result::Result<T, E>;

impl Netlink {
    /// Opens the socket; needs a runtime.
    ///
    /// # Errors
    /// The system's.
    pub fn open() -> Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection().doing(|| "open a netlink socket".to_owned())?;
        let mut tasks = JoinSet::new();
        tasks.spawn(connection);
        Ok(Self { handle, _connection: tasks })
    }

    /// One whose answers hold what was asked for, and not whole tables: a host may have a million routes.
    fn open_strict() -> Result<Self> {
        let opened = rtnetlink::new_connection_with_strict_check();
        let (connection, handle, _) = opened.doing(|| "open a netlink socket that filters".to_owned())?;
        let mut tasks = JoinSet::new();
        tasks.spawn(connection);
        Ok(Self { handle, _connection: tasks })
    }

    /// The link of that name, if there is one.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn link(&self, name: &str) -> Result<Option<Link>> {
        let message = self.find(name).await.doing(|| format!("look for {name}"))?;
        Ok(message.as_ref().map(Link::from))
    }

    /// Sets a link up.
    ///
    /// # Errors
    /// There is none, and the kernel's.
    pub async fn set_up(&self, name: &str) -> Result<()> {
        self.change(name, LinkMessageBuilder::up, || format!("set {name} up")).await
    }

    /// Sets a link down.
    ///
    /// # Errors
    /// As [`Netlink::set_up`].
    pub async fn set_down(&self, name: &str) -> Result<()> {
        self.change(name, LinkMessageBuilder::down, || format!("set {name} down")).await
    }

    /// Sets the MTU of a link.
    ///
    /// # Errors
    /// As [`Netlink::set_up`].
    pub async fn set_mtu(&self, name: &str, mtu: u16) -> Result<()> {
        self.change(name, |link| link.mtu(u32::from(mtu)), || format!("set the MTU of {name} to {mtu}")).await
    }

    /// Moves a link of this namespace to another.
    ///
    /// # Errors
    /// As [`Netlink::set_up`].
    pub async fn move_to(&self, name: &str, namespace: BorrowedFd<'_>) -> Result<()> {
        let doing = || format!("move {name} to another network namespace");
        self.change(name, |link| link.setns_by_fd(namespace.as_raw_fd()), doing).await
    }

    /// Deletes a link, if there is one.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn delete(&self, name: &str) -> Result<()> {
        let Some(Link { index, .. }) = self.link(name).await? else { return Ok(()) };
        self.handle.link().del(index).execute().await.doing(|| format!("delete {name}"))
    }

    /// The addresses of a link, with the prefixes of their networks; none if there is no link.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn addresses(&self, name: &str) -> Result<Vec<IpNet>> {
        Ok(self.address_messages(name).await?.into_iter().map(|(net, _)| net).collect())
    }

    /// Gives a link an address. The kernel adds the route to the address's network.
    ///
    /// # Errors
    /// As [`Netlink::set_up`].
    pub async fn add_address(&self, name: &str, net: IpNet) -> Result<()> {
        let doing = || format!("give {name} the address {net}");
        let index = self.index(name).await.doing(doing)?;
        let request = self.handle.address().add(index, net.addr(), net.prefix_len()).replace();
        request.execute().await.doing(doing)
    }

    /// Removes an address of a link, if the link has it.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn remove_address(&self, name: &str, net: IpNet) -> Result<()> {
        for (present, message) in self.address_messages(name).await? {
            if present == net {
                let removed = self.handle.address().del(message).execute().await;
                removed.doing(|| format!("remove the address {net} of {name}"))?;
            }
        }
        Ok(())
    }

    /// The networks that the main table routes to a link without a gateway between.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn routes(&self, name: &str, version: IpVersion) -> Result<Vec<IpNet>> {
        let Some(Link { index, .. }) = self.link(name).await? else { return Ok(Vec::new()) };
        let mut query = RouteMessage::default();
        query.header.address_family = version.family();
        query.header.table = RouteHeader::RT_TABLE_MAIN;
        query.attributes.push(RouteAttribute::Oif(index));
        let strict = Self::open_strict()?;
        let routes: Result<Vec<_>, _> = strict.handle.route().get(query).execute().try_collect().await;
        match routes {
            Ok(routes) => Ok(routes.iter().filter_map(network).collect()),
            // A table that has never had a route, and a link that has just gone.
            Err(rtnetlink::Error::NetlinkError(error)) if [NOT_FOUND, NO_DEVICE].contains(&error.raw_code()) => {
                Ok(Vec::new())
            }
            Err(error) => Err(error).doing(|| format!("list the routes to {name}")),
        }
    }

    /// Makes the route that the kernel makes with this address, in place of any other to the same network.
    ///
    /// # Errors
    /// As [`Netlink::set_up`].
    pub async fn route_network(&self, name: &str, net: IpNet) -> Result<()> {
        let doing = || format!("route {} to {name}", net.trunc());
        let index = self.index(name).await.doing(doing)?;
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
        self.handle.route().add(message).replace().execute().await.doing(doing)
    }

    /// Makes a link the default route of an IP version, with an MTU of its own.
    ///
    /// # Errors
    /// As [`Netlink::set_up`].
    pub async fn route_default(&self, name: &str, version: IpVersion, mtu: u16) -> Result<()> {
        let doing = || format!("add the {version} default route through {name}, MTU {mtu}");
        let index = self.index(name).await.doing(doing)?;
        let mut message = match version {
            IpVersion::V4 => {
                RouteMessageBuilder::<Ipv4Addr>::new().output_interface(index).scope(RouteScope::Link).build()
            }
            IpVersion::V6 => RouteMessageBuilder::<Ipv6Addr>::new().output_interface(index).build(),
        };
        message.attributes.push(RouteAttribute::Metrics(vec![RouteMetric::Mtu(u32::from(mtu))]));
        self.handle.route().add(message).replace().execute().await.doing(doing)
    }
    /// The interface of the default route with the lowest metric, IPv4's before IPv6's; none without a default route.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn default_route_interface(&self) -> Result<Option<String>> {
        for query in [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()] {
            let routes: Result<Vec<RouteMessage>, _> = self.handle.route().get(query).execute().try_collect().await;
            let routes = routes.doing(|| "list the routes".to_owned())?;
            let best = routes.iter().filter(|route| is_default(route)).min_by_key(|route| metric(route));
            let Some(index) = best.and_then(output_interface) else { continue };
            let link = self.handle.link().get().match_index(index).execute().try_next().await;
            let link = link.doing(|| format!("read the link {index}"))?;
            let name = link.iter().flat_map(|link| &link.attributes).find_map(|attribute| {
                if let LinkAttribute::IfName(name) = attribute { Some(name.clone()) } else { None }
            });
            if name.is_some() {
                return Ok(name);
            }
        }
        Ok(None)
    }

    async fn find(&self, name: &str) -> Result<Option<LinkMessage>, rtnetlink::Error> {
        match self.handle.link().get().match_name(name).execute().try_next().await {
            Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == NO_DEVICE => Ok(None),
            found => found,
        }
    }

    async fn index(&self, name: &str) -> Result<u32, Cause> {
        Ok(self.find(name).await?.ok_or(Cause::Missing)?.header.index)
    }

    async fn change(
        &self,
        name: &str,
        change: impl FnOnce(LinkMessageBuilder<LinkUnspec>) -> LinkMessageBuilder<LinkUnspec>,
        doing: impl FnOnce() -> String,
    ) -> Result<()> {
        let changed = async {
            let change = change(LinkUnspec::new_with_index(self.index(name).await?)).build();
            Ok::<_, Cause>(self.handle.link().set(change).execute().await?)
        };
        changed.await.doing(doing)
    }

    async fn address_messages(&self, name: &str) -> Result<Vec<(IpNet, AddressMessage)>> {
        let Some(Link { index, .. }) = self.link(name).await? else { return Ok(Vec::new()) };
        let dump = self.handle.address().get().set_link_index_filter(index).execute();
        let messages: Result<Vec<_>, _> = dump.try_collect().await;
        let messages = messages.doing(|| format!("list the addresses of {name}"))?;
        let with_net = |message: AddressMessage| {
            let address = message.attributes.iter().find_map(|attribute| {
                if let AddressAttribute::Address(address) = attribute { Some(*address) } else { None }
            });
            let net = address.and_then(|address| IpNet::new(address, message.header.prefix_len).ok());
            net.map(|net| (net, message))
        };
        Ok(messages.into_iter().filter_map(with_net).collect())
    }
}

impl From<&LinkMessage> for Link {
    fn from(message: &LinkMessage) -> Self {
        let kind = message.attributes.iter().find_map(|attribute| {
            let LinkAttribute::LinkInfo(infos) = attribute else { return None };
            infos.iter().find_map(|info| if let LinkInfo::Kind(kind) = info { Some(kind) } else { None })
        });
        let kind = match kind {
            Some(kind) if *kind == InfoKind::Wireguard => Kind::WireGuard,
            Some(kind) => Kind::Other(kind.to_string()),
            None => Kind::Other("hardware".to_owned()),
        };
        let mtu = message
            .attributes
            .iter()
            .find_map(|attribute| if let LinkAttribute::Mtu(mtu) = attribute { Some(*mtu) } else { None });
        Self { index: message.header.index, kind, mtu, is_up: message.header.flags.contains(LinkFlags::Up) }
    }
}

impl IpVersion {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The version of an address.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    const fn family(self) -> AddressFamily {
        match self {
            Self::V4 => AddressFamily::Inet,
            Self::V6 => AddressFamily::Inet6,
        }
    }
}

impl fmt::Display for IpVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

trait Doing<T> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Cause>> Doing<T> for Result<T, E> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|cause| LinkError { doing: doing(), cause: cause.into() })
    }
}

/// Where a route leads that leads there itself.
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
