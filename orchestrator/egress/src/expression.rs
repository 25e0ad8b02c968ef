//! The expressions that rules are made of, in the order in which nft(8) writes them. Names and numbers are those of
//! linux/netfilter/nf_tables.h; the values of registers are in network byte order unless a comment says otherwise.

use ipnet::IpNet;
use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::nftables::{
    Bitwise, Cmp, DataAttribute, ExpressionAttribute, Expressions, Immediate, ListAttribute, Meta, MetaKey, Operator,
    Payload, Register, Verdict, VerdictAttribute,
};

use crate::destination::Port;

/// The expressions of one rule.
pub(crate) type Expression = ListAttribute<ExpressionAttribute>;

/// NF_DROP and NF_ACCEPT (linux/netfilter.h).
const DROP: Verdict = Verdict::Other(0);
const ACCEPT: Verdict = Verdict::Other(1);

/// NFT_CT_STATE, NFT_CT_DIRECTION.
const CT_STATE: u32 = 0;
const CT_DIRECTION: u32 = 1;
/// IP_CT_DIR_REPLY (linux/netfilter/nf_conntrack_tuple_common.h).
const REPLY: u8 = 1;
/// NF_CT_STATE_BIT (linux/netfilter/nf_conntrack_common.h).
pub(crate) const ESTABLISHED: u32 = 1 << 1;
pub(crate) const RELATED: u32 = 1 << 2;

/// NFT_PAYLOAD_NETWORK_HEADER, NFT_PAYLOAD_TRANSPORT_HEADER.
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;

/// NFT_OBJECT_COUNTER.
pub(crate) const COUNTER: u32 = 1;
/// NFT_REJECT_TCP_RST.
const TCP_RESET: u32 = 1;

/// NFPROTO_IPV4, NFPROTO_IPV6 (linux/netfilter.h).
const IPV4: u8 = 2;
const IPV6: u8 = 10;

/// IP protocol numbers (IANA).
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
/// Types of ICMP (RFC 792) and ICMPv6 (RFC 4443).
const ECHO_REQUEST: u8 = 8;
const ECHO_REQUEST_V6: u8 = 128;

/// `accept`
pub(crate) fn accept() -> Vec<Expression> {
    vec![verdict(vec![VerdictAttribute::Code(ACCEPT)])]
}

/// `drop`
pub(crate) fn drop() -> Vec<Expression> {
    vec![verdict(vec![VerdictAttribute::Code(DROP)])]
}

/// `goto CHAIN`
pub(crate) fn goto(chain: &str) -> Vec<Expression> {
    vec![verdict(vec![VerdictAttribute::Code(Verdict::Goto), VerdictAttribute::Chain(chain.to_owned())])]
}

/// `meta skuid USER`
pub(crate) fn socket_user(user: u32) -> Vec<Expression> {
    // The kernel keeps it in its own byte order.
    vec![meta(MetaKey::SocketUserId), equal(user.to_ne_bytes().to_vec())]
}

/// `iif lo`
pub(crate) fn from_loopback() -> Vec<Expression> {
    /// LOOPBACK_IFINDEX (net/flow.h): each namespace's first interface.
    const LOOPBACK: u32 = 1;
    vec![meta(MetaKey::Iif), equal(LOOPBACK.to_ne_bytes().to_vec())]
}

/// `ct state STATES`
pub(crate) fn state(states: u32) -> Vec<Expression> {
    let mask = states.to_ne_bytes().to_vec();
    vec![
        connection(CT_STATE),
        Expressions::Bitwise(vec![
            Bitwise::SourceRegister(Register::Reg1),
            Bitwise::DestinationRegister(Register::Reg1),
            Bitwise::Length(4),
            Bitwise::Mask(DataAttribute::Value(mask)),
            Bitwise::Xor(DataAttribute::Value(vec![0; 4])),
        ])
        .into(),
        compare(Operator::NotEqual, vec![0; 4]),
    ]
}

/// `ct direction reply`
pub(crate) fn is_reply() -> Vec<Expression> {
    vec![connection(CT_DIRECTION), equal(vec![REPLY])]
}

/// `meta l4proto tcp`
pub(crate) fn is_tcp() -> Vec<Expression> {
    protocol(TCP)
}

/// `ip daddr NET` or `ip6 daddr NET`
pub(crate) fn to_net(net: IpNet) -> Vec<Expression> {
    /// Where the destination is in a header (RFC 791, RFC 8200).
    const OFFSET_V4: u32 = 16;
    const OFFSET_V6: u32 = 24;
    let (family, offset, address, mask) = match net {
        IpNet::V4(net) => (IPV4, OFFSET_V4, net.addr().octets().to_vec(), net.netmask().octets().to_vec()),
        IpNet::V6(net) => (IPV6, OFFSET_V6, net.addr().octets().to_vec(), net.netmask().octets().to_vec()),
    };
    let len = u32::from(net.max_prefix_len()) / 8;
    let mut expressions = vec![meta(MetaKey::Nfproto), equal(vec![family])];
    if net.prefix_len() == 0 {
        return expressions;
    }
    expressions.push(payload(NETWORK_HEADER, offset, len));
    if net.prefix_len() < net.max_prefix_len() {
        let masked = Expressions::Bitwise(vec![
            Bitwise::SourceRegister(Register::Reg1),
            Bitwise::DestinationRegister(Register::Reg1),
            Bitwise::Length(len),
            Bitwise::Mask(DataAttribute::Value(mask)),
            Bitwise::Xor(DataAttribute::Value(vec![0; address.len()])),
        ]);
        expressions.push(masked.into());
    }
    expressions.push(equal(address));
    expressions
}

/// `tcp dport PORT`, `udp dport PORT`, or echo requests of the IP version, or versions, that the destination can have.
pub(crate) fn to_port(port: Port, net: Option<IpNet>) -> Vec<Vec<Expression>> {
    let numbered = |transport, port: u16| {
        /// Of TCP and of UDP (RFC 9293, RFC 768).
        const DESTINATION_PORT: u32 = 2;
        let port = [payload(TRANSPORT_HEADER, DESTINATION_PORT, 2), equal(port.to_be_bytes().to_vec())];
        [protocol(transport), port.to_vec()].concat()
    };
    match (port, net) {
        (Port::Tcp(port), _) => vec![numbered(TCP, port)],
        (Port::Udp(port), _) => vec![numbered(UDP, port)],
        (Port::Ping, Some(IpNet::V4(_))) => vec![echo_request(ICMP, ECHO_REQUEST)],
        (Port::Ping, Some(IpNet::V6(_))) => vec![echo_request(ICMPV6, ECHO_REQUEST_V6)],
        (Port::Ping, None) => vec![echo_request(ICMP, ECHO_REQUEST), echo_request(ICMPV6, ECHO_REQUEST_V6)],
    }
}

fn echo_request(icmp: u8, kind: u8) -> Vec<Expression> {
    [protocol(icmp), vec![payload(TRANSPORT_HEADER, 0, 1), equal(vec![kind])]].concat()
}

/// `counter name NAME`
pub(crate) fn count(name: &str) -> Vec<Expression> {
    /// NFTA_OBJREF_IMM_TYPE, NFTA_OBJREF_IMM_NAME.
    const TYPE: u16 = 1;
    const NAME: u16 = 2;
    vec![other("objref", vec![number(TYPE, COUNTER), text(NAME, name)])]
}

/// `log group GROUP prefix PREFIX`
pub(crate) fn log(group: u16, prefix: &str) -> Vec<Expression> {
    /// NFTA_LOG_GROUP, NFTA_LOG_PREFIX.
    const GROUP: u16 = 1;
    const PREFIX: u16 = 2;
    vec![other("log", vec![DefaultNla::new(GROUP, group.to_be_bytes().to_vec()), text(PREFIX, prefix)])]
}

/// `reject with tcp reset`
pub(crate) fn reset() -> Vec<Expression> {
    /// NFTA_REJECT_TYPE.
    const TYPE: u16 = 1;
    vec![other("reject", vec![number(TYPE, TCP_RESET)])]
}

/// An attribute with a number.
pub(crate) fn number(kind: u16, value: u32) -> DefaultNla {
    DefaultNla::new(kind, value.to_be_bytes().to_vec())
}

/// An attribute with a text, which ends with a zero byte.
pub(crate) fn text(kind: u16, value: &str) -> DefaultNla {
    DefaultNla::new(kind, [value.as_bytes(), &[0]].concat())
}

fn protocol(number: u8) -> Vec<Expression> {
    vec![meta(MetaKey::L4Proto), equal(vec![number])]
}

fn meta(key: MetaKey) -> Expression {
    Expressions::Meta(vec![Meta::DestinationRegister(Register::Reg1), Meta::Key(key)]).into()
}

fn payload(base: u32, offset: u32, len: u32) -> Expression {
    let register = Payload::DestinationRegister(Register::Reg1);
    Expressions::Payload(vec![register, Payload::Base(base), Payload::Offset(offset), Payload::Len(len)]).into()
}

fn connection(key: u32) -> Expression {
    /// NFTA_CT_DREG, NFTA_CT_KEY.
    const DESTINATION: u16 = 1;
    const KEY: u16 = 2;
    other("ct", vec![number(DESTINATION, Register::Reg1.into()), number(KEY, key)])
}

fn equal(value: Vec<u8>) -> Expression {
    compare(Operator::Equal, value)
}

fn compare(operator: Operator, value: Vec<u8>) -> Expression {
    let operands = [Cmp::SourceRegister(Register::Reg1), Cmp::Op(operator), Cmp::Data(DataAttribute::Value(value))];
    Expressions::Cmp(operands.to_vec()).into()
}

fn verdict(attributes: Vec<VerdictAttribute>) -> Expression {
    let register = Immediate::DestinationRegister(Register::Verdict);
    Expressions::Immediate(vec![register, Immediate::Data(DataAttribute::Verdict(attributes))]).into()
}

/// An expression that the library has no type for.
fn other(name: &str, attributes: Vec<DefaultNla>) -> Expression {
    Expressions::Other { expression_type: name.to_owned(), attributes }.into()
}
