//! The connections that pass through the switch.

use std::collections::HashMap;
use std::time::Instant;

use tunnel::port::Cid;

use super::fault::{ConnectionState, Traffic};
use super::packet::{Address, Credit, Header};
use super::shaper::Shaper;

/// All open connections.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    table: HashMap<Key, Connection>,
    opened: u64,
}

/// The two ends of a connection, sorted, so that both directions have the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    low: Address,
    high: Address,
}

/// One direction of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Flow {
    pub(crate) source: Address,
    pub(crate) destination: Address,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Distinguishes it from an earlier connection between the same ends.
    pub(crate) number: u64,
    opener: Address,
    from_opener: Direction,
    from_listener: Direction,
}

/// One direction of a connection.
#[derive(Debug, Default)]
pub(crate) struct Direction {
    packets: u64,
    bytes: u64,
    /// The last credit that its sender announced.
    pub(crate) credit: Credit,
    /// Present while a fault applies.
    pub(crate) shaper: Option<Box<Shaper>>,
}

impl Connections {
    /// Further connections are refused, so that a guest cannot fill the memory.
    const LIMIT: usize = 16 * 1024;

    /// Whether another connection may be opened.
    pub(crate) fn has_room(&self) -> bool {
        self.table.len() < Self::LIMIT
    }

    /// Adds the connection that `flow.source` requests, instead of one between the same ends.
    pub(crate) fn open(&mut self, flow: Flow) -> u64 {
        self.opened += 1;
        let connection = Connection {
            number: self.opened,
            opener: flow.source,
            from_opener: Direction::default(),
            from_listener: Direction::default(),
        };
        self.table.insert(flow.key(), connection);
        self.opened
    }

    /// Removes a connection.
    pub(crate) fn close(&mut self, key: Key) -> Option<Connection> {
        self.table.remove(&key)
    }

    /// The connection of a flow.
    pub(crate) fn find(&mut self, flow: Flow) -> Option<&mut Connection> {
        self.table.get_mut(&flow.key())
    }

    /// The direction of a flow.
    pub(crate) fn direction(&mut self, flow: Flow) -> Option<&mut Direction> {
        self.find(flow).map(|connection| connection.direction(flow.source))
    }

    /// Whether the connection with this number is open.
    pub(crate) fn is_open(&self, flow: Flow, number: u64) -> bool {
        self.table.get(&flow.key()).is_some_and(|connection| connection.number == number)
    }

    /// The keys of connections that `matches`.
    pub(crate) fn matching(&self, matches: impl Fn(Key) -> bool) -> Vec<Key> {
        self.table.keys().copied().filter(|&key| matches(key)).collect()
    }

    /// The state of all connections, oldest first.
    pub(crate) fn states(&self) -> Vec<ConnectionState> {
        let mut sorted: Vec<_> = self.table.iter().collect();
        sorted.sort_by_key(|(_, connection)| connection.number);
        sorted
            .into_iter()
            .map(|(key, connection)| ConnectionState {
                opener: connection.opener,
                listener: key.other(connection.opener),
                from_opener: connection.from_opener.traffic(),
                from_listener: connection.from_listener.traffic(),
            })
            .collect()
    }
}

impl Connection {
    /// The direction from `source`.
    pub(crate) fn direction(&mut self, source: Address) -> &mut Direction {
        if source == self.opener { &mut self.from_opener } else { &mut self.from_listener }
    }
}

impl Direction {
    /// Counts a packet.
    pub(crate) fn count(&mut self, header: &Header) {
        self.packets += 1;
        self.bytes += header.payload_len as u64;
        self.credit = header.credit;
    }

    /// The shaper, created if there is none.
    pub(crate) fn shape(&mut self, now: Instant) -> &mut Shaper {
        self.shaper.get_or_insert_with(|| Box::new(Shaper::new(now)))
    }

    fn traffic(&self) -> Traffic {
        Traffic {
            packets: self.packets,
            bytes: self.bytes,
            held_bytes: self.shaper.as_ref().map_or(0, |shaper| shaper.held_bytes()),
        }
    }
}

impl Key {
    /// Both directions.
    pub(crate) fn flows(self) -> [Flow; 2] {
        let Self { low, high } = self;
        [Flow { source: low, destination: high }, Flow { source: high, destination: low }]
    }

    /// Whether a guest has one of the ends.
    pub(crate) fn touches(self, cid: Cid) -> bool {
        self.low.cid == cid || self.high.cid == cid
    }

    fn other(self, end: Address) -> Address {
        if end == self.low { self.high } else { self.low }
    }
}

impl Flow {
    /// The direction of a packet.
    pub(crate) fn of(header: &Header) -> Self {
        Self { source: header.source, destination: header.destination }
    }

    /// The connection.
    pub(crate) fn key(self) -> Key {
        Key { low: self.source.min(self.destination), high: self.source.max(self.destination) }
    }
}
