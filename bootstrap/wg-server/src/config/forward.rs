//! `[[nat.forwards]]`: TCP ports of the uplink that are forwarded to enclaves.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::Ranges;

/// One port, for the IP version of the enclave's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Forward {
    /// TCP.
    pub(crate) port: u16,
    /// An address from the enclaves' ranges, and a port.
    pub(crate) to: SocketAddr,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ForwardTable {
    port: u16,
    to: String,
}

impl ForwardTable {
    pub(super) fn check(self, ranges: &Ranges) -> Result<Forward> {
        ensure!(self.port != 0, "nat.forwards.port: 0 is not a port, expected 1 to 65535, usually 443");
        let to: SocketAddr = self.to.parse().with_context(|| {
            format!(
                "nat.forwards.to: {:?}, expected an enclave's address with a port like \"203.0.113.2:443\" or \
                 \"[fd3b:74ac:9d21::2]:443\"",
                self.to
            )
        })?;
        ensure!(to.port() != 0, "nat.forwards.to: {:?} has port 0, expected 1 to 65535, usually 443", self.to);
        let (given, key) = if to.is_ipv4() {
            (ranges.ipv4_given(), "enclaves.ipv4_range")
        } else {
            (ranges.ipv6_given(), "enclaves.ipv6_range")
        };
        let given = given.with_context(|| {
            format!("nat.forwards.to: {:?}, but {key} is not set, expected an address of the other IP version", self.to)
        })?;
        ensure!(
            given.contains(to.ip()),
            "nat.forwards.to: {} is not an enclave's address, expected one of {} to {}",
            to.ip(),
            given.first,
            given.last
        );
        Ok(Forward { port: self.port, to })
    }
}

/// Refuses a port that has two targets.
pub(super) fn ensure_distinct(forwards: &[Forward]) -> Result<()> {
    for (index, forward) in forwards.iter().enumerate() {
        let version = if forward.to.is_ipv4() { 4 } else { 6 };
        ensure!(
            !forwards
                .iter()
                .take(index)
                .any(|other| (other.port, other.to.is_ipv4()) == (forward.port, forward.to.is_ipv4())),
            "nat.forwards.port: {} is used twice for IPv{version}, expected each port at most once per IP version",
            forward.port
        );
    }
    Ok(())
}

impl std::fmt::Display for Forward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TCP port {} is forwarded to {}", self.port, self.to)
    }
}
