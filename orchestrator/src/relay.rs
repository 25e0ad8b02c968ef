//! The relay process: carries wg0's datagrams and the control messages between PID 1 and a hostile parent.
//!
//! It has a network namespace of its own with only `lo`, sees no inner traffic, and holds no key.

mod control;
mod data;
mod retry;
mod stream;

use std::net::UdpSocket;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use tokio::sync::watch;
use tunnel::preface;

use crate::link::Link;
use crate::network::WIREGUARD_ADDR;
use crate::role::Role;
use crate::{sandbox, sys};
use control::Control;
use data::Data;
use stream::keep_open;

/// The descriptors that PID 1 leaves to the relay.
const LINK_FD: i32 = 3;
const UDP_FD: i32 = 4;

/// Runs until PID 1 closes the link; dials both streams again without a limit.
///
/// # Errors
/// The sandbox, or a socket that PID 1 should have left.
pub(crate) fn run() -> Result<()> {
    let link = sys::inherited(LINK_FD).context("the link to PID 1")?;
    let udp: OwnedFd = sys::inherited(UDP_FD).context("the UDP socket")?;
    let runtime = crate::runtime::single_threaded()?;
    runtime.block_on(async {
        let link = Link::new(link).context("the link to PID 1")?;
        let udp = tunnel::udp::UdpSocket::new(UdpSocket::from(udp), WIREGUARD_ADDR).context("the UDP socket")?;
        sandbox::enter(Role::Relay)?;
        let (is_up, data_is_up) = watch::channel(false);
        let (mut data, mut control) = (Data::new(udp, is_up), Control::new(link, data_is_up));
        let end = tokio::select! {
            end = keep_open(preface::Role::Data, async |stream| Ok(data.carry(stream).await)) => end,
            end = keep_open(preface::Role::Control, async |stream| control.serve(stream).await) => end,
        };
        match end? {}
    })
}
