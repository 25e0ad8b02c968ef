//! Which addresses the answers of the internet may have.
//!
//! Whoever owns a name decides about its addresses. Without this check, the owner of one name on the list could open the way to
//! hosts of the VPC, or of the tunnel (DNS rebinding).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Networks that the internet does not route to, by IANA's registries of special-purpose addresses.
const SPECIAL: [(&str, &str); 16] = [
    ("0.0.0.0/8", "this host"),
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "shared"),
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link-local"),
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "reserved"),
    ("192.168.0.0/16", "private"),
    ("224.0.0.0/3", "multicast or reserved"),
    ("::/96", "unspecified, loopback or IPv4-compatible"),
    ("::ffff:0:0/96", "IPv4-mapped"),
    ("64:ff9b:1::/48", "private"),
    ("fc00::/7", "private"),
    ("fe80::/10", "link-local"),
    ("fec0::/10", "site-local"),
    ("ff00::/8", "multicast"),
];
/// Addresses of IPv4 hosts behind a NAT64 (RFC 6052).
const NAT64: Ipv6Addr = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0);

/// The networks that no answer may lead to.
#[derive(Clone, Debug)]
pub(super) struct Special {
    networks: Vec<(IpNet, &'static str)>,
}

impl Special {
    /// Also of this tunnel.
    pub(super) fn new(tunnel: &[IpNet]) -> Self {
        let registered = SPECIAL.iter().map(|(net, kind)| (net.parse().expect("a network above"), *kind));
        let tunnel = tunnel.iter().map(|net| (net.trunc(), "the tunnel's own"));
        Self { networks: registered.chain(tunnel).collect() }
    }

    /// What kind of special address it is. `None`: any host of the internet may have it.
    pub(super) fn kind(&self, address: IpAddr) -> Option<&'static str> {
        let of = |address| self.networks.iter().find(|(net, _)| net.contains(&address)).map(|(_, kind)| *kind);
        of(address).or_else(|| of(behind_nat64(address)?.into()))
    }
}

fn behind_nat64(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else { return None };
    let [a, b, c, d] = *address.octets().last_chunk()?;
    (u128::from(address) >> 32 == u128::from(NAT64) >> 32).then(|| Ipv4Addr::new(a, b, c, d))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(address: &str) -> Option<&'static str> {
        let tunnel = ["203.0.113.1/24", "fd3b:74ac:9d21::1/64"].map(|net| net.parse().unwrap());
        Special::new(&tunnel).kind(address.parse().unwrap())
    }

    #[test]
    fn an_address_that_only_this_network_has_is_told_by_its_kind() {
        for (address, expected) in [
            ("10.1.2.3", "private"),
            ("172.31.255.255", "private"),
            ("192.168.0.1", "private"),
            ("100.64.0.1", "shared"),
            ("127.0.0.1", "loopback"),
            ("169.254.169.254", "link-local"),
            ("0.0.0.0", "this host"),
            ("255.255.255.255", "multicast or reserved"),
            ("203.0.113.2", "the tunnel's own"),
            ("::1", "unspecified, loopback or IPv4-compatible"),
            ("::ffff:10.0.0.1", "IPv4-mapped"),
            ("64:ff9b::10.0.0.1", "private"),
            ("fd00:ec2::254", "private"),
            ("fe80::1", "link-local"),
            ("ff02::1", "multicast"),
        ] {
            assert_eq!(kind(address), Some(expected), "{address}");
        }
        for address in ["198.51.100.80", "11.0.0.1", "172.32.0.1", "203.0.114.1", "2001:db8::1", "64:ff9b::8.8.8.8"] {
            assert_eq!(kind(address), None, "{address}");
        }
    }
}
