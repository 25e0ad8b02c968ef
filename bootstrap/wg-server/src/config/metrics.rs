//! `[metrics]`: where `wg-server metrics` is asked for its page.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;
use serde::Deserialize;

/// As the exporter of WireGuard that most people use.
const DEFAULT_LISTEN: &str = "127.0.0.1:9586";

/// `[metrics]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Metrics {
    /// TCP.
    pub(crate) listen: SocketAddr,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct MetricsTable {
    listen: String,
}

impl Default for MetricsTable {
    fn default() -> Self {
        Self { listen: DEFAULT_LISTEN.to_owned() }
    }
}

impl MetricsTable {
    pub(super) fn check(self, gateways: &[IpNet]) -> Result<Metrics> {
        let listen: SocketAddr = self.listen.parse().with_context(|| {
            format!(
                "metrics.listen: {:?}, expected an address of this host with a TCP port like {DEFAULT_LISTEN:?}",
                self.listen
            )
        })?;
        ensure!(listen.port() != 0, "metrics.listen: 0 is not a port, expected 1 to 65535, usually 9586");
        ensure!(
            !gateways.iter().any(|net| net.contains(&listen.ip())),
            "metrics.listen: {} is in the enclaves' own network, expected {DEFAULT_LISTEN:?}, or an address that your Prometheus reaches",
            listen.ip()
        );
        Ok(Metrics { listen })
    }
}
