//! What the table says, worked out from the configuration alone.

use std::net::IpAddr;

use ipnet::IpNet;
use nftables::batch::Batch;
use nftables::schema::{Chain, Counter, NfListObject, Nftables, Table};
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook};

use super::rule::{self, Rule};
use crate::config::{Config, Forward, InterfaceName, Range, Ranges};

pub(super) const TABLE: &str = "wg_server";
/// DNS, and DNS over TLS or QUIC (RFC 7858, RFC 9250).
const NAME_SERVER_PORTS: [u16; 2] = [53, 853];
/// What was dropped of enclaves' questions to others than the gateway.
pub(super) const OTHER_NAME_SERVERS: &str = "other_name_servers";
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
    /// Where WireGuard's datagrams come from, if that is elsewhere.
    parents: Option<Vec<IpNet>>,
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
            parents: config.remote.as_ref().map(|remote| IpNet::aggregate(&remote.parents)),
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
        batch.add(NfListObject::Counter(Counter {
            family: NfFamily::INet,
            table: TABLE.into(),
            name: OTHER_NAME_SERVERS.into(),
            handle: None,
            packets: None,
            bytes: None,
        }));
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
        // WireGuard hears the relay, which is on this host, or those of the parents, and nobody else.
        let strangers = match &self.parents {
            None => vec![vec![rule::comes_not_from(&["lo"])]],
            Some(parents) => [true, false].map(|is_ipv4| rule::source_in_none_of(parents, is_ipv4)).to_vec(),
        };
        for stranger in strangers {
            let to_wireguard = vec![rule::destination_port("udp", self.listen_port)];
            rules.push([stranger, to_wireguard, rule::drop().to_vec()].concat());
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
        let mut rules = vec![vec![rule::answers_a_connection(), rule::belongs_to_a_connection(), rule::accept()]];
        // Enclaves ask the gateway's name server and no other, whatever an earlier table let them start.
        for protocol in ["udp", "tcp"] {
            for port in NAME_SERVER_PORTS {
                rules
                    .push([vec![rule::destination_port(protocol, port)], rule::drop_into(OTHER_NAME_SERVERS)].concat());
            }
        }
        rules.push(vec![rule::belongs_to_a_connection(), rule::accept()]);
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

/// The packets of the counter in what nft says about it.
pub(super) fn counted(json: &[u8]) -> anyhow::Result<u64> {
    let listed: serde_json::Value = serde_json::from_slice(json)?;
    let objects = listed.get("nftables").and_then(serde_json::Value::as_array).into_iter().flatten();
    let packets = objects.filter_map(|object| object.get("counter")?.get("packets")?.as_u64()).next();
    anyhow::Context::context(packets, "nft lists no counter")
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
