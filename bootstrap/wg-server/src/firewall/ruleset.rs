//! What the table says, worked out from the configuration alone.

use std::net::IpAddr;

use nftables::batch::Batch;
use nftables::schema::{Chain, NfListObject, Nftables, Table};
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook};

use super::rule::{self, Rule};
use crate::config::{Config, Forward, InterfaceName, Range, Ranges};

const TABLE: &str = "wg_server";
/// nft(8), "priority": the names dstnat, filter and srcnat.
const DESTINATION_NAT: i32 = -100;
const FILTER: i32 = 0;
const SOURCE_NAT: i32 = 100;

/// What decides about the rules.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    interface: InterfaceName,
    uplink: InterfaceName,
    listen_port: u16,
    /// WireGuard's datagrams come from elsewhere.
    is_remote: bool,
    gateways: Vec<IpAddr>,
    ranges: Ranges,
    enclave_to_enclave: bool,
    forwards: Vec<Forward>,
}

/// A chain and what is in it.
struct Rules {
    name: &'static str,
    hook: Option<(NfChainType, NfHook, i32)>,
    rules: Vec<Rule>,
}

impl Plan {
    pub(crate) fn new(config: &Config, uplink: InterfaceName) -> Self {
        Self {
            interface: config.wireguard.interface.clone(),
            uplink,
            listen_port: config.wireguard.listen_port,
            is_remote: config.remote.is_some(),
            gateways: config.wireguard.gateways().collect(),
            ranges: config.enclaves.ranges,
            enclave_to_enclave: config.enclaves.enclave_to_enclave,
            forwards: config.nat.forwards.clone(),
        }
    }

    /// One transaction: the old table, if there is one, goes, and the new one is there.
    pub(super) fn replacement(&self) -> Nftables<'static> {
        let mut batch = Batch::new();
        // Deleting what is not there is an error; adding what is there is none.
        batch.add(table());
        batch.delete(table());
        batch.add(table());
        let chains = self.chains();
        for chain in &chains {
            batch.add(NfListObject::Chain(chain.declaration()));
        }
        for chain in chains {
            for rule in chain.rules {
                batch.add(NfListObject::Rule(nftables::schema::Rule {
                    family: NfFamily::INet,
                    table: TABLE.into(),
                    chain: chain.name.into(),
                    expr: rule.into(),
                    ..Default::default()
                }));
            }
        }
        batch.to_nftables()
    }

    fn chains(&self) -> [Rules; 7] {
        let filter = |hook| Some((NfChainType::Filter, hook, FILTER));
        [
            // Base chains only pick what concerns wg0: the rest of the host's traffic is not ours to judge.
            Rules {
                name: "prerouting",
                hook: Some((NfChainType::NAT, NfHook::Prerouting, DESTINATION_NAT)),
                rules: self.prerouting(),
            },
            Rules { name: "input", hook: filter(NfHook::Input), rules: self.input() },
            Rules { name: "forward", hook: filter(NfHook::Forward), rules: self.forward() },
            Rules {
                name: "postrouting",
                hook: Some((NfChainType::NAT, NfHook::Postrouting, SOURCE_NAT)),
                rules: self.postrouting(),
            },
            Rules { name: "enclaves_to_parent", hook: None, rules: self.staying() },
            Rules { name: "from_enclaves", hook: None, rules: self.leaving() },
            Rules { name: "to_enclaves", hook: None, rules: self.arriving() },
        ]
    }

    fn prerouting(&self) -> Vec<Rule> {
        let rule = |forward: &Forward| {
            vec![
                rule::comes_from(self.uplink.as_str()),
                rule::is_for_the_interface_itself(),
                rule::destination_port("tcp", forward.port),
                rule::change_destination(forward.to),
            ]
        };
        self.forwards.iter().map(rule).collect()
    }

    fn input(&self) -> Vec<Rule> {
        let mut rules = vec![vec![rule::comes_from(self.interface.as_str()), rule::jump("enclaves_to_parent")]];
        if !self.is_remote {
            // WireGuard hears the relay, which is on this host, and nobody else.
            let elsewhere = rule::comes_not_from(&["lo"]);
            let to_wireguard = vec![elsewhere, rule::destination_port("udp", self.listen_port)];
            rules.push([to_wireguard, rule::drop().to_vec()].concat());
        }
        for gateway in &self.gateways {
            // Linux answers for an address on every interface; the gateway's are for enclaves and the host itself.
            let elsewhere = rule::comes_not_from(&["lo", self.interface.as_str()]);
            rules.push([vec![elsewhere, rule::destination(*gateway)], rule::drop().to_vec()].concat());
        }
        rules
    }

    fn staying(&self) -> Vec<Rule> {
        let mut rules = vec![vec![rule::belongs_to_a_connection(), rule::accept()]];
        for gateway in &self.gateways {
            for protocol in ["udp", "tcp"] {
                rules.push(vec![rule::destination(*gateway), rule::destination_port(protocol, 53), rule::accept()]);
            }
            rules.push(vec![rule::destination(*gateway), rule::echo_request(*gateway), rule::accept()]);
        }
        rules.push(rule::drop().to_vec());
        rules
    }

    fn forward(&self) -> Vec<Rule> {
        let interface = self.interface.as_str();
        vec![
            [vec![rule::comes_from(interface)], rule::clamp_segment_size().to_vec()].concat(),
            [vec![rule::goes_to(interface)], rule::clamp_segment_size().to_vec()].concat(),
            vec![rule::comes_from(interface), rule::jump("from_enclaves")],
            vec![rule::goes_to(interface), rule::jump("to_enclaves")],
        ]
    }

    fn leaving(&self) -> Vec<Rule> {
        let mut rules = vec![vec![rule::belongs_to_a_connection(), rule::accept()]];
        for range in self.ranges() {
            if self.enclave_to_enclave {
                rules.push(vec![
                    rule::goes_to(self.interface.as_str()),
                    rule::source_in(range),
                    rule::destination_in(range),
                    rule::accept(),
                ]);
            }
            rules.push(vec![rule::goes_to(self.uplink.as_str()), rule::source_in(range), rule::accept()]);
        }
        rules.push(rule::drop().to_vec());
        rules
    }

    fn arriving(&self) -> Vec<Rule> {
        let mut rules = vec![vec![rule::belongs_to_a_connection(), rule::accept()]];
        for Forward { to, .. } in &self.forwards {
            // The enclave's own address is not a way in for whoever has a route to it.
            rules.push(vec![
                rule::destination(to.ip()),
                rule::destination_port("tcp", to.port()),
                rule::has_changed_destination(),
                rule::accept(),
            ]);
        }
        rules.push(rule::drop().to_vec());
        rules
    }

    fn postrouting(&self) -> Vec<Rule> {
        self.ranges()
            .map(|range| vec![rule::goes_to(self.uplink.as_str()), rule::source_in(range), rule::masquerade()])
            .collect()
    }

    fn ranges(&self) -> impl Iterator<Item = Range> {
        [self.ranges.ipv4, self.ranges.ipv6].into_iter().flatten()
    }
}

impl Rules {
    fn declaration(&self) -> Chain<'static> {
        let (kind, hook, priority) = match self.hook {
            Some((kind, hook, priority)) => (Some(kind), Some(hook), Some(priority)),
            None => (None, None, None),
        };
        Chain {
            family: NfFamily::INet,
            table: TABLE.into(),
            name: self.name.into(),
            _type: kind,
            hook,
            prio: priority,
            policy: hook.map(|_| NfChainPolicy::Accept),
            ..Default::default()
        }
    }
}

/// The transaction that leaves nothing of ours.
pub(super) fn removal() -> Nftables<'static> {
    let mut batch = Batch::new();
    batch.add(table());
    batch.delete(table());
    batch.to_nftables()
}

fn table() -> NfListObject<'static> {
    NfListObject::Table(Table { family: NfFamily::INet, name: TABLE.into(), handle: None })
}
