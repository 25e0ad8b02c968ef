//! The relay process: carries wg0's datagrams and the control messages between PID 1 and a hostile parent.
//!
//! It has a network namespace of its own with only `lo`, sees no inner traffic, and holds no key.

mod control;
mod data;
mod log;
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
use log::Log;
use stream::{dial, dial_log, keep_open};

/// The descriptors that PID 1 leaves to the relay.
const LINK_FD: i32 = 3;
const UDP_FD: i32 = 4;
/// Absent if the log stays in the enclave.
const LOG_FD: i32 = 5;

/// Runs until PID 1 closes the link; dials all streams again without a limit.
///
/// # Errors
/// The sandbox, or a socket that PID 1 should have left.
pub(crate) fn run() -> Result<()> {
    let link = sys::inherited(LINK_FD).context("the link to PID 1")?;
    let udp: OwnedFd = sys::inherited(UDP_FD).context("the UDP socket")?;
    let log = sys::inherited(LOG_FD).ok();
    let runtime = crate::runtime::single_threaded()?;
    runtime.block_on(async {
        let link = Link::new(link).context("the link to PID 1")?;
        let udp = tunnel::udp::UdpSocket::new(UdpSocket::from(udp), WIREGUARD_ADDR).context("the UDP socket")?;
        let log = Log::new(log.map(Link::new).transpose().context("the log")?);
        sandbox::enter(Role::Relay)?;
        let (is_up, data_is_up) = watch::channel(false);
        let (mut data, mut control) = (Data::new(udp, is_up), Control::new(link, data_is_up));
        let end = tokio::select! {
            end = keep_open("data", || dial(preface::Role::Data), async |stream| Ok(data.carry(stream).await)) => end,
            end = keep_open("control", || dial(preface::Role::Control), async |stream| control.serve(stream).await) => end,
            never = log.gather() => match never {},
            end = keep_open("log", || log.when_used(dial_log), async |stream| Ok(log.send(stream).await)) => end,
        };
        match end? {}
    })
}
