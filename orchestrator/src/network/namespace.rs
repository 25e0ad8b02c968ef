//! The relay's network namespace: `lo`, the relay's UDP socket, and the socket that wg0 leaves there.

use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, OwnedFd};
use std::thread;

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, unshare};
use wireguard::link::Netlink;

use super::device::Device;
use super::{RELAY_ADDR, WG0, current_namespace};

/// The namespace and what was made in it.
pub(super) struct RelayNamespace {
    pub(super) namespace: OwnedFd,
    pub(super) socket: UdpSocket,
    pub(super) device: Device,
}

/// Makes the namespace on a thread of its own, as a thread cannot be in two.
pub(super) fn create() -> Result<RelayNamespace> {
    let home = current_namespace()?;
    let thread = thread::Builder::new().name("relay-netns".into()).spawn(move || create_here(&home));
    let result = thread.context("start a thread")?.join();
    result.unwrap_or_else(|_| Err(anyhow!("the thread of the relay's namespace panicked")))
}

fn create_here(home: &OwnedFd) -> Result<RelayNamespace> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(io::Error::from).context("make the relay's network namespace")?;
    let namespace = current_namespace()?;
    crate::runtime::single_threaded()?.block_on(async {
        let netlink = Netlink::open()?;
        netlink.set_up("lo").await?;
        // Before wg0 is up: the first handshake would be lost otherwise, and the next is due only 5 s later.
        let socket = UdpSocket::bind(RELAY_ADDR).with_context(|| format!("bind UDP {RELAY_ADDR}"))?;
        tunnel::udp::raise_buffers(&socket).with_context(|| format!("buffers of UDP {RELAY_ADDR}"))?;
        let device = Device::create()?;
        netlink.move_to(WG0, home.as_fd()).await?;
        Ok(RelayNamespace { namespace, socket, device })
    })
}
