//! What an agent can be asked to do, and what it answers.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The most bytes that one command moves in one direction.
pub const MAX_BYTES: u64 = 1 << 30;
/// The longest that a timed command sends.
pub const MAX_SECONDS: u64 = 60;
/// The longest that any command takes before it is given up.
pub const MAX_DURATION: Duration = Duration::from_secs(300);
/// The most connection requests of one command.
pub const MAX_REQUESTS: u32 = 10_000;
/// The most round trips of one command.
pub const MAX_ROUND_TRIPS: u32 = 10_000;
/// The largest message of a round trip.
pub const MAX_MESSAGE: u16 = 16_000;
/// The largest UDP payload: what fits into an IPv4 packet.
pub const MAX_DATAGRAM: u16 = 65_507;
/// The smallest UDP payload: room for the header and some data.
pub const MIN_DATAGRAM: u16 = 32;

/// One line from the driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Command {
    /// Sends `bytes` over one TCP connection while as many come back; hashes at both ends.
    Tcp {
        /// A self-test server.
        server: SocketAddr,
        /// In each direction.
        bytes: u64,
        /// Chooses the pseudo-random content.
        #[serde(default)]
        seed: u64,
    },
    /// As `Tcp`, in numbered datagrams that are sent again until they are answered.
    Udp {
        /// A self-test server.
        server: SocketAddr,
        /// In each direction.
        bytes: u64,
        /// UDP payload of each datagram.
        datagram: u16,
        /// Chooses the pseudo-random content.
        #[serde(default)]
        seed: u64,
    },
    /// One TCP connection, as fast as it goes.
    TcpGoodput {
        /// A self-test server.
        server: SocketAddr,
        /// As the agent sees it.
        direction: Direction,
        /// How long the sender sends.
        seconds: u64,
    },
    /// Small requests and answers, one at a time.
    Rtt {
        /// A self-test server.
        server: SocketAddr,
        /// What carries them.
        transport: Transport,
        /// How many.
        count: u32,
        /// Bytes of each message.
        #[serde(default = "default_message")]
        size: u16,
    },
    /// A raw vsock stream to the parent in writes of 32,000 bytes, as fast as it goes.
    Vsock {
        /// Where a self-test server listens on CID 3.
        port: u32,
        /// As the agent sees it.
        direction: Direction,
        /// How long the sender sends.
        seconds: u64,
    },
    /// Sends vsock connection requests to a port of the parent, as fast as it goes, and waits for no answer.
    VsockFlood {
        /// A port of CID 3 without a listener.
        port: u32,
        /// How many.
        count: u32,
        /// How long to wait before the first.
        after_seconds: u64,
    },
    /// Tries to reach a host.
    Reach {
        /// Where.
        to: SocketAddr,
        /// How.
        by: Attempt,
    },
    /// Resolves a name as programs in the enclave do.
    Resolve {
        /// A host name.
        name: String,
    },
}

/// Which way the bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// From the agent to the server.
    Up,
    /// From the server to the agent.
    Down,
}

/// What a host is reached by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attempt {
    /// A TCP connection.
    Tcp,
    /// A datagram, without an answer.
    Udp,
    /// A socket for ICMP echo requests, as ping(8) has one, and a request. The port is ignored.
    Ping,
}

/// What carries a round trip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// One connection, opened before the first round trip.
    Tcp,
    /// One datagram each way; one without an answer within a second counts as lost.
    Udp,
}

/// One line from the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// What was measured.
    Ok(Report),
    /// Why the command failed.
    Error(String),
}

/// What a command measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Report {
    /// From `tcp` and `udp`.
    Transfer(Transfer),
    /// From `tcp-goodput` and `vsock`.
    Goodput(Goodput),
    /// From `rtt`.
    RoundTrips(RoundTrips),
    /// From `resolve`.
    Resolved(Resolved),
    /// From `reach`: the error, if there was one.
    Reached(Option<String>),
    /// From `vsock-flood`: all requests were sent.
    Flooded,
}

/// Bytes that arrived intact in both directions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transfer {
    /// In each direction.
    pub bytes: u64,
    /// From the agent to the server.
    pub sent: Hashes,
    /// From the server to the agent.
    pub received: Hashes,
    /// From the first byte to the last answer.
    #[serde(with = "seconds")]
    pub elapsed: Duration,
    /// How many datagrams it took (`udp` only).
    pub datagrams: Option<Datagrams>,
}

/// SHA-256 of one direction of a transfer, in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hashes {
    /// Of what the sender sent.
    pub sender: String,
    /// Of what the receiver received.
    pub receiver: String,
}

/// Datagrams of one transfer, as the agent counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Datagrams {
    /// Different ones.
    pub needed: u64,
    /// With repetitions.
    pub sent: u64,
    /// Sent again because no answer came in time.
    pub retransmitted: u64,
}

/// A timed transfer; only bytes that arrived count.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Goodput {
    /// Received by the application.
    pub bytes: u64,
    /// From the receiver's first byte to its last.
    #[serde(with = "seconds")]
    pub elapsed: Duration,
}

/// Times of round trips.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoundTrips {
    /// Answered.
    pub count: u32,
    /// Not answered in time.
    pub lost: u32,
    /// The fastest.
    #[serde(with = "seconds")]
    pub min: Duration,
    /// Half of them were faster.
    #[serde(with = "seconds")]
    pub median: Duration,
    /// 99 of 100 were faster.
    #[serde(with = "seconds")]
    pub p99: Duration,
}

/// The answer from DNS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    /// IPv4 and IPv6 addresses; empty if the name has none or does not exist.
    pub addresses: Vec<IpAddr>,
    /// The response code if there was no address, for example `Non-Existent Domain`.
    pub code: Option<String>,
}

/// Why a command was refused before it began.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum LimitError {
    /// Too large or too small.
    #[error("{what} is {value}, must be {min} to {max}")]
    Range {
        /// The field.
        what: &'static str,
        /// The requested value.
        value: u64,
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
}

impl Command {
    /// Checks the limits.
    ///
    /// # Errors
    /// The first field outside its range.
    pub fn check(&self) -> Result<(), LimitError> {
        match self {
            Self::Tcp { bytes, .. } => within("bytes", *bytes, 1, MAX_BYTES),
            Self::Udp { bytes, datagram, .. } => {
                within("bytes", *bytes, 1, MAX_BYTES)?;
                within("datagram", (*datagram).into(), MIN_DATAGRAM.into(), MAX_DATAGRAM.into())
            }
            Self::TcpGoodput { seconds, .. } | Self::Vsock { seconds, .. } => {
                within("seconds", *seconds, 1, MAX_SECONDS)
            }
            Self::Rtt { count, size, .. } => {
                within("count", (*count).into(), 1, MAX_ROUND_TRIPS.into())?;
                within("size", (*size).into(), MIN_DATAGRAM.into(), MAX_MESSAGE.into())
            }
            Self::VsockFlood { count, after_seconds, .. } => {
                within("count", (*count).into(), 1, MAX_REQUESTS.into())?;
                within("after_seconds", *after_seconds, 0, MAX_SECONDS)
            }
            Self::Reach { .. } => Ok(()),
            Self::Resolve { name } => within("length of name", name.len().try_into().unwrap_or(u64::MAX), 1, 253),
        }
    }
}

impl Goodput {
    /// Megabits (10^6 bits) per second.
    pub fn megabits_per_second(&self) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "53 bits hold every count below MAX_BYTES exactly")]
        let bits = self.bytes as f64 * 8.0;
        bits / self.elapsed.as_secs_f64().max(f64::EPSILON) / 1e6
    }
}

fn within(what: &'static str, value: u64, min: u64, max: u64) -> Result<(), LimitError> {
    if (min..=max).contains(&value) { Ok(()) } else { Err(LimitError::Range { what, value, min, max }) }
}

fn default_message() -> u16 {
    64
}

mod seconds {
    //! A duration as a number of seconds.
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(duration.as_secs_f64())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_read_as_they_are_documented() {
        let line = r#"{"tcp":{"server":"198.51.100.10:7008","bytes":4194304,"seed":7}}"#;
        let expected = Command::Tcp { server: "198.51.100.10:7008".parse().unwrap(), bytes: 4 << 20, seed: 7 };
        assert_eq!(serde_json::from_str::<Command>(line).unwrap(), expected);
        let line = r#"{"rtt":{"server":"[2001:db8:100::10]:7008","transport":"udp","count":10}}"#;
        assert!(matches!(serde_json::from_str(line).unwrap(), Command::Rtt { size: 64, .. }));
    }

    #[test]
    fn an_unknown_field_is_refused() {
        let line = r#"{"tcp":{"server":"198.51.100.10:7008","bytes":1,"sede":7}}"#;
        assert!(serde_json::from_str::<Command>(line).unwrap_err().to_string().contains("sede"));
    }

    #[test]
    fn too_much_is_refused_by_name() {
        let server = "198.51.100.10:7008".parse().unwrap();
        let refused = |command: Command| command.check().unwrap_err().to_string();
        let bytes = refused(Command::Tcp { server, bytes: MAX_BYTES + 1, seed: 0 });
        assert_eq!(bytes, "bytes is 1073741825, must be 1 to 1073741824");
        assert!(refused(Command::Udp { server, bytes: 9, datagram: 31, seed: 0 }).starts_with("datagram is 31"));
        assert!(
            refused(Command::TcpGoodput { server, direction: Direction::Up, seconds: 61 }).contains("must be 1 to 60")
        );
        let transport = Transport::Tcp;
        assert!(refused(Command::Rtt { server, transport, count: 0, size: 64 }).starts_with("count"));
        assert!(refused(Command::VsockFlood { port: 1, count: 10_001, after_seconds: 0 }).starts_with("count"));
        assert!(refused(Command::VsockFlood { port: 1, count: 1, after_seconds: 61 }).starts_with("after_seconds"));
        assert!(refused(Command::Resolve { name: "a".repeat(254) }).starts_with("length of name"));
    }

    #[test]
    fn goodput_is_bits_over_time() {
        let goodput = Goodput { bytes: 12_500_000, elapsed: Duration::from_secs(2) };
        assert!((goodput.megabits_per_second() - 50.0).abs() < 1e-9);
    }
}
