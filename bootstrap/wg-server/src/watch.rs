//! The kernel's notifications of changes to links, addresses, routes, forwarding and the firewall.
//!
//! Their contents are not read: a notification may be lost when many come at once, so each is only a reason to read the present
//! state.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket};
use tokio::io::unix::AsyncFd;

/// RTNLGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE, _IPV4_NETCONF and _IPV6_NETCONF, as bits
/// (linux/rtnetlink.h). The last two report forwarding.
const ROUTE_GROUPS: u32 = 1 | 1 << 4 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 23 | 1 << 24;
/// NFNLGRP_NFTABLES, as a bit (linux/netfilter/nfnetlink.h).
const NETFILTER_GROUPS: u32 = 1 << 6;

/// Both sockets.
#[derive(Debug)]
pub(crate) struct Watch {
    route: AsyncFd<OwnedFd>,
    netfilter: AsyncFd<OwnedFd>,
}

impl Watch {
    pub(crate) fn open() -> Result<Self> {
        Ok(Self {
            route: subscribe(SockProtocol::NetlinkRoute, ROUTE_GROUPS).context("watch links and addresses")?,
            netfilter: subscribe(SockProtocol::NetlinkNetFilter, NETFILTER_GROUPS).context("watch the firewall")?,
        })
    }

    /// Waits for a change since the last call. Cancel safe.
    pub(crate) async fn changed(&self) -> io::Result<()> {
        tokio::select! {
            changed = drain(&self.route) => changed,
            changed = drain(&self.netfilter) => changed,
        }
    }
}

fn subscribe(protocol: SockProtocol, groups: u32) -> io::Result<AsyncFd<OwnedFd>> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
    // Port 0: the kernel gives each socket one of its own.
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    crate::sys::watchable(socket)
}

/// Waits for a notification and reads all pending ones.
async fn drain(socket: &AsyncFd<OwnedFd>) -> io::Result<()> {
    let mut ready = socket.readable().await?;
    let mut buffer = [0; 64];
    loop {
        // What does not fit is cut off (netlink(7), recvmsg).
        match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(_) | Err(Errno::ENOBUFS | Errno::EINTR) => {}
            Err(Errno::EWOULDBLOCK) => {
                ready.clear_ready();
                return Ok(());
            }
            Err(error) => return Err(io::Error::from_raw_os_error(error as libc::c_int)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::namespace::{alone, sh};

    const SOON: Duration = Duration::from_secs(2);
    const A_WHILE: Duration = Duration::from_millis(300);

    #[test]
    fn a_change_of_the_host_is_noticed_and_silence_is_not() {
        alone("watch::tests::inside_changes");
    }

    #[tokio::test]
    #[ignore = "run by the test above in a network of its own"]
    async fn inside_changes() {
        // The kernel's own addresses come when they like.
        sh("echo 1 > /proc/sys/net/ipv6/conf/default/addr_gen_mode; ip link add wg0 type veth peer name other; ip link set wg0 up; ip addr add 203.0.113.1/24 dev wg0
            ip link set other up; ip addr add fd3b::1/64 dev wg0 nodad
            echo 1 > /proc/sys/net/ipv4/conf/wg0/forwarding");
        let watch = Watch::open().unwrap();
        // Links take a moment to find their carrier.
        while timeout(A_WHILE, watch.changed()).await.is_ok() {}
        assert!(timeout(A_WHILE, watch.changed()).await.is_err(), "nothing has changed");
        for change in [
            "ip route flush dev wg0",
            "ip -6 route del fd3b::/64 dev wg0",
            "ip addr flush dev wg0",
            "ip link set wg0 mtu 1400",
            "ip link set wg0 down",
            "echo 0 > /proc/sys/net/ipv4/conf/wg0/forwarding",
            "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding",
            "nft add table inet other",
            "nft flush ruleset",
            "ip link del wg0",
        ] {
            sh(change);
            assert!(timeout(SOON, watch.changed()).await.is_ok(), "not noticed: {change}");
            while timeout(A_WHILE, watch.changed()).await.is_ok() {}
        }
    }
}
