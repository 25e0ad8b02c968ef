//! The networks from which the gateway assigns the enclave's addresses, each with the gateway's own address in it.

use std::net::IpAddr;

use anyhow::{Result, bail, ensure};
use ipnet::IpNet;

/// More networks are probably a mistake.
const MAX_NETWORKS: usize = 8;

/// A network behind wg0, and the gateway's address in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    pub(crate) subnet: IpNet,
    pub(crate) gateway: IpAddr,
}

impl Network {
    /// Whether an enclave can have this address: neither the gateway's nor a reserved one.
    pub(crate) fn is_host(&self, address: IpAddr) -> bool {
        self.subnet.contains(&address) && address != self.gateway && !is_reserved(&self.subnet, address)
    }
}

/// The network's own address (in IPv6 the subnet-router anycast address, RFC 4291, 2.6.1) and IPv4's broadcast address.
fn is_reserved(subnet: &IpNet, address: IpAddr) -> bool {
    address == subnet.network() || (address.is_ipv4() && address == subnet.broadcast())
}

/// Pairs each network with the gateway's address in it.
pub(super) fn pair(subnets: Vec<IpNet>, gateways: Vec<IpAddr>) -> Result<Vec<Network>> {
    ensure!(
        (1..=MAX_NETWORKS).contains(&subnets.len()),
        "tunnel.networks: {} networks, expected 1 to {MAX_NETWORKS}",
        subnets.len()
    );
    for (at, subnet) in subnets.iter().enumerate() {
        check_subnet(subnet)?;
        for earlier in subnets.iter().take(at) {
            if earlier.contains(subnet) || subnet.contains(earlier) {
                bail!("tunnel.networks: {earlier} and {subnet} overlap, expected disjoint networks");
            }
        }
    }
    ensure!(
        gateways.len() == subnets.len(),
        "tunnel.gateways: {} addresses for {} networks, expected one in each of tunnel.networks",
        gateways.len(),
        subnets.len()
    );
    for gateway in &gateways {
        if let Some(reason) = unusable(*gateway) {
            bail!("tunnel.gateways: {gateway} {reason}, expected the gateway's address in wg0");
        }
        if !subnets.iter().any(|subnet| subnet.contains(gateway)) {
            let known = subnets.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            bail!("tunnel.gateways: {gateway} is in none of tunnel.networks ({known}), expected an address in each");
        }
    }
    subnets.into_iter().map(|subnet| with_gateway(subnet, &gateways)).collect()
}

fn check_subnet(subnet: &IpNet) -> Result<()> {
    if *subnet != subnet.trunc() {
        bail!("tunnel.networks: {subnet} has host bits set, expected {}", subnet.trunc());
    }
    if let Some(reason) = unusable(subnet.network()) {
        bail!("tunnel.networks: {subnet} {reason}, expected a unicast network");
    }
    let room = subnet.max_prefix_len() - subnet.prefix_len();
    ensure!(
        room >= 2,
        "tunnel.networks: {subnet} has no room for a gateway and an enclave, expected a prefix length of at most {}",
        subnet.max_prefix_len() - 2
    );
    ensure!(subnet.prefix_len() >= 8, "tunnel.networks: {subnet} is too large, expected a prefix length of at least 8");
    Ok(())
}

fn with_gateway(subnet: IpNet, gateways: &[IpAddr]) -> Result<Network> {
    let mut inside = gateways.iter().filter(|gateway| subnet.contains(*gateway));
    match (inside.next(), inside.next()) {
        (Some(&gateway), None) => {
            if is_reserved(&subnet, gateway) {
                bail!("tunnel.gateways: {gateway} is not a host address in {subnet}, expected one");
            }
            Ok(Network { subnet, gateway })
        }
        (Some(first), Some(second)) => {
            bail!("tunnel.gateways: {first} and {second} are both in {subnet}, expected one in each network")
        }
        (None, _) => bail!("tunnel.gateways: none is in {subnet}, expected one in each of tunnel.networks"),
    }
}

/// Why a host behind the tunnel cannot have this address.
pub(super) fn unusable(address: IpAddr) -> Option<&'static str> {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    let reserved = matches!(address, IpAddr::V4(v4) if matches!(v4.octets(), [0 | 240..=255, ..]));
    let reasons = [
        (address.is_unspecified(), "is the unspecified address"),
        (address.is_loopback(), "is a loopback address"),
        (address.is_multicast(), "is a multicast address"),
        (link_local, "is a link-local address"),
        (mapped, "is an IPv4-mapped IPv6 address"),
        (reserved, "is a reserved address"),
    ];
    reasons.into_iter().find_map(|(is_so, reason)| is_so.then_some(reason))
}
