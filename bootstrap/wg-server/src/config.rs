//! The operator's `parent.toml`: read and checked once, typed from then on.

mod addresses;
mod attestation;
mod egress;
mod file;
mod forward;
pub(crate) mod lists;
mod metrics;
mod path;
mod remote;
mod shape;
mod watchdog;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

pub(crate) use self::attestation::{Attestation, AttestationFiles, measurements, root};
pub(crate) use self::egress::{Allowed, Egress, Mode};
pub(crate) use addresses::{Range, Ranges};
pub(crate) use forward::Forward;
pub(crate) use lists::{List, ListId, ListName};
pub(crate) use metrics::Metrics;
pub(crate) use remote::Remote;
pub(crate) use watchdog::Watchdog;

/// `runtime_dir`, unless the file sets it.
pub(crate) const DEFAULT_RUNTIME_DIR: &str = "/run/wg-server";

/// Everything that `parent.toml` says, checked.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) runtime_dir: PathBuf,
    pub(crate) wireguard: WireGuard,
    /// `None`: the enclaves run on this host.
    pub(crate) remote: Option<Remote>,
    pub(crate) enclaves: Enclaves,
    /// To be [loaded](AttestationFiles::load): what an enclave must prove is in separate files.
    pub(crate) attestation: AttestationFiles,
    pub(crate) nat: Nat,
    pub(crate) egress: Egress,
    pub(crate) dns: Dns,
    pub(crate) watchdog: Watchdog,
    pub(crate) metrics: Metrics,
}

/// `[wireguard]`: the gateway's own interface.
#[derive(Clone, Debug)]
pub(crate) struct WireGuard {
    pub(crate) interface: InterfaceName,
    pub(crate) private_key_path: PathBuf,
    pub(crate) listen_port: u16,
    /// At most one per IP version, at least one.
    pub(crate) addresses: Vec<ipnet::IpNet>,
    pub(crate) mtu: u16,
    pub(crate) persistent_keepalive: Duration,
}

/// `[enclaves]`: the enclaves' addresses.
#[derive(Clone, Debug)]
pub(crate) struct Enclaves {
    pub(crate) ranges: Ranges,
    pub(crate) state_dir: PathBuf,
    pub(crate) enclave_to_enclave: bool,
}

/// `[nat]`: outbound and inbound connections.
#[derive(Clone, Debug)]
pub(crate) struct Nat {
    /// `None`: the interface of the default route.
    pub(crate) uplink: Option<InterfaceName>,
    pub(crate) nft_path: PathBuf,
    /// Each port at most once per IP version.
    pub(crate) forwards: Vec<Forward>,
}

/// `[dns]`: what BIND answers.
#[derive(Clone, Debug)]
pub(crate) struct Dns {
    pub(crate) allow_list_path: PathBuf,
    pub(crate) forwarders: Vec<Forwarder>,
    pub(crate) deny: Deny,
    pub(crate) dnssec: bool,
    pub(crate) query_log_path: PathBuf,
    pub(crate) named_path: PathBuf,
    /// The user that named runs as. `None`: the user that BIND's package made.
    pub(crate) user: Option<String>,
    /// Socket of the `wg-server named` that starts named. `None`: wg-server starts it.
    pub(crate) named_socket_path: Option<PathBuf>,
}

/// A name server that named forwards questions for allowed names to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Forwarder {
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
}

/// The answer for a name that is not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Deny {
    /// NXDOMAIN.
    NxDomain,
    /// REFUSED.
    Refused,
}

/// The name of a network interface that Linux and nftables accept, and that is safe inside a path under `/proc/sys`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InterfaceName(String);

impl Config {
    /// Reads and checks a file.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    /// Checks the text of a file.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        shape::ensure(&toml::from_str(text)?)?;
        toml::from_str::<file::File>(text)?.check()
    }
}

impl WireGuard {
    /// The gateway's addresses without prefix lengths.
    pub(crate) fn gateways(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter().map(ipnet::IpNet::addr)
    }
}

impl InterfaceName {
    /// IFNAMSIZ (include/uapi/linux/if.h) is 16 with the terminating zero.
    const MAX_LEN: usize = 15;

    /// Checks a name. The error says what is expected.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        anyhow::ensure!(
            !text.is_empty()
                && text.len() <= Self::MAX_LEN
                && text.bytes().all(is_plain)
                && !text.starts_with(['.', '-'])
                // "all" and "default" are not interfaces but folders under /proc/sys/net/ipv4/conf.
                && !matches!(text, "all" | "default" | "lo"),
            "{text:?} is not the name of an interface, expected 1 to {} letters, digits, `-`, `_` or `.`, like \"wg0\"",
            Self::MAX_LEN
        );
        Ok(Self(text.to_owned()))
    }

    /// As Linux knows it.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests;
