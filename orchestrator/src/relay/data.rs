//! The data stream: wg0's datagrams in frames.

use tokio::sync::watch;
use tunnel::counters::Counters;
use tunnel::pump::{Pump, Settings};
use tunnel::udp::UdpSocket;
use tunnel::vsock::Stream;

/// What outlives each data stream.
pub(super) struct Data {
    udp: UdpSocket,
    pump: Pump,
    counters: Counters,
    is_up: watch::Sender<bool>,
}

impl Data {
    pub(super) fn new(udp: UdpSocket, is_up: watch::Sender<bool>) -> Self {
        Self { udp, pump: Pump::new(Settings::default()), counters: Counters::default(), is_up }
    }

    /// Carries datagrams until the stream ends; returns why it ended.
    pub(super) async fn carry(&mut self, mut stream: Stream) -> String {
        self.is_up.send_replace(true);
        let (mut reader, mut writer) = stream.split();
        let (mut receiver, mut sender) = self.udp.split();
        let end = self.pump.run(&mut reader, &mut writer, &mut receiver, &mut sender, &self.counters).await;
        self.is_up.send_replace(false);
        tracing::info!(counters = ?self.counters.snapshot(), "relay: datagrams carried so far");
        end.to_string()
    }
}
