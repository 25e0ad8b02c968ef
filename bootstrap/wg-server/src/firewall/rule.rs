//! The nftables statements that our rules consist of.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use egress::Port;
use ipnet::IpNet;
use nftables::expr::{BinaryOperation, Range as AddressRange};
use nftables::expr::{
    CT, Expression, Fib, FibFlag, FibResult, Meta, MetaKey, NamedExpression, Payload, PayloadField, Prefix, RT, RTKey,
    SetItem, TcpOption,
};
use nftables::stmt::{
    AnonymousCounter, Counter, JumpTarget, Log, Mangle, Match, NAT, NATFamily, Operator, Reject, RejectType, Statement,
};

use crate::config::{Allowed, Range};

pub(super) type Rule = Vec<Statement<'static>>;

pub(super) fn accept() -> Statement<'static> {
    Statement::Accept(None)
}

/// Counted, so that `nft list table inet wg_server` shows what was dropped where.
pub(super) fn drop() -> [Statement<'static>; 2] {
    [Statement::Counter(Counter::Anonymous(Some(AnonymousCounter::default()))), Statement::Drop(None)]
}

/// Counted as with [`drop`], and the client knows at once.
pub(super) fn reset() -> [Statement<'static>; 2] {
    let [count, _] = drop();
    [count, Statement::Reject(Some(Reject { _type: Some(RejectType::TCPReset), expr: None }))]
}

/// Counted under a name, for the status.
pub(super) fn drop_into(counter: &'static str) -> Vec<Statement<'static>> {
    vec![Statement::Counter(Counter::Named(counter.into())), Statement::Drop(None)]
}

/// Counts a packet under a name, and lets the next statement decide.
pub(super) fn count(counter: &'static str) -> Statement<'static> {
    Statement::Counter(Counter::Named(counter.into()))
}

/// Sends a packet's headers to a group of NFLOG, and lets the next statement decide.
pub(super) fn log(prefix: &'static str, group: u16) -> Statement<'static> {
    Statement::Log(Some(Log { prefix: Some(prefix.into()), ..Log::new(Some(group.into())) }))
}

pub(super) fn jump(chain: &'static str) -> Statement<'static> {
    Statement::Jump(JumpTarget { target: chain.into() })
}

pub(super) fn masquerade() -> Statement<'static> {
    Statement::Masquerade(None)
}

/// Does not change packets of the other IP version (nft_nat_inet_eval, net/netfilter/nft_nat.c).
pub(super) fn change_destination(to: SocketAddr) -> Statement<'static> {
    Statement::DNAT(Some(NAT {
        addr: Some(text(&to.ip().to_string())),
        family: Some(if to.is_ipv4() { NATFamily::IP } else { NATFamily::IP6 }),
        port: Some(Expression::Number(u32::from(to.port()))),
        flags: None,
    }))
}

/// Excludes the packet from connection tracking.
pub(super) fn untracked() -> Statement<'static> {
    Statement::Notrack
}

/// Changes a port of a UDP datagram, without state.
pub(super) fn set_port(which: &'static str, port: u16) -> Statement<'static> {
    Statement::Mangle(Mangle { key: field("udp", which), value: Expression::Number(u32::from(port)) })
}

pub(super) fn comes_from(interface: &str) -> Statement<'static> {
    is(meta(MetaKey::Iifname), text(interface))
}

pub(super) fn comes_not_from(interfaces: &[&str]) -> Statement<'static> {
    let names = interfaces.iter().map(|name| SetItem::Element(text(name))).collect();
    matches(meta(MetaKey::Iifname), Operator::NEQ, Expression::Named(NamedExpression::Set(names)))
}

pub(super) fn goes_to(interface: &str) -> Statement<'static> {
    is(meta(MetaKey::Oifname), text(interface))
}

pub(super) fn source_in(range: Range) -> Statement<'static> {
    is(field(ip(range.first), "saddr"), span(range))
}

/// The source has this IP version and is in none of these networks, which do not overlap.
pub(super) fn source_in_none_of(networks: &[IpNet], is_ipv4: bool) -> Vec<Statement<'static>> {
    let (version, protocol) = if is_ipv4 { ("ipv4", "ip") } else { ("ipv6", "ip6") };
    let prefix = |net: &IpNet| {
        let (addr, len) = (Box::new(text(&net.network().to_string())), u32::from(net.prefix_len()));
        SetItem::Element(Expression::Named(NamedExpression::Prefix(Prefix { addr, len })))
    };
    let known: Vec<SetItem<'static>> =
        networks.iter().filter(|net| net.network().is_ipv4() == is_ipv4).map(prefix).collect();
    let mut statements = vec![is(meta(MetaKey::Nfproto), text(version))];
    if !known.is_empty() {
        let known = Expression::Named(NamedExpression::Set(known));
        statements.push(matches(field(protocol, "saddr"), Operator::NEQ, known));
    }
    statements
}

pub(super) fn destination_in(range: Range) -> Statement<'static> {
    is(field(ip(range.first), "daddr"), span(range))
}

/// The destination is an element of the set, whose type is of this IP version.
pub(super) fn destination_in_set(set: &str, is_ipv4: bool) -> Statement<'static> {
    in_set("daddr", set, is_ipv4)
}

/// The same for the source.
pub(super) fn source_in_set(set: &str, is_ipv4: bool) -> Statement<'static> {
    in_set("saddr", set, is_ipv4)
}

fn in_set(which: &'static str, set: &str, is_ipv4: bool) -> Statement<'static> {
    is(field(if is_ipv4 { "ip" } else { "ip6" }, which), text(&format!("@{set}")))
}

/// The destination is in this network, and has this port, if any.
pub(super) fn allowed(Allowed { net, port }: Allowed) -> Rule {
    let mut rule = vec![in_network("daddr", net)];
    rule.extend(port.map(|port| match port {
        Port::Tcp(port) => destination_port("tcp", port),
        Port::Udp(port) => destination_port("udp", port),
        Port::Ping => echo_request(net.addr()),
    }));
    rule
}

fn in_network(which: &'static str, net: IpNet) -> Statement<'static> {
    let (address, len) = (text(&net.network().to_string()), u32::from(net.prefix_len()));
    if len == 0 {
        return is(meta(MetaKey::Nfproto), text(if net.network().is_ipv4() { "ipv4" } else { "ipv6" }));
    }
    let is_host = net.prefix_len() == net.max_prefix_len();
    let prefix = || Expression::Named(NamedExpression::Prefix(Prefix { addr: Box::new(address.clone()), len }));
    is(field(ip(net.network()), which), if is_host { address.clone() } else { prefix() })
}

pub(super) fn destination(address: IpAddr) -> Statement<'static> {
    is(field(ip(address), "daddr"), text(&address.to_string()))
}

pub(super) fn source(address: IpAddr) -> Statement<'static> {
    is(field(ip(address), "saddr"), text(&address.to_string()))
}

pub(super) fn source_port(protocol: &'static str, port: u16) -> Statement<'static> {
    is(field(protocol, "sport"), Expression::Number(u32::from(port)))
}

pub(super) fn destination_port(protocol: &'static str, port: u16) -> Statement<'static> {
    is(field(protocol, "dport"), Expression::Number(u32::from(port)))
}

pub(super) fn echo_request(address: IpAddr) -> Statement<'static> {
    is(field(if address.is_ipv4() { "icmp" } else { "icmpv6" }, "type"), text("echo-request"))
}

/// The packet's destination is an address of the interface that it arrived on, not just of this host.
pub(super) fn is_for_the_interface_itself() -> Statement<'static> {
    let fib = Fib { result: FibResult::Type, flags: HashSet::from([FibFlag::Daddr, FibFlag::Iif]) };
    is(Expression::Named(NamedExpression::Fib(fib)), text("local"))
}

/// The connection's destination was changed.
pub(super) fn has_changed_destination() -> Statement<'static> {
    matches(connection("status"), Operator::IN, text("dnat"))
}

/// The packet goes to the host that started its connection.
pub(super) fn answers_a_connection() -> Statement<'static> {
    is(connection("direction"), text("reply"))
}

/// The first packet of a connection, and those that repeat it.
pub(super) fn begins_a_connection() -> Statement<'static> {
    matches(connection("state"), Operator::IN, text("new"))
}

/// Answers, and ICMP errors such as frag-needed that belong to a connection.
pub(super) fn belongs_to_a_connection() -> Statement<'static> {
    matches(connection("state"), Operator::IN, Expression::List(vec![text("established"), text("related")]))
}

/// Limits the segment size that TCP connections announce to what the outgoing path carries.
pub(super) fn clamp_segment_size() -> [Statement<'static>; 2] {
    let flags = BinaryOperation::AND(field("tcp", "flags"), Expression::List(vec![text("syn"), text("rst")]));
    let size = TcpOption { name: "maxseg".into(), field: Some("size".into()) };
    [
        is(Expression::BinaryOperation(Box::new(flags)), text("syn")),
        Statement::Mangle(Mangle {
            key: Expression::Named(NamedExpression::TcpOption(size)),
            value: Expression::Named(NamedExpression::RT(RT { key: RTKey::MTU, family: None })),
        }),
    ]
}

fn ip(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "ip" } else { "ip6" }
}

fn span(range: Range) -> Expression<'static> {
    if range.first == range.last {
        return text(&range.first.to_string());
    }
    Expression::Named(NamedExpression::Set(vec![SetItem::Element(Expression::Range(Box::new(AddressRange {
        range: [text(&range.first.to_string()), text(&range.last.to_string())],
    })))]))
}

fn is(left: Expression<'static>, right: Expression<'static>) -> Statement<'static> {
    matches(left, Operator::EQ, right)
}

fn matches(left: Expression<'static>, op: Operator, right: Expression<'static>) -> Statement<'static> {
    Statement::Match(Match { left, right, op })
}

fn meta(key: MetaKey) -> Expression<'static> {
    Expression::Named(NamedExpression::Meta(Meta { key }))
}

fn connection(key: &'static str) -> Expression<'static> {
    Expression::Named(NamedExpression::CT(CT { key: key.into(), family: None, dir: None }))
}

fn field(protocol: &'static str, field: &'static str) -> Expression<'static> {
    Expression::Named(NamedExpression::Payload(Payload::PayloadField(PayloadField {
        protocol: protocol.into(),
        field: field.into(),
    })))
}

fn text(text: &str) -> Expression<'static> {
    Expression::String(text.to_owned().into())
}
