//! The operator's `relay.toml`.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// The checked contents of `relay.toml`: the gateway's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Config {
    /// UDP address of its WireGuard.
    pub(super) data: SocketAddr,
    /// TCP address of its wg-server.
    pub(super) control: SocketAddr,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    gateway: GatewayTable,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GatewayTable {
    data: String,
    control: String,
}

impl Config {
    /// Reads and checks a file.
    pub(super) fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    fn parse(text: &str) -> Result<Self> {
        let File { gateway } = toml::from_str(text)?;
        Ok(Self {
            data: address("gateway.data", &gateway.data, "192.0.2.10:51820")?,
            control: address("gateway.control", &gateway.control, "192.0.2.10:821")?,
        })
    }
}

fn address(key: &str, text: &str, like: &str) -> Result<SocketAddr> {
    let address: SocketAddr = text
        .parse()
        .with_context(|| format!("{key}: {text:?}, expected the gateway's address with a port like {like:?}"))?;
    let ip = address.ip();
    ensure!(
        !ip.is_unspecified() && !ip.is_multicast() && address.port() != 0,
        "{key}: {text:?} is not the address of a host, expected the gateway's address with a port like {like:?}"
    );
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = include_str!("../../../../config/parent/relay.toml");
    const LAB: &str = include_str!("../../../lab/config/blind/relay.toml");

    #[test]
    fn the_sample_and_the_lab_s_file_are_right() {
        for text in [SAMPLE, LAB] {
            let config = Config::parse(text).unwrap();
            assert_eq!(config.data.to_string(), "192.0.2.10:51820");
            assert_eq!(config.control.to_string(), "192.0.2.10:821");
        }
    }

    #[test]
    fn every_invalid_value_is_refused_with_what_is_expected() {
        for (from, to, expected) in [
            (
                "data = \"192.0.2.10:51820\"",
                "data = \"192.0.2.10\"",
                "gateway.data: \"192.0.2.10\", expected the gateway's",
            ),
            (
                "data = \"192.0.2.10:51820\"",
                "data = \"0.0.0.0:51820\"",
                "gateway.data: \"0.0.0.0:51820\" is not the address of a host",
            ),
            ("control = \"192.0.2.10:821\"", "control = \"192.0.2.10:0\"", "like \"192.0.2.10:821\""),
            ("control = \"192.0.2.10:821\"", "", "missing field `control`"),
            ("control = ", "port = 1\ncontrol = ", "unknown field `port`"),
        ] {
            assert!(SAMPLE.contains(from), "{from}");
            let error = format!("{:#}", Config::parse(&SAMPLE.replacen(from, to, 1)).unwrap_err());
            assert!(error.contains(expected), "{to}: {error}");
        }
    }
}
