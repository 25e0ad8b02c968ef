//! Links, addresses and routes, over rtnetlink.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result};
use futures_util::TryStreamExt;
use ipnet::IpNet;
use netlink_packet_route::address::AddressAttribute;
use netlink_packet_route::route::{RouteAttribute, RouteMetric, RouteScope};
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};
use tokio::task::JoinSet;

use super::WG0;
use crate::config::Tunnel;

/// A netlink socket in the namespace of the thread that opened it.
pub(crate) struct Links {
    handle: Handle,
    /// Carries the messages; ends with this value.
    _connection: JoinSet<()>,
}

impl Links {
    /// Opens the socket; needs a runtime.
    pub(super) fn open() -> Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection().context("open a netlink socket")?;
        let mut tasks = JoinSet::new();
        tasks.spawn(connection);
        Ok(Self { handle, _connection: tasks })
    }

    pub(super) async fn loopback_up(&self) -> Result<()> {
        let index = self.index("lo").await?;
        let request = LinkUnspec::new_with_index(index).up().build();
        self.handle.link().set(request).execute().await.context("set lo up")
    }

    /// Moves a link of this namespace to another.
    pub(super) async fn give_away(&self, name: &str, namespace: &OwnedFd) -> Result<()> {
        let index = self.index(name).await?;
        let request = LinkUnspec::new_with_index(index).setns_by_fd(namespace.as_raw_fd()).build();
        let context = || format!("move {name} out of the relay's namespace");
        self.handle.link().set(request).execute().await.with_context(context)
    }

    /// Gives wg0 these addresses and no others, sets it up, and routes everything through it.
    pub(crate) async fn assign(&self, tunnel: &Tunnel, addresses: &[IpNet]) -> Result<()> {
        let index = self.index(WG0).await?;
        self.remove_other_addresses(index, addresses).await?;
        for address in addresses {
            // The kernel adds the route to the address's network, which so has wg0's own MTU.
            let request = self.handle.address().add(index, address.addr(), address.prefix_len()).replace();
            request.execute().await.with_context(|| format!("add address {address} to wg0"))?;
        }
        let request = LinkUnspec::new_with_index(index).mtu(u32::from(tunnel.mtu)).up().build();
        let context = || format!("set wg0 up with MTU {}", tunnel.mtu);
        self.handle.link().set(request).execute().await.with_context(context)?;
        for address in addresses {
            self.default_route(index, address.addr(), tunnel.default_route_mtu).await?;
        }
        Ok(())
    }

    async fn remove_other_addresses(&self, index: u32, addresses: &[IpNet]) -> Result<()> {
        let present: Vec<_> = self
            .handle
            .address()
            .get()
            .set_link_index_filter(index)
            .execute()
            .try_collect()
            .await
            .context("wg0's addresses")?;
        for message in present {
            let is_wanted = addresses.iter().any(|address| {
                message.header.prefix_len == address.prefix_len()
                    && message.attributes.contains(&AddressAttribute::Address(address.addr()))
            });
            if !is_wanted {
                self.handle.address().del(message).execute().await.context("remove an address from wg0")?;
            }
        }
        Ok(())
    }

    async fn default_route(&self, index: u32, family: IpAddr, mtu: u16) -> Result<()> {
        let metrics = RouteAttribute::Metrics(vec![RouteMetric::Mtu(u32::from(mtu))]);
        let mut message = match family {
            IpAddr::V4(_) => {
                RouteMessageBuilder::<Ipv4Addr>::new().output_interface(index).scope(RouteScope::Link).build()
            }
            IpAddr::V6(_) => RouteMessageBuilder::<Ipv6Addr>::new().output_interface(index).build(),
        };
        message.attributes.push(metrics);
        let request = self.handle.route().add(message).replace();
        let version = if family.is_ipv4() { 4 } else { 6 };
        request.execute().await.with_context(|| format!("add the IPv{version} default route through wg0, MTU {mtu}"))
    }

    async fn index(&self, name: &str) -> Result<u32> {
        let link = self.handle.link().get().match_name(name).execute().try_next().await;
        Ok(link
            .with_context(|| format!("find link {name}"))?
            .with_context(|| format!("there is no link {name}"))?
            .header
            .index)
    }
}
