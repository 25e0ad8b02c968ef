//! Elements of sets of addresses, which the kernel forgets by itself.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use netlink_packet_core::NLM_F_CREATE;
use netlink_packet_netfilter::nftables::{
    DataAttribute, ListAttribute, NfTablesMessage, SetElementAttribute, SetElementList, SetElementMessage,
};
use netlink_sys::Socket;

use crate::kernel::{NetfilterError, commit, open};
use crate::rules::Part;

/// Of one message. An attribute has at most 65,535 bytes, and an element with a comment fewer than 256.
const ELEMENTS_PER_MESSAGE: usize = 128;
/// NFTNL_UDATA_SET_ELEM_COMMENT (libnftnl/udata.h): how nft(8) stores a comment.
const COMMENT: u8 = 0;
/// The longest comment of an element (NFTNL_UDATA_COMMENT_MAXLEN in libnftnl/udata.h, less the zero byte at its end).
pub const MAX_COMMENT_LEN: usize = 127;

/// The sets of one table `inet`, over a netlink socket in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Elements {
    socket: Socket,
    table: String,
}

/// An element of a set of the type `ipv4_addr` or `ipv6_addr` with the flag `timeout`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// The set's name.
    pub set: String,
    /// Its key, of the set's type.
    pub address: IpAddr,
    /// From now on.
    pub lifetime: Duration,
    /// As nft(8) shows it. Left out if it is longer than [`MAX_COMMENT_LEN`].
    pub comment: String,
}

impl Elements {
    /// Opens the socket. The table need not exist yet.
    ///
    /// # Errors
    /// The socket's.
    pub fn open(table: &str) -> Result<Self, NetfilterError> {
        Ok(Self { socket: open()?, table: table.to_owned() })
    }

    /// Adds elements, and gives those that are there already a new lifetime. All of it happens at once, or nothing: no packet
    /// meets a set without an element that was there before.
    ///
    /// # Errors
    /// What the kernel refused, and why.
    pub fn replace(&self, elements: &[Element]) -> Result<(), NetfilterError> {
        let mut parts = Vec::new();
        for chunk in elements.chunks(ELEMENTS_PER_MESSAGE) {
            for set in sets(chunk) {
                let of_set = || chunk.iter().filter(|element| element.set == set).map(Element::attributes).collect();
                let message = || self.message(set, of_set());
                // Before 6.12, adding an element that is there keeps its lifetime. Deleting one that is not there is an error.
                parts.push(part(set, NfTablesMessage::NewSetElement(message()), NLM_F_CREATE));
                parts.push(part(set, NfTablesMessage::DeleteSetElement(message()), 0));
                parts.push(part(set, NfTablesMessage::NewSetElement(message()), NLM_F_CREATE));
            }
        }
        if parts.is_empty() { Ok(()) } else { commit(&self.socket, parts) }
    }

    /// Makes these addresses all that each set has, all at once or nothing. They stay. The sets do not have the flag `timeout`.
    ///
    /// # Errors
    /// What the kernel refused, and why.
    pub fn fill(&self, sets: &[(String, BTreeSet<IpAddr>)]) -> Result<(), NetfilterError> {
        let mut parts = Vec::new();
        for (set, addresses) in sets {
            parts.push(part(set, NfTablesMessage::DeleteSetElement(self.message(set, Vec::new())), 0));
            let elements: Vec<_> = addresses.iter().map(|address| vec![key(*address)]).collect();
            for chunk in elements.chunks(ELEMENTS_PER_MESSAGE) {
                let message = self.message(set, chunk.to_vec());
                parts.push(part(set, NfTablesMessage::NewSetElement(message), NLM_F_CREATE));
            }
        }
        if parts.is_empty() { Ok(()) } else { commit(&self.socket, parts) }
    }

    /// Without elements, the message means all of them.
    fn message(&self, set: &str, elements: Vec<Vec<SetElementAttribute>>) -> SetElementMessage {
        let mut attributes = vec![SetElementList::Table(self.table.clone()), SetElementList::Set(set.to_owned())];
        if !elements.is_empty() {
            let elements = elements.into_iter().map(ListAttribute::Element).collect();
            attributes.push(SetElementList::Elements(elements));
        }
        SetElementMessage { attributes }
    }
}

impl Element {
    fn attributes(&self) -> Vec<SetElementAttribute> {
        let milliseconds = u64::try_from(self.lifetime.as_millis()).unwrap_or(u64::MAX);
        let mut attributes = vec![
            key(self.address),
            // Zero would be for ever.
            SetElementAttribute::Timeout(milliseconds.max(1)),
        ];
        if self.comment.len() <= MAX_COMMENT_LEN {
            let len = u8::try_from(self.comment.len() + 1).expect("at most 128");
            attributes.push(SetElementAttribute::UserData([&[COMMENT, len], self.comment.as_bytes(), &[0]].concat()));
        }
        attributes
    }
}

fn key(address: IpAddr) -> SetElementAttribute {
    let bytes = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    SetElementAttribute::Key(DataAttribute::Value(bytes))
}

/// Each set once.
fn sets(elements: &[Element]) -> Vec<&str> {
    let mut sets: Vec<_> = elements.iter().map(|element| element.set.as_str()).collect();
    sets.sort_unstable();
    sets.dedup();
    sets
}

fn part(set: &str, message: NfTablesMessage, flags: u16) -> Part {
    Part { name: format!("elements of the set {set}"), message, flags }
}
