//! The data stream: wg0's datagrams in frames, for as long as the parent lets them through.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::sync::watch;
use tokio::time::timeout;
use tunnel::counters::Counters;
use tunnel::port::{Cid, Port};
use tunnel::preface::{Preface, Role};
use tunnel::pump::{Pump, Settings};
use tunnel::udp::UdpSocket;
use tunnel::vsock;

use super::retry::Retry;

/// For the connection, and once more for the preface.
const DEADLINE: Duration = Duration::from_secs(2);

/// Dials, pumps, and dials again.
pub(super) async fn run(mut udp: UdpSocket, is_up: &watch::Sender<bool>) -> Infallible {
    let counters = Counters::default();
    let mut pump = Pump::new(Settings::default());
    let mut retry = Retry::new("data");
    loop {
        let mut stream = match dial().await {
            Ok(stream) => stream,
            Err(error) => {
                retry.pause(format_args!("{error:#}"), None).await;
                continue;
            }
        };
        let start = Instant::now();
        retry.connected(start);
        is_up.send_replace(true);
        let end = {
            let (mut reader, mut writer) = stream.split();
            let (mut receiver, mut sender) = udp.split();
            pump.run(&mut reader, &mut writer, &mut receiver, &mut sender, &counters).await
        };
        drop(stream);
        is_up.send_replace(false);
        tracing::info!(counters = ?counters.snapshot(), "relay: so far");
        retry.pause(end, Some(start.elapsed())).await;
    }
}

async fn dial() -> Result<vsock::Stream> {
    let mut stream = vsock::connect(Cid::PARENT, Port::DATA, DEADLINE).await?;
    let exchange = Preface::new(Role::Data).exchange(&mut stream);
    timeout(DEADLINE, exchange).await.context("wait for the preface")?.context("exchange prefaces")?;
    Ok(stream)
}
