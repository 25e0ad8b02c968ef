//! What `lab fault` asks of the switch and what it answers: one JSON value per line each way.
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

/// One line of the control socket towards the switch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// What runs: guests, connections, faults.
    List,
    /// Sends a reset to both ends of every connection that matches, now.
    Reset {
        /// Which connections.
        #[serde(default)]
        filter: Filter,
    },
    /// Starts a fault, for present and future connections that match.
    Inject {
        /// What goes wrong.
        fault: Fault,
        /// Where.
        #[serde(default)]
        filter: Filter,
        /// How long; absent: until it fires (`flip`, `cut`) or is cleared.
        #[serde(default, with = "humantime_serde", skip_serializing_if = "Option::is_none")]
        lasts: Option<Duration>,
    },
    /// Ends one fault, or all. What was held back is delivered.
    Clear {
        /// Number of the fault; absent: all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fault: Option<u32>,
    },
}

/// What goes wrong. Except for `flip` and `cut` no byte is lost or changed, only late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fault {
    /// Nothing of a direction is delivered; the sender runs out of credit. Credit messages pass.
    Stall,
    /// A direction delivers this many bytes a second.
    Slow {
        /// The rate.
        bytes_per_second: NonZeroU64,
    },
    /// A direction delivers its payload in packets of one byte.
    Dribble,
    /// The lowest bit of the payload byte that follows the next `after_bytes` is turned over, once.
    Flip {
        /// Bytes from now on that stay as they are.
        after_bytes: u64,
    },
    /// A direction delivers `after_bytes` more; then both ends get a reset, once.
    Cut {
        /// Bytes from now on that arrive.
        after_bytes: u64,
    },
    /// Connection requests get a reset, as if nobody listened. The filter's port is the requested one.
    Refuse,
}

/// Which packets: those from `source` to `destination` on a connection with `port` at either end.
/// What is absent matches everything, so an empty filter means both directions of all connections.
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

/// One line of the control socket from the switch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Response {
    /// Carried out.
    Done {
        /// How many present connections it concerns.
        connections: usize,
        /// The number of the new fault.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fault: Option<u32>,
    },
    /// The answer to `list`.
    State(State),
    /// Not understood, or not possible.
    Refused {
        /// Why.
        reason: String,
    },
}

/// What runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// By CID.
    pub guests: Vec<GuestState>,
    /// By age.
    pub connections: Vec<ConnectionState>,
    /// By number.
    pub faults: Vec<FaultState>,
}

/// One guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestState {
    /// Its number.
    pub cid: Cid,
    /// Whether its driver is ready.
    pub is_up: bool,
    /// Resets of the switch itself that wait for it to post buffers.
    pub waiting_resets: usize,
    /// The guest whose missing buffers keep the switch from taking more from this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<Cid>,
    /// Packets that were no packets: truncated, too long, inconsistent.
    pub malformed: u64,
    /// Packets under another guest's number.
    pub spoofed: u64,
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionState {
    /// The end that asked for it.
    pub opener: Address,
    /// The end that was asked.
    pub listener: Address,
    /// What the opener sent.
    pub from_opener: Traffic,
    /// What the listener sent.
    pub from_listener: Traffic,
}

/// What one end of a connection sent since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Packets, control included.
    pub packets: u64,
    /// Payload bytes.
    pub bytes: u64,
    /// Payload bytes that a fault holds back.
    pub held_bytes: usize,
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultState {
    /// Its number, for `clear`.
    pub id: u32,
    /// What goes wrong.
    pub fault: Fault,
    /// Where.
    pub filter: Filter,
    /// How long still; absent: until it fires or is cleared.
    #[serde(default, with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub remaining: Option<Duration>,
}

impl Filter {
    /// Whether it means what `source` sends to `destination`.
    pub(crate) fn matches(&self, source: Address, destination: Address) -> bool {
        self.source.is_none_or(|cid| cid == source.cid)
            && self.destination.is_none_or(|cid| cid == destination.cid)
            && self.port.is_none_or(|port| port == source.port || port == destination.port)
    }

    /// Whether it means this request for a connection.
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
