//! `[egress]`: which addresses enclaves may reach besides those of names on the allow-list.

use std::net::IpAddr;

use anyhow::{Context, Result, bail, ensure};
use egress::{Destination, DestinationError, Host, Port};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::Deserialize;

use super::lists::{self, List, ListId, ListTable};
use crate::dns::MAX_NAMES;

/// The instance metadata service (docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html). The signer
/// gets the credentials of the instance's role there.
const METADATA: &str = "169.254.169.254:80";
/// Far more than anybody maintains by hand. Limits the number of rules that a packet passes.
const MAX_DESTINATIONS: usize = 256;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EgressTable {
    #[serde(default = "default_destinations")]
    destinations: Vec<String>,
    #[serde(default)]
    mode: Mode,
    #[serde(default)]
    lists: Vec<ListTable>,
}

/// `[egress]`: outbound connections.
#[derive(Clone, Debug)]
pub(crate) struct Egress {
    /// For every enclave.
    pub(crate) destinations: Vec<Allowed>,
    pub(crate) mode: Mode,
    /// For some enclaves.
    pub(crate) lists: Vec<List>,
}

/// What becomes of packets to destinations that are not open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// They are dropped, counted and reported.
    #[default]
    Enforce,
    /// They pass, and are counted and reported.
    Observe,
}

/// A network, or an address, that enclaves may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allowed {
    pub(crate) net: IpNet,
    /// `None`: every port and protocol.
    pub(crate) port: Option<Port>,
}

impl Default for EgressTable {
    fn default() -> Self {
        Self { destinations: default_destinations(), mode: Mode::default(), lists: Vec::new() }
    }
}

fn default_destinations() -> Vec<String> {
    vec![METADATA.to_owned()]
}

impl EgressTable {
    pub(super) fn check(self) -> Result<Egress> {
        let count = self.destinations.len();
        ensure!(count <= MAX_DESTINATIONS, "egress.destinations: {count}, expected at most {MAX_DESTINATIONS}");
        let destinations = destinations("egress.destinations", "dns.allow_list_path", &self.destinations)?;
        let lists = lists::check(self.lists)?;
        let all = destinations.len() + lists.iter().map(|list| list.destinations.len()).sum::<usize>();
        ensure!(
            lists.is_empty() || all <= MAX_DESTINATIONS,
            "egress.lists.destinations: {all} in all lists, expected at most {MAX_DESTINATIONS}"
        );
        let names: usize = lists.iter().map(|list| list.names.len()).sum();
        ensure!(names <= MAX_NAMES, "egress.lists.names: {names} in all lists, expected at most {MAX_NAMES}");
        Ok(Egress { destinations, mode: self.mode, lists })
    }
}

impl Egress {
    /// Whether the list for every enclave has this address, or one of these lists, on some port at least.
    pub(crate) fn lists<'a>(&self, address: IpAddr, mut ids: impl Iterator<Item = &'a ListId>) -> bool {
        let has = |destinations: &[Allowed]| destinations.iter().any(|allowed| allowed.net.contains(&address));
        let is_on = |id: &ListId| match id {
            ListId::Every => false,
            ListId::Some(name) => self.lists.iter().any(|list| list.name == *name && has(&list.destinations)),
        };
        has(&self.destinations) || ids.any(is_on)
    }
}

/// The destinations under `key`. Names belong under `names_key`.
pub(super) fn destinations(key: &str, names_key: &str, texts: &[String]) -> Result<Vec<Allowed>> {
    let each = texts.iter().map(|text| parse(text, names_key).with_context(|| format!("{key}: {text:?}")));
    Ok(each.collect::<Result<Vec<Vec<Allowed>>>>()?.concat())
}

/// `HOST:PORT`, as in an enclave's own `[egress]`, or an address or a network alone.
fn parse(text: &str, names_key: &str) -> Result<Vec<Allowed>> {
    let (host, port) = match text.parse::<Destination>() {
        Ok(Destination::Anywhere) => {
            let all = [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())];
            return Ok(all.map(|net| Allowed { net, port: None }).to_vec());
        }
        Ok(Destination::At(host, port)) => (host, Some(port)),
        // Without a port, and without brackets.
        Err(error) => match text.parse::<Host>() {
            Ok(host) => (host, None),
            Err(reason @ (DestinationError::HostBits(..) | DestinationError::Unreachable(..))) => {
                return Err(reason.into());
            }
            Err(_) => return Err(error.into()),
        },
    };
    match host {
        Host::Net(net) => Ok(vec![Allowed { net, port }]),
        Host::Name(name) => bail!(
            "a name: its addresses open with its DNS answers; expected {name} in {names_key}, and here an address or a \
             network such as \"10.0.0.0/16:443\""
        ),
    }
}

impl std::fmt::Display for Allowed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.port {
            Some(port) => Destination::At(Host::Net(self.net), port).fmt(f),
            None if self.net.prefix_len() == self.net.max_prefix_len() => self.net.addr().fmt(f),
            None => self.net.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(destinations: &[&str]) -> Result<Egress> {
        let destinations = destinations.iter().map(|text| (*text).to_owned()).collect();
        EgressTable { destinations, ..EgressTable::default() }.check()
    }

    #[test]
    fn addresses_and_networks_with_and_without_a_port_read_as_they_are_written() {
        let texts = [
            "169.254.169.254:80",
            "10.0.0.0/16:443",
            "10.1.0.0/16",
            "198.51.100.10",
            "[2001:db8::7]:53/udp",
            "2001:db8::/32",
            "2001:db8::7",
            "203.0.113.1:ping",
        ];
        let shown: Vec<String> = check(&texts).unwrap().destinations.iter().map(ToString::to_string).collect();
        assert_eq!(shown, texts);
        let anywhere = check(&["anywhere"]).unwrap();
        for address in ["10.0.0.1", "fd00::1"] {
            assert!(anywhere.lists(address.parse().unwrap(), std::iter::empty()), "{address}");
        }
    }

    #[test]
    fn without_a_list_the_metadata_service_can_be_reached_and_nothing_else() {
        let shown: Vec<String> =
            EgressTable::default().check().unwrap().destinations.iter().map(ToString::to_string).collect();
        assert_eq!(shown, [METADATA]);
        assert!(check(&[]).unwrap().destinations.is_empty());
    }

    #[test]
    fn anything_else_is_refused_with_what_is_expected() {
        for (text, expected) in [
            ("aws.com:443", "a name: its addresses open with its DNS answers; expected aws.com in dns.allow_list_path"),
            ("aws.com", "a name: its addresses open with its DNS answers"),
            ("https://10.0.0.1", "a URL, expected a host and a port"),
            ("10.0.0.1/16", "10.0.0.1/16 has host bits set, expected 10.0.0.0/16"),
            ("10.0.0.1:0", "`0` is not a port, expected 1 to 65535"),
            ("10.0.0.1:443/sctp", "`443/sctp` is not a port"),
            ("10.0.0.256", "expected HOST:PORT"),
            ("*.aws.com:443", "a wildcard"),
            ("", "expected HOST:PORT"),
            ("::ffff:10.0.0.1", "an IPv4-mapped IPv6 address"),
        ] {
            let error = format!("{:#}", check(&[text]).unwrap_err());
            assert!(error.starts_with(&format!("egress.destinations: {text:?}: ")), "{error}");
            assert!(error.contains(expected), "{text}: {error}");
        }
        let many: Vec<&str> = (0..=MAX_DESTINATIONS).map(|_| "10.0.0.1").collect();
        assert_eq!(check(&many).unwrap_err().to_string(), "egress.destinations: 257, expected at most 256");
    }
}
