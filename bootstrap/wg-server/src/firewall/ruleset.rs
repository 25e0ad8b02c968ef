//! The contents of the table, computed from the configuration.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result};
use ipnet::IpNet;
use nftables::batch::Batch;
use nftables::schema::{Chain, Counter, NfListObject, Nftables, Set, SetFlag, SetType, SetTypeValue, Table};
use nftables::stmt::Statement;
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook};
use serde_json::Value;

use super::gate::Gate;
use super::members;
use super::opened::MAX_ADDRESSES;
use super::packet::{Hook, Packet};
use super::rule::{self, Rule};
use super::sets;
use crate::config::{Allowed, Config, Forward, InterfaceName, List, ListId, ListName, Mode, Range, Ranges};
use crate::entry_port::TunnelPorts;

pub(super) const TABLE: &str = "wg_server";
/// DNS, and DNS over TLS or QUIC (RFC 7858, RFC 9250).
const NAME_SERVER_PORTS: [u16; 2] = [53, 853];
/// The counter of dropped questions from enclaves to other name servers than the gateway.
pub(super) const OTHER_NAME_SERVERS: &str = "other_name_servers";
/// The counter of packets from enclaves to destinations that are neither listed nor the address of a listed name.
pub(super) const UNLISTED: &str = "unlisted";
/// The group of NFLOG that these packets are sent to: "wg" in ASCII, which other programs are not likely to use.
pub(crate) const LOG_GROUP: u16 = u16::from_be_bytes(*b"wg");
/// nft(8), "priority": the names raw, dstnat, filter and srcnat. Raw comes before connection tracking.
const RAW: i32 = -300;
const DESTINATION_NAT: i32 = -100;
const FILTER: i32 = 0;
const SOURCE_NAT: i32 = 100;
/// After all filters, and before connection tracking's helpers (NF_IP_PRI_CONNTRACK_HELPER, linux/netfilter_ipv4.h).
const LAST: i32 = 299;

/// What the rules depend on.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    interface: InterfaceName,
    uplink: InterfaceName,
    tunnel_ports: TunnelPorts,
    /// The networks that WireGuard's datagrams come from, if peers are elsewhere.
    parents: Option<Vec<IpNet>>,
    /// The address that parents elsewhere connect to.
    control: Option<SocketAddr>,
    gateways: Vec<IpAddr>,
    ranges: Ranges,
    enclave_to_enclave: bool,
    forwards: Vec<Forward>,
    /// What enclaves may reach besides the addresses of names.
    destinations: Vec<Allowed>,
    mode: Mode,
    lists: Vec<List>,
}

/// A chain and its rules.
struct Rules {
    name: &'static str,
    hook: Option<(NfChainType, NfHook, i32)>,
    rules: Vec<Rule>,
}

impl Plan {
    pub(crate) fn new(config: &Config, uplink: InterfaceName, tunnel_ports: TunnelPorts) -> Self {
        Self {
            interface: config.wireguard.interface.clone(),
            uplink,
            tunnel_ports,
            control: config.remote.as_ref().map(|remote| remote.listen),
            parents: config.remote.as_ref().map(|remote| IpNet::aggregate(&remote.parents)),
            gateways: config.wireguard.gateways().collect(),
            ranges: config.enclaves.ranges,
            enclave_to_enclave: config.enclaves.enclave_to_enclave,
            forwards: config.nat.forwards.clone(),
            destinations: config.egress.destinations.clone(),
            mode: config.egress.mode,
            lists: config.egress.lists.clone(),
        }
    }

    /// The gate to enclaves for new connections through forwarded ports.
    pub(crate) fn entrance(&self, nft_path: &Path) -> Result<Gate> {
        Gate::to_enclaves(nft_path.to_owned(), self.uplink.as_str(), self.interface.as_str())
    }

    /// The names of `egress.lists`.
    pub(super) fn lists(&self) -> Vec<ListName> {
        self.lists.iter().map(|list| list.name.clone()).collect()
    }

    /// One transaction that replaces the old table, if there is one. Refused packets are counted, and named `if is_logged`.
    pub(super) fn replacement(&self, is_logged: bool) -> Nftables<'static> {
        let mut batch = Batch::new();
        // Deleting a missing table is an error, adding an existing one is not.
        batch.add(table());
        batch.delete(table());
        batch.add(table());
        batch.add(counter(OTHER_NAME_SERVERS));
        batch.add(counter(UNLISTED));
        let every = std::iter::once(ListId::Every);
        for (is_ipv4, kind) in [(true, SetType::Ipv4Addr), (false, SetType::Ipv6Addr)] {
            for list in every.clone().chain(self.lists().into_iter().map(ListId::Some)) {
                batch.add(set_of_resolved(sets::set_name(&list, is_ipv4), kind));
            }
            for list in &self.lists {
                batch.add(set(members::set_name(&list.name, is_ipv4), kind));
            }
        }
        let chains = self.chains(is_logged);
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

    pub(super) fn interface(&self) -> &str {
        self.interface.as_str()
    }

    /// The packets that enclaves need: a connection to the outside and its answers, questions to named, the forwards, and what
    /// parents elsewhere send.
    pub(super) fn packets(&self) -> Vec<Packet> {
        let mut packets = self.packets_of_parents();
        let (wg0, outside) = (self.interface.as_str(), self.uplink.as_str());
        for range in self.ranges() {
            let packet =
                |hook, comes_from: &str, goes_to| Packet::first(hook, comes_from, goes_to, range.first.is_ipv4());
            let enclave = Some(range.first);
            packets.push(Packet {
                source: enclave,
                destination_port: Some(443),
                ..packet(Hook::Forward, wg0, Some(outside))
            });
            packets.push(Packet {
                destination: enclave,
                source_port: Some(443),
                connection: "established",
                ..packet(Hook::Forward, outside, Some(wg0))
            });
            let gateway = self.gateways.iter().find(|gateway| gateway.is_ipv4() == range.first.is_ipv4());
            packets.extend(["udp", "tcp"].map(|protocol| Packet {
                source: enclave,
                destination: gateway.copied(),
                protocol,
                destination_port: Some(53),
                ..packet(Hook::Input, wg0, None)
            }));
            for Forward { to, .. } in self.forwards.iter().filter(|it| it.to.is_ipv4() == range.first.is_ipv4()) {
                packets.push(Packet {
                    destination: Some(to.ip()),
                    destination_port: Some(to.port()),
                    has_changed_destination: true,
                    ..packet(Hook::Forward, outside, Some(wg0))
                });
            }
        }
        packets
    }

    /// Packets to WireGuard's configured port and to the port for control streams. Rules may treat parents of one network
    /// differently.
    fn packets_of_parents(&self) -> Vec<Packet> {
        let parents = self.parents.iter().flatten();
        let ports = |parent: &IpNet| {
            let is_ipv4 = parent.addr().is_ipv4();
            let source = (parent.prefix_len() == parent.max_prefix_len()).then(|| parent.addr());
            let packet = |protocol, port, destination| Packet {
                source,
                destination,
                protocol,
                destination_port: Some(port),
                ..Packet::first(Hook::Input, self.uplink.as_str(), None, is_ipv4)
            };
            // A listener on `::` accepts both IP versions.
            let control = self.control.filter(|to| to.is_ipv4() == is_ipv4 || to.ip() == Ipv6Addr::UNSPECIFIED);
            let to = |control: SocketAddr| Some(control.ip()).filter(|address| !address.is_unspecified());
            let control = control.map(|control| packet("tcp", control.port(), to(control)));
            [packet("udp", self.tunnel_ports.entry, None)].into_iter().chain(control)
        };
        parents.flat_map(ports).collect()
    }

    fn chains(&self, is_logged: bool) -> [Rules; 9] {
        let filter = |hook| Some((NfChainType::Filter, hook, FILTER));
        let last = Some((NfChainType::Filter, NfHook::Input, LAST));
        [
            // Base chains only select what concerns wg0. The rest of the host's traffic is not ours.
            Rules { name: "output", hook: Some((NfChainType::Filter, NfHook::Output, RAW)), rules: self.output() },
            Rules {
                name: "prerouting",
                hook: Some((NfChainType::NAT, NfHook::Prerouting, DESTINATION_NAT)),
                rules: self.prerouting(),
            },
            Rules { name: "input", hook: filter(NfHook::Input), rules: self.input() },
            Rules { name: "to_wireguard", hook: last, rules: self.to_wireguard() },
            Rules { name: "forward", hook: filter(NfHook::Forward), rules: self.forward() },
            Rules {
                name: "postrouting",
                hook: Some((NfChainType::NAT, NfHook::Postrouting, SOURCE_NAT)),
                rules: self.postrouting(),
            },
            Rules { name: "enclaves_to_parent", hook: None, rules: self.staying() },
            Rules { name: "from_enclaves", hook: None, rules: self.leaving(is_logged) },
            Rules { name: "to_enclaves", hook: None, rules: self.arriving() },
        ]
    }

    /// The tunnel fails closed: its datagrams reach WireGuard only through this table. They are sent to the entry port, which no
    /// program reads, and senders accept answers only from there. If the table is missing, the rules that change the ports are
    /// missing too, so no packet that the other rules would have dropped leaves wg0. This holds even if nft never works again, and
    /// for datagrams that came before, because no connection state remembers the change.
    fn output(&self) -> Vec<Rule> {
        let TunnelPorts { entry, wireguard } = self.tunnel_ports;
        let mut rules = if self.parents.is_some() {
            // Before connection tracking, so that it and all filters see one port for both directions.
            vec![vec![rule::source_port("udp", wireguard), rule::set_port("sport", entry)]]
        } else {
            let local = IpAddr::from(Ipv4Addr::LOCALHOST);
            // Untracked: a full connection table does not cut the tunnel, and each datagram saves a lookup.
            vec![
                vec![
                    rule::destination(local),
                    rule::destination_port("udp", entry),
                    rule::untracked(),
                    rule::set_port("dport", wireguard),
                ],
                vec![
                    rule::source(local),
                    rule::source_port("udp", wireguard),
                    rule::untracked(),
                    rule::set_port("sport", entry),
                ],
            ]
        };
        // Otherwise named looks dead to its supervisor when the connection table is full.
        for gateway in &self.gateways {
            let within = || vec![rule::source(*gateway), rule::destination(*gateway)];
            rules.push([within(), vec![rule::destination_port("udp", 53), rule::untracked()]].concat());
            rules.push([within(), vec![rule::source_port("udp", 53), rule::untracked()]].concat());
        }
        rules
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
        // WireGuard receives from the relays on this host, or from those of the parents, and from no other host.
        let TunnelPorts { entry, wireguard } = self.tunnel_ports;
        match &self.parents {
            None => {
                let from_elsewhere = vec![rule::comes_not_from(&["lo"]), rule::destination_port("udp", wireguard)];
                rules.push([from_elsewhere, rule::drop().to_vec()].concat());
            }
            Some(parents) => {
                for is_ipv4 in [true, false] {
                    let from_others = rule::source_in_none_of(parents, is_ipv4);
                    let to_entry_port = vec![rule::destination_port("udp", entry)];
                    rules.push([from_others, to_entry_port, rule::drop().to_vec()].concat());
                }
                // Datagrams that bypass the entry port.
                rules.push([vec![rule::destination_port("udp", wireguard)], rule::drop().to_vec()].concat());
            }
        }
        for gateway in &self.gateways {
            // Linux accepts packets for an address on every interface. The gateway's addresses are only for enclaves and this host.
            let elsewhere = rule::comes_not_from(&["lo", self.interface.as_str()]);
            rules.push([vec![elsewhere, rule::destination(*gateway)], rule::drop().to_vec()].concat());
        }
        rules
    }

    /// Redirects what parents send, after every filter: the host's own rules know only the configured port.
    fn to_wireguard(&self) -> Vec<Rule> {
        let TunnelPorts { entry, wireguard } = self.tunnel_ports;
        let from_parents = vec![rule::destination_port("udp", entry), rule::set_port("dport", wireguard)];
        self.parents.iter().map(|_| from_parents.clone()).collect()
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

    fn leaving(&self, is_logged: bool) -> Vec<Rule> {
        let mut rules = vec![vec![rule::answers_a_connection(), rule::belongs_to_a_connection(), rule::accept()]];
        // Enclaves may ask only the gateway's name server, even over connections that an earlier table allowed.
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
            let is_ipv4 = range.first.is_ipv4();
            let leaves = || vec![rule::goes_to(self.uplink.as_str()), rule::source_in(range)];
            rules.extend(opened(&leaves(), &ListId::Every, &self.destinations, is_ipv4));
            for List { name, destinations, .. } in &self.lists {
                let of_members = vec![rule::source_in_set(&members::set_name(name, is_ipv4), is_ipv4)];
                let leaves = [leaves(), of_members].concat();
                rules.extend(opened(&leaves, &ListId::Some(name.clone()), destinations, is_ipv4));
            }
            let verdict = match self.mode {
                Mode::Enforce => Statement::Drop(None),
                Mode::Observe => rule::accept(),
            };
            let log = is_logged.then(|| rule::log(UNLISTED, LOG_GROUP));
            let report = std::iter::once(rule::count(UNLISTED)).chain(log).chain([verdict]);
            rules.push(leaves().into_iter().chain(report).collect());
        }
        rules.push(rule::drop().to_vec());
        rules
    }

    fn arriving(&self) -> Vec<Rule> {
        let mut rules = vec![vec![rule::belongs_to_a_connection(), rule::accept()]];
        for Forward { to, .. } in &self.forwards {
            // A host with a route to the enclave's own address must not connect to it directly.
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

/// The number of packets in nft's listing of the counter.
pub(super) fn counted(listed: &Value) -> Result<u64> {
    let objects = listed.get("nftables").and_then(Value::as_array).into_iter().flatten();
    let packets = objects.filter_map(|object| object.get("counter")?.get("packets")?.as_u64()).next();
    packets.context("nft lists no counter")
}

/// The JSON that `nft -j -f` reads.
pub(super) fn as_json(transaction: &Nftables<'_>) -> Result<String> {
    let mut json = serde_json::to_value(transaction).context("write the ruleset as JSON")?;
    let statements = json
        .pointer_mut("/nftables")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
        .filter_map(|object| object.pointer_mut("/add/rule/expr").and_then(Value::as_array_mut))
        .flatten();
    for statement in statements {
        // The library writes a statement without a value as a string, and nft wants an object.
        if let Some(name) = statement.as_str() {
            *statement = serde_json::json!({ name: null });
        }
    }
    Ok(json.to_string())
}

/// The transaction that removes our table.
pub(super) fn removal() -> Nftables<'static> {
    let mut batch = Batch::new();
    batch.add(table());
    batch.delete(table());
    batch.to_nftables()
}

fn counter(name: &'static str) -> NfListObject<'static> {
    let (family, table) = (NfFamily::INet, TABLE.into());
    NfListObject::Counter(Counter { family, table, name: name.into(), handle: None, packets: None, bytes: None })
}

/// The rules that let packets which match `leaves` pass to the destinations of a list.
fn opened(leaves: &Rule, list: &ListId, destinations: &[Allowed], is_ipv4: bool) -> Vec<Rule> {
    let resolved = vec![rule::destination_in_set(&sets::set_name(list, is_ipv4), is_ipv4)];
    let of_version = destinations.iter().filter(|allowed| allowed.net.addr().is_ipv4() == is_ipv4);
    let each = std::iter::once(resolved).chain(of_version.map(|allowed| rule::allowed(*allowed)));
    each.map(|destination| [leaves.clone(), destination, vec![rule::accept()]].concat()).collect()
}

/// Of addresses that the kernel forgets by itself.
fn set_of_resolved(name: String, kind: SetType) -> NfListObject<'static> {
    let flags = Some(HashSet::from([SetFlag::Timeout]));
    // Those that have ended count until the kernel collects them.
    let size = Some(u32::try_from(MAX_ADDRESSES).expect("fewer than a billion") * 2);
    NfListObject::Set(Box::new(Set { flags, size, ..empty_set(name, kind) }))
}

fn set(name: String, kind: SetType) -> NfListObject<'static> {
    NfListObject::Set(Box::new(empty_set(name, kind)))
}

fn empty_set(name: String, kind: SetType) -> Set<'static> {
    Set {
        family: NfFamily::INet,
        table: TABLE.into(),
        name: name.into(),
        set_type: SetTypeValue::Single(kind),
        flags: None,
        size: None,
        handle: None,
        policy: None,
        elem: None,
        timeout: None,
        gc_interval: None,
        comment: None,
    }
}

fn table() -> NfListObject<'static> {
    NfListObject::Table(Table { family: NfFamily::INet, name: TABLE.into(), handle: None })
}
