//! The connections through `nat.forwards` that are under way, from the kernel's connection table (ctnetlink).

use std::io;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_netfilter::conntrack::{
    ConntrackAttribute, ConntrackMessage, IPTuple, ProtoInfo, ProtoInfoTCP, ProtoTuple, Status, Tuple,
};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr as NetlinkAddress};

use crate::config::Forward;

/// NFNETLINK_V0 (linux/netfilter/nfnetlink.h).
const VERSION: u8 = 0;
/// A dump comes in datagrams of up to 32 KiB (NLMSG_GOODSIZE and netlink_dump in the kernel).
const BUFFER: usize = 64 * 1024;
/// Both ends know of the connection, and one of them may still send (enum tcp_conntrack in linux/netfilter/nf_conntrack_tcp.h):
/// SYN_RECV, ESTABLISHED, FIN_WAIT, CLOSE_WAIT.
const UNDER_WAY: [u8; 4] = [2, 3, 4, 5];

/// A connection whose destination the host has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Translated {
    port: u16,
    to: SocketAddr,
    tcp_state: u8,
}

/// Counts them. Blocks while the kernel lists its table, which takes milliseconds, or a second for a full one.
pub(crate) fn count(forwards: &[Forward]) -> Result<usize> {
    let mut count = 0;
    let doing = "count the connections through nat.forwards";
    each(|attributes| {
        if translated(attributes).is_some_and(|connection| is_under_way(connection, forwards)) {
            count += 1;
        }
    })
    .context(doing)?;
    Ok(count)
}

fn is_under_way(Translated { port, to, tcp_state }: Translated, forwards: &[Forward]) -> bool {
    UNDER_WAY.contains(&tcp_state) && forwards.contains(&Forward { port, to })
}

/// Calls `look` for each connection of the kernel's table.
fn each(mut look: impl FnMut(&[ConntrackAttribute])) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&NetlinkAddress::new(0, 0))?;
    socket.send(&request(), 0)?;
    let mut datagram = Vec::with_capacity(BUFFER);
    loop {
        datagram.clear();
        socket.recv(&mut datagram, 0)?;
        let mut rest = datagram.as_slice();
        while !rest.is_empty() {
            let len = NetlinkBuffer::new_checked(rest).map_err(invalid)?.length();
            let payload = NetlinkMessage::<NetfilterMessage>::deserialize(rest).map_err(invalid)?.payload;
            if let NetlinkPayload::Done(_) = payload {
                return Ok(());
            } else if let NetlinkPayload::Error(error) = payload {
                return Err(error.to_io());
            } else if let NetlinkPayload::InnerMessage(message) = payload
                && let NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)) = message.inner
            {
                look(&attributes);
            }
            let len = usize::try_from(len).expect("32 bits fit").next_multiple_of(4);
            rest = rest.get(len..).unwrap_or_default();
        }
    }
}

fn invalid(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a message of the kernel: {error}"))
}

/// For the connections of all IP versions.
fn request() -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let of_all = NetfilterHeader::new(NetfilterProtoFamily::Unspec, VERSION, 0);
    let payload = NetfilterMessage::new(of_all, ConntrackMessage::Get(Vec::new()));
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(payload));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// The port that the client connected to, and the enclave that answers it.
fn translated(attributes: &[ConntrackAttribute]) -> Option<Translated> {
    let (mut is_translated, mut port, mut to, mut tcp_state) = (false, None, None, None);
    for attribute in attributes {
        if let ConntrackAttribute::CtaStatus(status) = attribute {
            is_translated = status.contains(Status::DstNat);
        } else if let ConntrackAttribute::CtaTupleOrig(original) = attribute {
            port = destination_port(original);
        } else if let ConntrackAttribute::CtaTupleReply(reply) = attribute {
            to = source(reply);
        } else if let ConntrackAttribute::CtaProtoInfo(info) = attribute {
            tcp_state = state(info);
        }
    }
    Some(Translated { port: port.filter(|_| is_translated)?, to: to?, tcp_state: tcp_state? })
}

fn destination_port(tuple: &[Tuple]) -> Option<u16> {
    ports(tuple).find_map(|port| if let ProtoTuple::DestinationPort(port) = port { Some(*port) } else { None })
}

fn source(tuple: &[Tuple]) -> Option<SocketAddr> {
    let port =
        ports(tuple).find_map(|port| if let ProtoTuple::SourcePort(port) = port { Some(*port) } else { None })?;
    let addresses =
        tuple.iter().filter_map(|part| if let Tuple::Ip(addresses) = part { Some(addresses) } else { None });
    let address: Option<IpAddr> = addresses
        .flatten()
        .find_map(|address| if let IPTuple::SourceAddress(address) = address { Some(*address) } else { None });
    Some(SocketAddr::new(address?, port))
}

fn ports(tuple: &[Tuple]) -> impl Iterator<Item = &ProtoTuple> {
    tuple.iter().filter_map(|part| if let Tuple::Proto(ports) = part { Some(ports) } else { None }).flatten()
}

fn state(info: &[ProtoInfo]) -> Option<u8> {
    let of_tcp = info.iter().filter_map(|info| if let ProtoInfo::TCP(parts) = info { Some(parts) } else { None });
    of_tcp.flatten().find_map(|part| if let ProtoInfoTCP::State(state) = part { Some(*state) } else { None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_counts_while_one_end_may_still_send() {
        let to: SocketAddr = "203.0.113.2:8443".parse().unwrap();
        let forwards = [Forward { port: 443, to }];
        let is_under_way = |port, to, tcp_state| is_under_way(Translated { port, to, tcp_state }, &forwards);
        for (tcp_state, expected) in [false, false, true, true, true, true, false, false, false].into_iter().enumerate()
        {
            assert_eq!(is_under_way(443, to, u8::try_from(tcp_state).unwrap()), expected, "{tcp_state}");
        }
        assert!(!is_under_way(444, to, 3));
        assert!(!is_under_way(443, "203.0.113.3:8443".parse().unwrap(), 3));
    }
}
