//! The repairs that turn the observed wg0 into the desired one. Without I/O.

use std::fmt::{self, Display, Formatter};

use ipnet::IpNet;
use tunnel::control::PublicKey;

use crate::health::Kind;

/// The interface that the configuration and the state of the host require.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Desired {
    pub(crate) public_key: PublicKey,
    pub(crate) listen_port: u16,
    pub(crate) mtu: u16,
    /// Down if the firewall that filters the tunnel's traffic is missing.
    pub(crate) is_up: bool,
    pub(crate) addresses: Vec<IpNet>,
}

/// What has the interface's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Observed {
    Nothing,
    /// An interface of another kind.
    Other(String),
    WireGuard(State),
}

/// A WireGuard interface as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) public_key: Option<PublicKey>,
    pub(crate) listen_port: Option<u16>,
    pub(crate) mtu: Option<u32>,
    pub(crate) is_up: bool,
    /// Without IPv6 link-local addresses, which the kernel assigns.
    pub(crate) addresses: Vec<IpNet>,
    /// The networks routed to it.
    pub(crate) routes: Vec<IpNet>,
}

/// One change to the interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Repair {
    /// Creates it, with key and port.
    Make,
    SetKey {
        found: Option<PublicKey>,
    },
    SetPort {
        found: Option<u16>,
        port: u16,
    },
    SetMtu {
        found: Option<u32>,
        mtu: u16,
    },
    BringUp,
    TakeDown,
    AddAddress(IpNet),
    /// To the network of this address.
    AddRoute(IpNet),
    RemoveAddress(IpNet),
}

/// The repairs, in order. Those after [`Repair::Make`] are known only when it has been done.
pub(crate) fn repairs(desired: &Desired, observed: &Observed) -> Vec<Repair> {
    let state = match observed {
        Observed::Nothing => return vec![Repair::Make],
        // Not ours to change.
        Observed::Other(_) => return Vec::new(),
        Observed::WireGuard(state) => state,
    };
    let mut repairs = Vec::new();
    if state.public_key != Some(desired.public_key) {
        repairs.push(Repair::SetKey { found: state.public_key });
    }
    if state.listen_port != Some(desired.listen_port) {
        repairs.push(Repair::SetPort { found: state.listen_port, port: desired.listen_port });
    }
    if state.mtu != Some(u32::from(desired.mtu)) {
        repairs.push(Repair::SetMtu { found: state.mtu, mtu: desired.mtu });
    }
    match (state.is_up, desired.is_up) {
        (true, false) => repairs.push(Repair::TakeDown),
        (false, true) => repairs.push(Repair::BringUp),
        (true, true) | (false, false) => {}
    }
    let surplus = state.addresses.iter().filter(|net| !desired.addresses.contains(net));
    repairs.extend(surplus.map(|net| Repair::RemoveAddress(*net)));
    // The kernel adds the route together with the address, and when the interface comes up.
    if desired.is_up && state.is_up {
        let is_lost = |net: &&IpNet| {
            state.addresses.contains(net)
                && net.prefix_len() < net.max_prefix_len()
                && !state.routes.contains(&net.trunc())
        };
        repairs.extend(desired.addresses.iter().filter(is_lost).map(|net| Repair::AddRoute(*net)));
    }
    // An interface loses its IPv6 addresses when it goes down.
    if desired.is_up {
        let missing = desired.addresses.iter().filter(|net| !state.addresses.contains(net));
        repairs.extend(missing.map(|net| Repair::AddAddress(*net)));
    }
    repairs
}

impl Repair {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Make | Self::SetKey { .. } | Self::SetPort { .. } => Kind::Interface,
            Self::SetMtu { .. } | Self::BringUp | Self::TakeDown => Kind::Link,
            Self::AddAddress(_) | Self::RemoveAddress(_) => Kind::Address,
            Self::AddRoute(_) => Kind::Route,
        }
    }

    /// What was found instead, in words.
    pub(crate) fn found(&self) -> String {
        let or_none = |found: Option<String>| found.unwrap_or_else(|| "none".to_owned());
        match self {
            Self::Make => "no interface".to_owned(),
            Self::SetKey { found } => format!("the public key {}", or_none(found.map(|key| key.to_string()))),
            Self::SetPort { found, .. } => format!("the listen port {}", or_none(found.map(|port| port.to_string()))),
            Self::SetMtu { found, .. } => format!("the MTU {}", or_none(found.map(|mtu| mtu.to_string()))),
            Self::BringUp => "the interface down".to_owned(),
            Self::TakeDown => "the interface up without a firewall".to_owned(),
            Self::AddAddress(net) => format!("no address {net}"),
            Self::AddRoute(net) => format!("no route to {}", net.trunc()),
            Self::RemoveAddress(net) => format!("the address {net}, which is not in wireguard.addresses"),
        }
    }
}

/// What was done.
impl Display for Repair {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Make => f.write_str("created the interface"),
            Self::SetKey { .. } => f.write_str("set the gateway's key"),
            Self::SetPort { port, .. } => write!(f, "set the listen port {port}"),
            Self::SetMtu { mtu, .. } => write!(f, "set the MTU {mtu}"),
            Self::BringUp => f.write_str("brought it up"),
            Self::TakeDown => f.write_str("took it down until the firewall is back"),
            Self::AddAddress(net) => write!(f, "added the address {net}"),
            Self::AddRoute(net) => write!(f, "added the route to {}", net.trunc()),
            Self::RemoveAddress(net) => write!(f, "removed the address {net}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: PublicKey = PublicKey([7; 32]);

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn desired() -> Desired {
        Desired {
            public_key: KEY,
            listen_port: 51820,
            mtu: 8920,
            is_up: true,
            addresses: vec![net("203.0.113.1/24"), net("fd3b::1/64")],
        }
    }

    fn right() -> State {
        State {
            public_key: Some(KEY),
            listen_port: Some(51820),
            mtu: Some(8920),
            is_up: true,
            addresses: desired().addresses,
            routes: vec![net("203.0.113.0/24"), net("fd3b::/64")],
        }
    }

    fn after(change: impl FnOnce(&mut State)) -> Vec<Repair> {
        let mut state = right();
        change(&mut state);
        repairs(&desired(), &Observed::WireGuard(state))
    }

    #[test]
    fn what_is_right_is_left_alone() {
        assert_eq!(after(|_| {}), []);
    }

    #[test]
    fn each_change_has_its_repair() {
        assert_eq!(repairs(&desired(), &Observed::Nothing), [Repair::Make]);
        assert_eq!(after(|state| state.public_key = None), [Repair::SetKey { found: None }]);
        let port = Repair::SetPort { found: Some(1), port: 51820 };
        assert_eq!(after(|state| state.listen_port = Some(1)), [port]);
        assert_eq!(after(|state| state.mtu = Some(1420)), [Repair::SetMtu { found: Some(1420), mtu: 8920 }]);
        assert_eq!(after(|state| state.addresses.truncate(1)), [Repair::AddAddress(net("fd3b::1/64"))]);
        let surplus = net("192.0.2.1/24");
        assert_eq!(after(|state| state.addresses.push(surplus)), [Repair::RemoveAddress(surplus)]);
        assert_eq!(after(|state| state.routes.truncate(1)), [Repair::AddRoute(net("fd3b::1/64"))]);
    }

    #[test]
    fn an_interface_comes_up_before_it_gets_the_addresses_that_it_lost_going_down() {
        let repairs = after(|state| {
            state.is_up = false;
            state.addresses.truncate(1);
            state.routes.clear();
        });
        assert_eq!(repairs, [Repair::BringUp, Repair::AddAddress(net("fd3b::1/64"))]);
    }

    #[test]
    fn a_route_comes_with_its_address_and_one_address_alone_has_none() {
        let repairs = after(|state| {
            state.addresses.clear();
            state.routes.clear();
        });
        assert_eq!(repairs, [Repair::AddAddress(net("203.0.113.1/24")), Repair::AddAddress(net("fd3b::1/64"))]);
        let alone = vec![net("203.0.113.1/32"), net("fd3b::1/128")];
        let state = State { addresses: alone.clone(), routes: Vec::new(), ..right() };
        let desired = Desired { addresses: alone, ..desired() };
        assert_eq!(super::repairs(&desired, &Observed::WireGuard(state)), []);
    }

    #[test]
    fn an_interface_without_a_firewall_goes_down_and_stays_there() {
        let desired = Desired { is_up: false, ..desired() };
        assert_eq!(repairs(&desired, &Observed::WireGuard(right())), [Repair::TakeDown]);
        let down = State { is_up: false, addresses: vec![net("203.0.113.1/24")], ..right() };
        assert_eq!(repairs(&desired, &Observed::WireGuard(down)), []);
    }

    #[test]
    fn an_interface_of_another_kind_is_not_ours_to_change() {
        assert_eq!(repairs(&desired(), &Observed::Other("dummy".to_owned())), []);
    }
}
