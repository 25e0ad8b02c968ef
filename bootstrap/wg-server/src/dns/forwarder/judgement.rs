//! What named gets of a resolver's answer, and which addresses it opens. Decisions without I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use hickory_proto::op::Message;
use hickory_proto::rr::rdata::svcb::SvcParamValue;
use hickory_proto::rr::rdata::{CNAME, HTTPS, SVCB};
use hickory_proto::rr::{DNSClass, Name, RData, Record};

use super::Reasons;
use super::address::Special;
use super::question::Question;
use crate::config::{Egress, ListId, Mode};

/// named keeps no answer longer, and asks again. So no address stays open much longer than its name has it.
pub(crate) const MAX_TTL: Duration = Duration::from_mins(5);
/// named follows no more (max_restarts in lib/ns/query.c is 11).
const MAX_CHAIN: usize = 16;
/// The largest cloud services have some ten per answer.
const MAX_ADDRESSES: usize = 256;

/// An answer that named may have.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) answer: Message,
    /// With their times to live. Without those that [`Egress`] lists, which need no answer to be reached.
    pub(super) addresses: BTreeMap<IpAddr, Duration>,
    /// The targets of the aliases in it.
    pub(super) targets: Vec<(Name, Duration)>,
}

/// A name and its aliases.
struct Chain {
    /// In any order.
    names: BTreeSet<Name>,
    targets: Vec<(Name, Duration)>,
}

/// What the decisions depend on.
#[derive(Debug)]
pub(super) struct Judge {
    special: Special,
    egress: Egress,
}

impl Judge {
    pub(super) fn new(special: Special, egress: Egress) -> Self {
        Self { special, egress }
    }

    /// Reads the answer to a question for a name on the list, or for the target of one.
    ///
    /// # Errors
    /// named must not get the answer.
    pub(super) fn judge(&self, question: &Question, answer: Message, reasons: &Reasons) -> Result<Judged> {
        let mut judged = without_addresses(question, &answer);
        let Chain { names, targets } = Chain::follow(question.name(), &answer.answers)?;
        let (mut kept, mut addresses) = (Vec::new(), BTreeMap::new());
        for mut record in answer.answers {
            ensure!(record.dns_class == DNSClass::IN, "a record of the class {}, expected IN", record.dns_class);
            // named would not use the records of other names.
            if has_addresses(&record) && !names.contains(&record.name) {
                continue;
            }
            record.ttl = clamped(record.ttl);
            for address in addresses_in(&record.data) {
                let ttl = Duration::from_secs(record.ttl.into());
                match (self.special.kind(address), self.egress.lists(address, reasons.keys())) {
                    (None, _) => {
                        let longest = addresses.entry(address).or_insert(ttl);
                        *longest = ttl.max(*longest);
                    }
                    // The list has the ports, too.
                    (Some(_), true) => {}
                    (Some(kind), false) if self.egress.mode == Mode::Observe => {
                        // Its packets are reported, with what would allow them.
                        tracing::info!(name = %question.name(), "the address {address} ({kind}) would be refused");
                    }
                    (Some(kind), false) => bail!(
                        "the address {address} ({kind}); expected one of the internet, or {address} in {}",
                        if reasons.contains_key(&ListId::Every) {
                            "egress.destinations"
                        } else {
                            "egress.lists.destinations"
                        }
                    ),
                }
            }
            kept.push(record);
        }
        ensure!(addresses.len() <= MAX_ADDRESSES, "{} addresses, expected at most {MAX_ADDRESSES}", addresses.len());
        judged.answers = kept;
        Ok(Judged { answer: judged, addresses, targets })
    }
}

/// The answer without any record that has addresses: for questions about zones and their keys.
pub(super) fn zone_data(question: &Question, answer: &Message) -> Message {
    let mut message = without_addresses(question, answer);
    message.answers = kept(&answer.answers);
    message
}

/// Everything but the answer's records. Additional records are hints for further questions, which named has to ask.
fn without_addresses(question: &Question, answer: &Message) -> Message {
    let mut message = question.answer(answer.metadata.response_code);
    message.metadata.authoritative = answer.metadata.authoritative;
    message.metadata.authentic_data = answer.metadata.authentic_data;
    message.authorities = kept(&answer.authorities);
    message
}

fn kept(records: &[Record]) -> Vec<Record> {
    let mut kept: Vec<Record> = records.iter().filter(|record| !has_addresses(record)).cloned().collect();
    kept.iter_mut().for_each(|record| record.ttl = clamped(record.ttl));
    kept
}

impl Chain {
    fn follow(name: &Name, records: &[Record]) -> Result<Self> {
        let mut chain = Self { names: BTreeSet::from([name.clone()]), targets: Vec::new() };
        let mut unseen = vec![name.clone()];
        while let Some(owner) = unseen.pop() {
            for record in records.iter().filter(|record| record.name == owner) {
                let RData::CNAME(CNAME(target)) = &record.data else { continue };
                chain.targets.push((target.clone(), Duration::from_secs(clamped(record.ttl).into())));
                if chain.names.insert(target.clone()) {
                    unseen.push(target.clone());
                }
                ensure!(chain.targets.len() <= MAX_CHAIN, "more than {MAX_CHAIN} aliases, expected fewer");
            }
        }
        Ok(chain)
    }
}

fn has_addresses(record: &Record) -> bool {
    matches!(record.data, RData::A(_) | RData::AAAA(_) | RData::SVCB(_) | RData::HTTPS(_))
}

/// The address, or the hints. Hints count as addresses: without them, signatures would be wrong.
fn addresses_in(data: &RData) -> Vec<IpAddr> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "all other records have none")]
    match data {
        RData::A(address) => vec![IpAddr::V4(address.0)],
        RData::AAAA(address) => vec![IpAddr::V6(address.0)],
        RData::SVCB(service) | RData::HTTPS(HTTPS(service)) => hints(service),
        _ => Vec::new(),
    }
}

fn hints(service: &SVCB) -> Vec<IpAddr> {
    let hints = service.svc_params.iter().map(|(_, value)| {
        #[expect(clippy::wildcard_enum_match_arm, reason = "all other parameters have none")]
        match value {
            SvcParamValue::Ipv4Hint(hints) => hints.0.iter().map(|address| IpAddr::V4(address.0)).collect(),
            SvcParamValue::Ipv6Hint(hints) => hints.0.iter().map(|address| IpAddr::V6(address.0)).collect(),
            _ => Vec::new(),
        }
    });
    hints.collect::<Vec<Vec<IpAddr>>>().concat()
}

/// At most [`MAX_TTL`]. A value with the first bit set is zero (RFC 2181, section 8).
fn clamped(ttl: u32) -> u32 {
    let most = u32::try_from(MAX_TTL.as_secs()).expect("five minutes");
    if i32::try_from(ttl).is_ok() { ttl.min(most) } else { 0 }
}

#[cfg(test)]
mod tests;
