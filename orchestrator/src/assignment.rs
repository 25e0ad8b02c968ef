//! The gateway and the addresses of an offer, once the measured configuration allows them.

use std::net::IpAddr;

use ipnet::IpNet;
use thiserror::Error;
use tunnel::control::{Offer, PublicKey};

use crate::config::{Network, Tunnel};

/// The peer, and wg0's addresses with the prefixes of their networks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) gateway: PublicKey,
    pub(crate) addresses: Vec<IpNet>,
}

/// Why an offer does not fit.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum Misfit {
    /// Not a valid key.
    #[error("the gateway's public key is all zero")]
    ZeroKey,
    /// A gateway that reflects our own messages.
    #[error("the gateway's public key is our own")]
    OwnKey,
    /// Another gateway than the one that the image names.
    #[error("the gateway's public key is {0}, and not that of tunnel.gateway_key")]
    NotPinned(PublicKey),
    /// Not in the measured networks.
    #[error("{0} is in none of tunnel.networks")]
    Outside(IpAddr),
    /// In a network, but the gateway's own address, or the network's.
    #[error("{0} is the address of a gateway or of a whole network")]
    Taken(IpAddr),
    /// A measured network of this family, but no address.
    #[error("no IPv{0} address, although tunnel.networks has an IPv{0} network")]
    Missing(u8),
}

impl Assignment {
    /// Checks an offer; `own` is our public key, if we have one yet.
    pub(crate) fn check(offer: &Offer, tunnel: &Tunnel, own: Option<PublicKey>) -> Result<Self, Misfit> {
        if offer.public_key.0 == [0; 32] {
            return Err(Misfit::ZeroKey);
        }
        if Some(offer.public_key) == own {
            return Err(Misfit::OwnKey);
        }
        if tunnel.gateway_key.is_some_and(|pinned| pinned != offer.public_key) {
            return Err(Misfit::NotPinned(offer.public_key));
        }
        let offered = [(4, offer.ipv4.map(IpAddr::from)), (6, offer.ipv6.map(IpAddr::from))];
        let mut addresses = Vec::new();
        for (version, address) in offered {
            let is_expected = tunnel.networks.iter().any(|network| network.gateway.is_ipv4() == (version == 4));
            match address {
                Some(address) => addresses.push(place(address, &tunnel.networks)?),
                None if is_expected => return Err(Misfit::Missing(version)),
                None => {}
            }
        }
        Ok(Self { gateway: offer.public_key, addresses })
    }
}

fn place(address: IpAddr, networks: &[Network]) -> Result<IpNet, Misfit> {
    let Some(network) = networks.iter().find(|network| network.subnet.contains(&address)) else {
        return Err(Misfit::Outside(address));
    };
    if !network.is_host(address) {
        return Err(Misfit::Taken(address));
    }
    let prefix_len = network.subnet.prefix_len();
    Ok(IpNet::new(address, prefix_len).expect("a network contains only addresses of its own IP version"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    const OWN: Option<PublicKey> = Some(PublicKey([9; 32]));

    fn tunnel() -> Tunnel {
        Config::parse(include_str!("../../config/enclave/enclave.toml"), Path::new("/nowhere")).unwrap().tunnel
    }

    fn offer(ipv4: Option<&str>, ipv6: Option<&str>) -> Offer {
        Offer {
            nonce: [7; 32],
            public_key: PublicKey([1; 32]),
            ipv4: ipv4.map(|address| address.parse().unwrap()),
            ipv6: ipv6.map(|address| address.parse().unwrap()),
        }
    }

    fn misfit(ipv4: Option<&str>, ipv6: Option<&str>) -> Misfit {
        Assignment::check(&offer(ipv4, ipv6), &tunnel(), OWN).unwrap_err()
    }

    #[test]
    fn an_offer_that_fits_gives_addresses_with_their_networks_prefixes() {
        let offer = offer(Some("203.0.113.2"), Some("fd3b:74ac:9d21::2"));
        let assignment = Assignment::check(&offer, &tunnel(), OWN).unwrap();
        assert_eq!(assignment.gateway, PublicKey([1; 32]));
        let addresses: Vec<_> = assignment.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["203.0.113.2/24", "fd3b:74ac:9d21::2/64"]);
    }

    #[test]
    fn an_address_outside_of_the_measured_networks_is_refused() {
        let outside = "203.0.114.2";
        assert_eq!(misfit(Some(outside), Some("fd3b:74ac:9d21::2")), Misfit::Outside(outside.parse().unwrap()));
        let outside = "fd3b:74ac:9d22::2";
        assert_eq!(misfit(Some("203.0.113.2"), Some(outside)), Misfit::Outside(outside.parse().unwrap()));
        assert_eq!(misfit(Some("127.0.0.1"), None), Misfit::Outside("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn the_gateways_the_networks_and_the_broadcast_address_are_refused() {
        for taken in ["203.0.113.1", "203.0.113.0", "203.0.113.255"] {
            assert_eq!(misfit(Some(taken), Some("fd3b:74ac:9d21::2")), Misfit::Taken(taken.parse().unwrap()));
        }
        for taken in ["fd3b:74ac:9d21::1", "fd3b:74ac:9d21::"] {
            assert_eq!(misfit(Some("203.0.113.2"), Some(taken)), Misfit::Taken(taken.parse().unwrap()));
        }
    }

    #[test]
    fn an_offer_without_an_address_for_each_family_is_refused() {
        assert_eq!(misfit(None, Some("fd3b:74ac:9d21::2")), Misfit::Missing(4));
        assert_eq!(misfit(Some("203.0.113.2"), None), Misfit::Missing(6));
    }

    #[test]
    fn a_zero_key_and_our_own_key_are_refused() {
        let with = |key| Offer { public_key: PublicKey(key), ..offer(Some("203.0.113.2"), Some("fd3b:74ac:9d21::2")) };
        assert_eq!(Assignment::check(&with([0; 32]), &tunnel(), OWN), Err(Misfit::ZeroKey));
        assert_eq!(Assignment::check(&with([9; 32]), &tunnel(), OWN), Err(Misfit::OwnKey));
        assert!(Assignment::check(&with([9; 32]), &tunnel(), None).is_ok());
    }
    #[test]
    fn another_gateway_than_the_pinned_one_is_refused() {
        let offer = offer(Some("203.0.113.2"), Some("fd3b:74ac:9d21::2"));
        let pinned = |key| Tunnel { gateway_key: Some(PublicKey([key; 32])), ..tunnel() };
        assert!(Assignment::check(&offer, &pinned(1), OWN).is_ok());
        assert_eq!(Assignment::check(&offer, &pinned(2), OWN), Err(Misfit::NotPinned(PublicKey([1; 32]))));
    }
}
