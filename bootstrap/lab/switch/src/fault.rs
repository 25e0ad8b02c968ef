//! Requests of `lab fault` and the switch's answers: one line of JSON each.
//!
//! ```text
//! {"verb":"inject","fault":{"kind":"slow","bytes_per_second":1000},"filter":{"source":16,"port":820},"lasts":"5s"}
//! {"answer":"done","connections":1,"fault":7}
//! ```

use std::num::NonZeroU64;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tunnel::port::{Cid, Port};

use super::packet::Address;

/// A request: one line of the control socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// The state: guests, connections, faults.
    List,
    /// Sends a reset to both ends of every matching connection.
    Reset {
        /// Which connections.
        #[serde(default)]
        filter: Filter,
    },
    /// Starts a fault on matching connections, present and future.
    Inject {
        /// The fault.
        fault: Fault,
        /// Which packets.
        #[serde(default)]
        filter: Filter,
        /// How long; absent: until it fires (`flip`, `cut`) or is cleared.
        #[serde(default, with = "humantime_serde", skip_serializing_if = "Option::is_none")]
        lasts: Option<Duration>,
    },
    /// Ends one fault, or all. Packets that it held back are delivered.
    Clear {
        /// Number of the fault; absent: all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fault: Option<u32>,
    },
}

/// A fault. Only `flip` and `cut` change or lose bytes; the others delay them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fault {
    /// Delivers nothing in one direction, until the sender runs out of credit. Credit packets pass.
    Stall,
    /// Limits the rate of one direction.
    Slow {
        /// The limit.
        bytes_per_second: NonZeroU64,
    },
    /// Delivers the payload of one direction in packets of one byte.
    Dribble,
    /// Flips the lowest bit of the payload byte after the next `after_bytes`, once.
    Flip {
        /// Payload bytes to deliver unchanged first.
        after_bytes: u64,
    },
    /// Delivers `after_bytes` more in one direction, then resets both ends, once.
    Cut {
        /// Payload bytes to deliver first.
        after_bytes: u64,
    },
    /// Answers connection requests with a reset, as if nothing were listening. The filter's port is the requested
    /// one.
    Refuse,
}

/// Selects packets from `source` to `destination` on connections with `port` at either end. An absent field matches
/// everything, so an empty filter selects both directions of all connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// The sending guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Cid>,
    /// The receiving guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<Cid>,
    /// A port at either end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<Port>,
}

/// An answer: one line of the control socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Response {
    /// Done.
    Done {
        /// Number of present connections that match.
        connections: usize,
        /// Number of the new fault.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fault: Option<u32>,
    },
    /// The answer to `list`.
    State(State),
    /// The request is invalid or impossible.
    Refused {
        /// The reason.
        reason: String,
    },
}

/// The state of the switch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Sorted by CID.
    pub guests: Vec<GuestState>,
    /// Oldest first.
    pub connections: Vec<ConnectionState>,
    /// Sorted by number.
    pub faults: Vec<FaultState>,
}

/// The state of a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestState {
    /// Its CID.
    pub cid: Cid,
    /// Whether its driver is ready.
    pub is_up: bool,
    /// Resets from the switch that wait for receive buffers of this guest.
    pub waiting_resets: usize,
    /// The guest whose missing receive buffers keep this one from sending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<Cid>,
    /// Malformed packets: truncated, too long, inconsistent.
    pub malformed: u64,
    /// Packets with another guest's CID as their source.
    pub spoofed: u64,
}

/// The state of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionState {
    /// The end that requested it.
    pub opener: Address,
    /// The other end.
    pub listener: Address,
    /// What the opener sent.
    pub from_opener: Traffic,
    /// What the listener sent.
    pub from_listener: Traffic,
}

/// What one end of a connection has sent since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Packets, including control packets.
    pub packets: u64,
    /// Payload bytes.
    pub bytes: u64,
    /// Payload bytes that a fault holds back.
    pub held_bytes: usize,
}

/// The state of a fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultState {
    /// Number of the fault, for `clear`.
    pub id: u32,
    /// The fault.
    pub fault: Fault,
    /// Which packets.
    pub filter: Filter,
    /// The time left; absent: until it fires or is cleared.
    #[serde(default, with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub remaining: Option<Duration>,
}

impl Filter {
    /// Whether it selects packets from `source` to `destination`.
    pub(crate) fn matches(&self, source: Address, destination: Address) -> bool {
        self.source.is_none_or(|cid| cid == source.cid)
            && self.destination.is_none_or(|cid| cid == destination.cid)
            && self.port.is_none_or(|port| port == source.port || port == destination.port)
    }

    /// Whether it selects this connection request.
    pub(crate) fn matches_request(&self, source: Address, destination: Address) -> bool {
        self.matches(source, destination) && self.port.is_none_or(|port| port == destination.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(cid: u32, port: u32) -> Address {
        Address { cid: Cid(cid), port: Port(port) }
    }

    #[test]
    fn a_fault_reads_as_documented() {
        let line = r#"{"verb":"inject","fault":{"kind":"slow","bytes_per_second":1000},"filter":{"source":16,"port":820},"lasts":"5s"}"#;
        let request = Request::Inject {
            fault: Fault::Slow { bytes_per_second: NonZeroU64::new(1000).unwrap() },
            filter: Filter { source: Some(Cid(16)), destination: None, port: Some(Port(820)) },
            lasts: Some(Duration::from_secs(5)),
        };
        assert_eq!(serde_json::from_str::<Request>(line).unwrap(), request);
        assert_eq!(serde_json::to_string(&request).unwrap(), line);
    }

    #[test]
    fn a_mistyped_key_is_refused() {
        assert!(serde_json::from_str::<Request>(r#"{"verb":"reset","filter":{"src":16}}"#).is_err());
        assert!(serde_json::from_str::<Request>(r#"{"verb":"inject","fault":{"kind":"stal"}}"#).is_err());
        assert!(serde_json::from_str::<Request>(r#"{"verb":"clear","id":1}"#).is_err());
    }

    #[test]
    fn an_empty_filter_matches_everything() {
        assert!(Filter::default().matches(address(16, 1), address(3, 820)));
        assert!(Filter::default().matches(address(3, 820), address(16, 1)));
    }

    #[test]
    fn a_filter_with_a_source_means_one_direction() {
        let filter = Filter { source: Some(Cid(16)), port: Some(Port(820)), ..Filter::default() };
        assert!(filter.matches(address(16, 1), address(3, 820)));
        assert!(!filter.matches(address(3, 820), address(16, 1)));
        assert!(!filter.matches(address(16, 1), address(3, 821)));
    }

    #[test]
    fn a_refused_port_is_the_requested_one() {
        let filter = Filter { port: Some(Port(820)), ..Filter::default() };
        assert!(filter.matches_request(address(16, 1), address(3, 820)));
        assert!(!filter.matches_request(address(16, 820), address(3, 1)));
    }
}
