//! A question from named, and the messages that it becomes: to a resolver, and back to named.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RecordType};

/// The largest datagram that is sent and asked for: it passes every path in one piece (DNS flag day 2020).
pub(super) const MAX_DATAGRAM_LEN: u16 = 1232;
/// The largest datagram to somebody who does not say (RFC 1035, section 2.3.4).
const PLAIN_DATAGRAM_LEN: u16 = 512;
/// Byte and bit of the header that say that an answer has been cut off.
const TRUNCATED: (usize, u8) = (2, 2);

/// A question with what its answer depends on.
#[derive(Clone, Debug)]
pub(super) struct Question {
    id: u16,
    query: Query,
    is_recursion_desired: bool,
    is_checking_disabled: bool,
    extended: Option<Extended>,
}

/// EDNS (RFC 6891), without options.
#[derive(Clone, Copy, Debug)]
struct Extended {
    max_datagram_len: u16,
    wants_signatures: bool,
}

/// What a message of named is.
#[derive(Debug)]
pub(super) enum Received {
    Question(Question),
    /// With the answer that it gets.
    Unusable(Message),
}

impl Question {
    /// `None`: it cannot even be answered.
    pub(super) fn parse(bytes: &[u8]) -> Option<Received> {
        let message = Message::from_vec(bytes).ok()?;
        if message.metadata.message_type != MessageType::Query {
            return None;
        }
        let unusable = |code| Message::error_msg(message.metadata.id, message.metadata.op_code, code);
        if message.metadata.op_code != OpCode::Query {
            return Some(Received::Unusable(unusable(ResponseCode::NotImp)));
        }
        let [query] = &message.queries[..] else {
            return Some(Received::Unusable(unusable(ResponseCode::FormErr)));
        };
        let is_plain =
            query.query_class == DNSClass::IN && message.answers.is_empty() && message.authorities.is_empty();
        if !is_plain || message.edns.as_ref().is_some_and(|edns| edns.version() != 0) {
            return Some(Received::Unusable(unusable(ResponseCode::FormErr)));
        }
        let extended = message.edns.as_ref().map(|edns| Extended {
            max_datagram_len: edns.max_payload().clamp(PLAIN_DATAGRAM_LEN, MAX_DATAGRAM_LEN),
            wants_signatures: edns.flags().dnssec_ok,
        });
        Some(Received::Question(Self {
            id: message.metadata.id,
            query: query.clone(),
            is_recursion_desired: message.metadata.recursion_desired,
            is_checking_disabled: message.metadata.checking_disabled,
            extended,
        }))
    }

    pub(super) fn name(&self) -> &Name {
        self.query.name()
    }

    pub(super) fn kind(&self) -> RecordType {
        self.query.query_type()
    }

    /// The question for a resolver.
    pub(super) fn forwarded(&self, id: u16, is_extended: bool) -> Message {
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = self.is_recursion_desired;
        message.metadata.checking_disabled = self.is_checking_disabled;
        message.add_query(self.query.clone());
        if is_extended {
            message.edns = self.edns();
        }
        message
    }

    /// Whether it can also be asked without EDNS, for resolvers that do not know it.
    pub(super) fn is_extended(&self) -> bool {
        self.extended.is_some()
    }

    /// Whether this is an answer to [`Question::forwarded`].
    pub(super) fn is_answered_by(&self, answer: &Message, id: u16) -> bool {
        let metadata = &answer.metadata;
        metadata.id == id
            && metadata.message_type == MessageType::Response
            && metadata.op_code == OpCode::Query
            && matches!(&answer.queries[..], [query] if *query == self.query)
    }

    /// The answer for named, with nothing in it yet.
    pub(super) fn answer(&self, code: ResponseCode) -> Message {
        let mut message = Message::response(self.id, OpCode::Query);
        message.metadata.recursion_desired = self.is_recursion_desired;
        message.metadata.recursion_available = true;
        message.metadata.checking_disabled = self.is_checking_disabled;
        message.metadata.response_code = code;
        message.add_query(self.query.clone());
        message.edns = self.edns();
        message
    }

    /// The bytes of an answer. If they do not fit into a datagram, named has to ask again over TCP.
    pub(super) fn encode(&self, answer: &Message, is_datagram: bool) -> Option<Vec<u8>> {
        let bytes = answer.to_vec().ok().filter(|bytes| !is_truncated(bytes));
        let limit = self.extended.map_or(PLAIN_DATAGRAM_LEN, |extended| extended.max_datagram_len);
        match bytes {
            Some(bytes) if !is_datagram || bytes.len() <= limit.into() => Some(bytes),
            Some(_) => {
                let mut cut = self.answer(answer.metadata.response_code);
                cut.metadata.truncation = true;
                cut.to_vec().ok()
            }
            // More than a message can hold.
            None => self.answer(ResponseCode::ServFail).to_vec().ok(),
        }
    }

    fn edns(&self) -> Option<Edns> {
        let extended = self.extended?;
        let mut edns = Edns::new();
        edns.set_max_payload(MAX_DATAGRAM_LEN).set_dnssec_ok(extended.wants_signatures);
        Some(edns)
    }
}

/// Whether the header says that the rest is missing.
pub(super) fn is_truncated(message: &[u8]) -> bool {
    message.get(TRUNCATED.0).is_some_and(|flags| flags & TRUNCATED.1 != 0)
}
