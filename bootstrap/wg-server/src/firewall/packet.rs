//! A packet that enclaves need, and the answers to what nftables rules can ask about it.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

/// The hooks whose base chains matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hook {
    Input,
    Forward,
}

/// What is known about a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) hook: Hook,
    pub(super) comes_from: String,
    /// `None` for a packet to this host.
    pub(super) goes_to: Option<String>,
    pub(super) is_ipv4: bool,
    /// `None`: anywhere outside.
    pub(super) source: Option<IpAddr>,
    pub(super) destination: Option<IpAddr>,
    pub(super) protocol: &'static str,
    pub(super) source_port: Option<u16>,
    pub(super) destination_port: Option<u16>,
    /// As nftables calls it.
    pub(super) connection: &'static str,
    pub(super) has_changed_destination: bool,
}

/// What a rule must match to let a packet pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Opening<'a> {
    /// The tunnel, by nft's word for its side.
    Interface(&'static str),
    /// A port of this host.
    Port { from: &'a str, protocol: &'static str, port: u16 },
}

/// Whether a packet matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Truth {
    Yes,
    No,
    Unknown,
}

/// The value of a packet's field.
enum Fact<'a> {
    Word(&'a str),
    Number(u16),
    Address(IpAddr),
    /// The packet has no such field.
    Nothing,
    Unknown,
}

impl Hook {
    pub(super) fn parse(name: &str) -> Option<Self> {
        match name {
            "input" => Some(Self::Input),
            "forward" => Some(Self::Forward),
            _ => None,
        }
    }
}

impl Packet {
    /// The first packet of a TCP connection between any hosts.
    pub(super) fn first(hook: Hook, comes_from: &str, goes_to: Option<&str>, is_ipv4: bool) -> Self {
        Self {
            hook,
            comes_from: comes_from.to_owned(),
            goes_to: goes_to.map(str::to_owned),
            is_ipv4,
            source: None,
            destination: None,
            protocol: "tcp",
            source_port: None,
            destination_port: None,
            connection: "new",
            has_changed_destination: false,
        }
    }

    /// Whether chains of a family see this packet.
    pub(super) fn is_of(&self, family: &str) -> bool {
        family == "inet" || family == if self.is_ipv4 { "ip" } else { "ip6" }
    }

    pub(super) fn opening(&self, interface: &str) -> Opening<'_> {
        match (self.hook, self.destination_port) {
            _ if self.comes_from == interface => Opening::Interface("iifname"),
            (Hook::Input, Some(port)) => Opening::Port { from: &self.comes_from, protocol: self.protocol, port },
            _ => Opening::Interface("oifname"),
        }
    }

    /// Evaluates a `match` statement.
    pub(super) fn matches(&self, statement: &Value) -> Truth {
        let (Some(left), Some(right)) = (statement.get("left"), statement.get("right")) else { return Truth::Unknown };
        let truth = self.compare(left, right);
        match statement.get("op").and_then(Value::as_str) {
            Some("==" | "in") => truth,
            Some("!=") => truth.not(),
            _ => Truth::Unknown,
        }
    }

    /// Evaluates a match of iptables that nft cannot translate. `-m conntrack` and `-m state` accept packets of connections or drop
    /// invalid ones: neither matches the first packet of a connection.
    pub(super) fn matches_extension(&self, statement: &Value) -> Truth {
        match statement.get("name").and_then(Value::as_str) {
            Some("comment") => Truth::Yes,
            Some("conntrack" | "state") if self.connection == "new" => Truth::No,
            _ => Truth::Unknown,
        }
    }

    /// Whether the value of an expression equals the right side or is in it.
    pub(super) fn compare(&self, left: &Value, right: &Value) -> Truth {
        let fact = self.fact(left);
        if matches!(fact, Fact::Nothing) {
            return Truth::No;
        }
        is(&fact, right)
    }

    fn fact(&self, expression: &Value) -> Fact<'_> {
        let key = |kind: &str, field: &str| expression.get(kind)?.get(field)?.as_str();
        if let Some(meta) = key("meta", "key") {
            return self.meta(meta);
        }
        if let (Some(protocol), Some(field)) = (key("payload", "protocol"), key("payload", "field")) {
            return self.payload(protocol, field);
        }
        match key("ct", "key") {
            Some("state") => Fact::Word(self.connection),
            Some("status") => match (self.has_changed_destination, self.connection) {
                (true, _) => Fact::Word("dnat"),
                (false, "new") => Fact::Nothing,
                (false, _) => Fact::Unknown,
            },
            _ => Fact::Unknown,
        }
    }

    fn meta(&self, key: &str) -> Fact<'_> {
        match key {
            "iifname" | "iif" => Fact::Word(&self.comes_from),
            "oifname" | "oif" => self.goes_to.as_deref().map_or(Fact::Nothing, Fact::Word),
            "l4proto" => Fact::Word(self.protocol),
            "nfproto" => Fact::Word(if self.is_ipv4 { "ipv4" } else { "ipv6" }),
            "protocol" => Fact::Word(if self.is_ipv4 { "ip" } else { "ip6" }),
            _ => Fact::Unknown,
        }
    }

    fn payload(&self, protocol: &str, field: &str) -> Fact<'_> {
        match (protocol, field) {
            ("ip" | "ip6", _) if (protocol == "ip") != self.is_ipv4 => Fact::Nothing,
            ("ip" | "ip6", "saddr") => self.source.map_or(Fact::Unknown, Fact::Address),
            ("ip" | "ip6", "daddr") => self.destination.map_or(Fact::Unknown, Fact::Address),
            ("ip", "protocol") | ("ip6", "nexthdr") => Fact::Word(self.protocol),
            ("tcp" | "udp" | "udplite" | "sctp" | "dccp" | "icmp" | "icmpv6" | "igmp" | "esp" | "ah", _)
                if protocol != self.protocol =>
            {
                Fact::Nothing
            }
            ("tcp" | "udp" | "th", "sport") => self.source_port.map_or(Fact::Unknown, Fact::Number),
            ("tcp" | "udp" | "th", "dport") => self.destination_port.map_or(Fact::Unknown, Fact::Number),
            _ => Fact::Unknown,
        }
    }
}

fn is(fact: &Fact<'_>, right: &Value) -> Truth {
    let members = right.as_array().or_else(|| right.get("set").and_then(Value::as_array));
    if let Some(members) = members {
        return members.iter().fold(Truth::No, |truth, member| truth.or(is(fact, member)));
    }
    match fact {
        Fact::Word(word) => right.as_str().map_or(Truth::Unknown, |right| is_word(word, right)),
        Fact::Number(number) => is_number(*number, right),
        Fact::Address(address) => is_address(*address, right),
        Fact::Nothing | Fact::Unknown => Truth::Unknown,
    }
}

fn is_word(word: &str, right: &str) -> Truth {
    // A named set.
    if right.starts_with('@') {
        return Truth::Unknown;
    }
    Truth::from(right.strip_suffix('*').map_or(word == right, |start| word.starts_with(start)))
}

fn is_number(number: u16, right: &Value) -> Truth {
    let end = |at: usize| right.get("range")?.get(at)?.as_u64();
    match (right.as_u64(), end(0), end(1)) {
        (Some(right), ..) => Truth::from(u64::from(number) == right),
        (None, Some(first), Some(last)) => Truth::from((first..=last).contains(&u64::from(number))),
        _ => Truth::Unknown,
    }
}

fn is_address(address: IpAddr, right: &Value) -> Truth {
    let parse = |text: Option<&Value>| text.and_then(Value::as_str).and_then(|text| text.parse::<IpAddr>().ok());
    if let Some(right) = parse(Some(right)) {
        return Truth::from(address == right);
    }
    if let Some(prefix) = right.get("prefix") {
        let len = prefix.get("len").and_then(Value::as_u64).and_then(|len| u8::try_from(len).ok());
        let net = parse(prefix.get("addr")).zip(len).and_then(|(addr, len)| IpNet::new(addr, len).ok());
        return net.map_or(Truth::Unknown, |net| Truth::from(net.contains(&address)));
    }
    let range = right.get("range");
    let end = |at: usize| parse(range.and_then(|range| range.get(at)));
    match (end(0), end(1)) {
        (Some(first), Some(last)) => Truth::from((first..=last).contains(&address)),
        _ => Truth::Unknown,
    }
}

impl From<bool> for Truth {
    fn from(truth: bool) -> Self {
        if truth { Self::Yes } else { Self::No }
    }
}

impl Truth {
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Yes, Self::Yes) => Self::Yes,
            _ => Self::Unknown,
        }
    }

    fn or(self, other: Self) -> Self {
        self.not().and(other.not()).not()
    }

    fn not(self) -> Self {
        match self {
            Self::Yes => Self::No,
            Self::No => Self::Yes,
            Self::Unknown => Self::Unknown,
        }
    }
}
