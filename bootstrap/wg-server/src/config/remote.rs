//! `[remote]`: enclaves on other hosts, whose parents only relay.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;
use serde::Deserialize;

/// `[remote]`: the gateway serves enclaves on other hosts, and none on this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remote {
    /// TCP.
    pub(crate) listen: SocketAddr,
    /// Networks that connections may come from.
    pub(crate) parents: Vec<IpNet>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RemoteTable {
    listen: String,
    parents: Vec<String>,
}

impl RemoteTable {
    pub(super) fn check(self) -> Result<Remote> {
        let listen: SocketAddr = self.listen.parse().with_context(|| {
            format!(
                "remote.listen: {:?}, expected an address of this host with a TCP port like \"192.0.2.10:821\"",
                self.listen
            )
        })?;
        ensure!(listen.port() != 0, "remote.listen: 0 is not a port, expected 1 to 65535, usually 821");
        let parents = self.parents.iter().map(|text| network(text)).collect::<Result<Vec<_>>>();
        let parents = parents.context("remote.parents")?;
        ensure!(
            !parents.is_empty(),
            "remote.parents: empty, expected the networks or addresses that parents connect from like \"192.0.2.0/24\""
        );
        Ok(Remote { listen, parents })
    }
}

/// A network, or one address.
fn network(text: &str) -> Result<IpNet> {
    let net: IpNet =
        text.parse().or_else(|_| text.parse().map(|address: std::net::IpAddr| IpNet::from(address))).with_context(
            || format!("{text:?}, expected a network or an address like \"192.0.2.0/24\" or \"192.0.2.2\""),
        )?;
    ensure!(net == net.trunc(), "{text:?} has bits beyond its prefix, expected {:?}", net.trunc().to_string());
    Ok(net)
}
