//! The address ranges for enclaves.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result, bail, ensure};
use ipnet::IpNet;

/// `first` to `last`, both included, inside one network of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) first: IpAddr,
    pub(crate) last: IpAddr,
}

/// One range per IP version, at least one. An enclave has the same offset in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ranges {
    pub(crate) ipv4: Option<Range>,
    pub(crate) ipv6: Option<Range>,
    len: u16,
}

impl Range {
    /// Reads `first-last` and checks it against the gateway's addresses.
    pub(crate) fn parse(text: &str, gateways: &[IpNet]) -> Result<Self> {
        let like = "expected first and last address like \"203.0.113.2-203.0.113.254\"";
        let (first, last) = text.split_once('-').with_context(|| format!("{text:?}, {like}"))?;
        let address = |text: &str| text.trim().parse::<IpAddr>().with_context(|| format!("{text:?}, {like}"));
        let range = Self { first: address(first)?, last: address(last)? };
        if range.first.is_ipv4() != range.last.is_ipv4() {
            bail!("{text:?} mixes IP versions, {like}");
        }
        ensure!(range.first <= range.last, "{text:?} ends before it starts, {like}");
        let net = gateways.iter().find(|net| net.contains(&range.first) && net.contains(&range.last));
        let net = net.with_context(|| format!("{text:?} is not inside one network of wireguard.addresses, {like}"))?;
        for (address, what) in [
            (net.addr(), "the gateway's own address"),
            (net.network(), "the network's own address"),
            (net.broadcast(), "the network's last address"),
        ] {
            ensure!(!range.contains(address), "{text:?} contains {address}, {what}, expected a range without it");
        }
        Ok(range)
    }

    /// Whether an address is in the range.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.first.is_ipv4() && self.first <= address && address <= self.last
    }

    fn len(&self) -> u128 {
        let bits = |address| match address {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            IpAddr::V6(address) => address.to_bits(),
        };
        // No network of the gateway has every address of IPv6, so that this does not overflow.
        bits(self.last) - bits(self.first) + 1
    }
}

impl Ranges {
    /// Refuses a configuration without any range.
    pub(crate) fn new(ipv4: Option<Range>, ipv6: Option<Range>) -> Result<Self> {
        for (range, key, is_version) in [
            (ipv4, "ipv4_range", IpAddr::is_ipv4 as fn(&IpAddr) -> bool),
            (ipv6, "ipv6_range", IpAddr::is_ipv6 as fn(&IpAddr) -> bool),
        ] {
            if let Some(range) = range {
                ensure!(
                    is_version(&range.first),
                    "{key}: {} has the other IP version, expected addresses of this one",
                    range.first
                );
            }
        }
        let len = [ipv4, ipv6].into_iter().flatten().map(|range| range.len()).min();
        let len = len.context("neither ipv4_range nor ipv6_range, expected at least one of them")?;
        // Of a longer range, only this many addresses are ever given.
        Ok(Self { ipv4, ipv6, len: u16::try_from(len).unwrap_or(u16::MAX) })
    }

    /// The number of enclaves that can have an address.
    pub(crate) fn len(&self) -> u16 {
        self.len
    }

    /// The IPv4 address at a place below [`Ranges::len`].
    pub(crate) fn ipv4_at(&self, place: u16) -> Option<Ipv4Addr> {
        match self.ipv4?.first {
            IpAddr::V4(first) => Some(Ipv4Addr::from_bits(first.to_bits().checked_add(u32::from(place))?)),
            IpAddr::V6(_) => None,
        }
    }

    /// The IPv6 address at a place below [`Ranges::len`].
    pub(crate) fn ipv6_at(&self, place: u16) -> Option<Ipv6Addr> {
        match self.ipv6?.first {
            IpAddr::V6(first) => Some(Ipv6Addr::from_bits(first.to_bits().checked_add(u128::from(place))?)),
            IpAddr::V4(_) => None,
        }
    }

    /// The IPv4 addresses that enclaves can get. If the range is longer than the other one, the rest is unused.
    pub(crate) fn ipv4_given(&self) -> Option<Range> {
        let last = self.ipv4_at(self.len.checked_sub(1)?)?;
        Some(Range { last: last.into(), ..self.ipv4? })
    }

    /// The IPv6 addresses that enclaves can get.
    pub(crate) fn ipv6_given(&self) -> Option<Range> {
        let last = self.ipv6_at(self.len.checked_sub(1)?)?;
        Some(Range { last: last.into(), ..self.ipv6? })
    }
}
