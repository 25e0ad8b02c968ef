//! The table in the kernel: loads it, and reads its counters. All over one netlink socket, in the network namespace of
//! the thread that opened it.

use std::io;

use netlink_packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    Nla, NlaBuffer, NlasIterator,
};
use netlink_packet_netfilter::nftables::NfTablesMessage;
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_NETFILTER;
use thiserror::Error;

use crate::expression::text;
use crate::rules::{Part, Rules, TABLE};

/// NFNETLINK_V0 (linux/netfilter/nfnetlink.h).
const VERSION: u8 = 0;
/// NFNL_SUBSYS_NFTABLES, the subsystem of a batch.
const NFTABLES: u16 = 10;
/// The kernel answers while it takes the request, so that an answer is there at once.
pub(crate) const BUFFER: usize = 64 * 1024;

/// The enclave's table.
#[derive(Debug)]
pub struct Firewall {
    socket: Socket,
}

/// What could not be done.
#[derive(Debug, Error)]
#[error("nf_tables: {doing}")]
pub struct NetfilterError {
    doing: String,
    #[source]
    cause: io::Error,
}

impl Firewall {
    /// Loads the table, all of it or nothing.
    ///
    /// # Errors
    /// The message that the kernel refused, and why.
    pub fn load(rules: &Rules) -> Result<Self, NetfilterError> {
        let socket = open()?;
        commit(&socket, rules.parts())?;
        Ok(Self { socket })
    }

    /// The number of refused packets of each process since the table was loaded.
    ///
    /// # Errors
    /// The socket's.
    pub fn refused(&self) -> Result<Vec<(String, u64)>, NetfilterError> {
        let failed = |cause| NetfilterError { doing: "read the counters".to_owned(), cause };
        /// NFTA_OBJ_TABLE.
        const TABLE_NAME: u16 = 1;
        let request = message(
            NfTablesMessage::GetObject(vec![text(TABLE_NAME, TABLE)]).into(),
            NetfilterProtoFamily::Inet,
            0,
            (NLM_F_DUMP, 0),
        );
        self.socket.send(&request, 0).map_err(failed)?;
        let answers = receive(&self.socket).map_err(failed)?;
        Ok(answers.into_iter().filter_map(|answer| counter(answer.payload)).collect())
    }
}

impl NetfilterError {
    /// Whether the table or set does not exist.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.cause.kind() == io::ErrorKind::NotFound
    }

    fn new(doing: &str, cause: io::Error) -> Self {
        Self { doing: doing.to_owned(), cause }
    }
}

/// Makes all changes in one transaction, or none.
pub(crate) fn commit(socket: &Socket, parts: Vec<Part>) -> Result<(), NetfilterError> {
    let failed = |doing: &'static str| move |cause| NetfilterError::new(doing, cause);
    let names: Vec<_> = parts.iter().map(|part| format!("add {}", part.name)).collect();
    let batch = batch(parts);
    let sent = socket.send(&batch, 0).map_err(failed("send the table"))?;
    if sent != batch.len() {
        return Err(failed("send the table")(io::ErrorKind::WriteZero.into()));
    }
    let doing = |sequence: u32| {
        let at = usize::try_from(sequence).ok().and_then(|sequence| sequence.checked_sub(1));
        at.and_then(|at| names.get(at)).map_or("load the table", String::as_str)
    };
    let mut is_acknowledged = false;
    for message in receive(socket).map_err(failed("read the answer"))? {
        if let NetlinkPayload::Error(error) = message.payload {
            if error.code.is_some() {
                return Err(NetfilterError::new(doing(message.header.sequence_number), error.to_io()));
            }
            is_acknowledged = true;
        }
    }
    let silent = || failed("load the table")(io::Error::other("the kernel did not answer"));
    is_acknowledged.then_some(()).ok_or_else(silent)
}

/// All parts between the two messages that start and end a transaction. The parts' sequence numbers count from 1. Only the
/// last one asks for an acknowledgement: errors are answered always.
fn batch(parts: Vec<Part>) -> Vec<u8> {
    let control = |control: ControlMessage, sequence| {
        message(control.into(), NetfilterProtoFamily::Unspec, NFTABLES, (0, sequence))
    };
    let mut batch = control(ControlMessage::BatchBegin, 0);
    let mut sequence = 0;
    let mut parts = parts.into_iter().peekable();
    while let Some(part) = parts.next() {
        sequence += 1;
        let acknowledge = if parts.peek().is_none() { NLM_F_ACK } else { 0 };
        let flags = part.flags | acknowledge;
        batch.extend(message(part.message.into(), NetfilterProtoFamily::Inet, 0, (flags, sequence)));
    }
    batch.extend(control(ControlMessage::BatchEnd, sequence + 1));
    batch
}

fn message(
    inner: NetfilterMessageInner,
    family: NetfilterProtoFamily,
    resource: u16,
    (flags, sequence): (u16, u32),
) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    header.sequence_number = sequence;
    let payload = NetfilterMessage::new(NetfilterHeader::new(family, VERSION, resource), inner);
    serialize(NetlinkMessage::new(header, NetlinkPayload::from(payload)))
}

pub(crate) fn serialize(mut message: NetlinkMessage<NetfilterMessage>) -> Vec<u8> {
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// A socket that does not block.
pub(crate) fn open() -> Result<Socket, NetfilterError> {
    let open = || {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.set_non_blocking(true)?;
        Ok(socket)
    };
    open().map_err(|cause| NetfilterError::new("open a socket", cause))
}

/// All messages that are there.
pub(crate) fn receive(socket: &Socket) -> io::Result<Vec<NetlinkMessage<NetfilterMessage>>> {
    let mut messages = Vec::new();
    let mut datagram = Vec::with_capacity(BUFFER);
    loop {
        datagram.clear();
        match socket.recv(&mut datagram, 0) {
            Ok(_) => parse(&datagram, &mut messages)?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(messages),
            Err(error) => return Err(error),
        }
    }
}

pub(crate) fn parse(mut datagram: &[u8], messages: &mut Vec<NetlinkMessage<NetfilterMessage>>) -> io::Result<()> {
    let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, format!("a message of the kernel: {error}"));
    while !datagram.is_empty() {
        let len = NetlinkBuffer::new_checked(datagram).map_err(invalid)?.length();
        messages.push(NetlinkMessage::deserialize(datagram).map_err(invalid)?);
        let len = usize::try_from(len).expect("32 bits fit").next_multiple_of(4);
        datagram = datagram.get(len..).unwrap_or_default();
    }
    Ok(())
}

/// A counter's name and packets.
fn counter(payload: NetlinkPayload<NetfilterMessage>) -> Option<(String, u64)> {
    /// NFTA_OBJ_NAME, NFTA_OBJ_DATA, NFTA_COUNTER_PACKETS.
    const NAME: u16 = 2;
    const DATA: u16 = 4;
    const PACKETS: u16 = 2;
    let NetlinkPayload::InnerMessage(NetfilterMessage {
        inner: NetfilterMessageInner::NfTables(NfTablesMessage::NewObject(attributes)),
        ..
    }) = payload
    else {
        return None;
    };
    let value = |kind| attributes.iter().find(|attribute| attribute.kind() == kind).map(bytes);
    let name = value(NAME)?;
    let data = value(DATA)?;
    let packets = NlasIterator::new(&data).flatten().find(|attribute: &NlaBuffer<_>| attribute.kind() == PACKETS)?;
    let packets = u64::from_be_bytes(packets.value().try_into().ok()?);
    Some((String::from_utf8_lossy(&name).trim_end_matches('\0').to_owned(), packets))
}

fn bytes(attribute: &DefaultNla) -> Vec<u8> {
    let mut bytes = vec![0; attribute.value_len()];
    attribute.emit_value(&mut bytes);
    bytes
}
