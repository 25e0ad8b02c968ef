//! Who is connected, and who has to go when there are too many.
//!
//! Three bounds: on all connections, on those that have proved nothing, and on those of one [`Source`]. A connection is
//! proven when its handshake has ended, and with `signer.client_ca` only if it came with a client's certificate. A
//! newcomer that exceeds a bound takes the seat of another connection that has no request under way: an unproven one
//! before a proven one, of the source that has most of them, a silent one before one that has sent something, and then
//! the one that has done nothing for longest. Only where there is no such connection is the newcomer closed.
//!
//! So a source that fills the seats with silence takes them from itself, and while there is room a handshake may take long.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

use crate::metrics::{Collect, Snapshot};

/// Where connections come from: an IPv4 address, or the 64 bits of an IPv6 address that a network has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Source(IpAddr);

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    pub(super) all: usize,
    pub(super) unproven: usize,
    pub(super) of_source: usize,
}

/// The bound that a connection was closed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    All,
    Unproven,
    Source,
}

/// The seats of one service.
pub(super) struct Seats(Mutex<Table>);

/// One connection's seat; given back when it is dropped.
pub(super) struct Seat {
    seats: Arc<Seats>,
    id: u64,
    taken: CancellationToken,
}

/// A request is under way: its connection is nobody's to take.
pub(super) struct Busy<'a>(&'a Seat);

/// A newcomer that has a seat, and who lost one.
pub(super) struct Admitted {
    pub(super) seat: Seat,
    pub(super) displaced: Option<(Source, Bound)>,
}

struct Table {
    bounds: Places,
    connections: BTreeMap<u64, Connection>,
    /// Counts what happens, as a clock that tells the order of things.
    now: u64,
}

struct Connection {
    source: Source,
    standing: Standing,
    is_busy: bool,
    /// When it last did something.
    since: u64,
    taken: CancellationToken,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Silent,
    Unproven,
    Proven,
}

impl Source {
    pub(super) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            address @ IpAddr::V4(_) => Self(address),
            IpAddr::V6(address) => Self(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into()),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => address.fmt(f),
            IpAddr::V6(network) => write!(f, "{network}/64"),
        }
    }
}

impl Seats {
    pub(super) fn new(bounds: Places) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Table { bounds, connections: BTreeMap::new(), now: 0 })))
    }

    /// A seat for a new connection, at the cost of another one if there has to be.
    ///
    /// # Errors
    /// The bound that leaves none.
    pub(super) fn admit(self: &Arc<Self>, source: Source) -> Result<Admitted, Bound> {
        let taken = CancellationToken::new();
        let (id, displaced) = self.table().admit(source, taken.clone())?;
        Ok(Admitted { seat: Seat { seats: Arc::clone(self), id, taken }, displaced })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collect for Seats {
    fn collect(&self, snapshot: &Snapshot) {
        let (unproven, proven) = self.table().count();
        snapshot.gauges(
            "signer_connections",
            "Connections now, by whether they have proved who they are.",
            ["state"],
            [(["unproven"], unproven), (["proven"], proven)],
        );
    }
}

impl Seat {
    /// The client has sent its first byte.
    pub(super) fn has_spoken(&self) {
        self.change(|connection| connection.standing = connection.standing.max(Standing::Unproven));
    }

    /// The client is who may be here.
    pub(super) fn is_proven(&self) {
        self.change(|connection| connection.standing = Standing::Proven);
    }

    /// For as long as a request is under way.
    pub(super) fn busy(&self) -> Busy<'_> {
        self.change(|connection| connection.is_busy = true);
        Busy(self)
    }

    /// Until a newcomer has this seat.
    pub(super) fn taken(&self) -> WaitForCancellationFuture<'_> {
        self.taken.cancelled()
    }

    fn change(&self, change: impl FnOnce(&mut Connection)) {
        self.seats.table().change(self.id, change);
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.change(|connection| connection.is_busy = false);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.table().connections.remove(&self.id);
    }
}

impl Table {
    fn admit(&mut self, source: Source, taken: CancellationToken) -> Result<(u64, Option<(Source, Bound)>), Bound> {
        let displaced = match self.exceeded(source) {
            None => None,
            Some(bound) => Some((self.displace(source, bound)?, bound)),
        };
        self.now += 1;
        let connection = Connection { source, standing: Standing::Silent, is_busy: false, since: self.now, taken };
        self.connections.insert(self.now, connection);
        Ok((self.now, displaced))
    }

    /// The bound that one more connection of `source` would exceed.
    fn exceeded(&self, source: Source) -> Option<Bound> {
        let of_source = self.connections.values().filter(|connection| connection.source == source).count();
        let (unproven, proven) = self.count();
        match self.bounds {
            bounds if of_source >= bounds.of_source => Some(Bound::Source),
            bounds if unproven >= bounds.unproven => Some(Bound::Unproven),
            bounds if unproven + proven >= bounds.all => Some(Bound::All),
            _ => None,
        }
    }

    fn displace(&mut self, newcomer: Source, bound: Bound) -> Result<Source, Bound> {
        let may_go = |connection: &&Connection| {
            !connection.is_busy
                && match bound {
                    Bound::All => true,
                    Bound::Unproven => connection.standing < Standing::Proven,
                    Bound::Source => connection.source == newcomer,
                }
        };
        let mut of_source = BTreeMap::<(bool, Source), usize>::new();
        let kind = |connection: &Connection| (connection.standing == Standing::Proven, connection.source);
        for connection in self.connections.values().filter(may_go) {
            *of_source.entry(kind(connection)).or_default() += 1;
        }
        let rank = |connection: &Connection| {
            let (is_proven, _) = kind(connection);
            let others = of_source.get(&kind(connection)).expect("each that may go is counted above");
            (is_proven, usize::MAX - others, connection.standing, connection.since)
        };
        let candidates = self.connections.iter().filter(|(_, connection)| may_go(connection));
        let first = candidates.min_by_key(|(_, connection)| rank(connection)).map(|(id, _)| *id);
        let gone = first.and_then(|id| self.connections.remove(&id)).ok_or(bound)?;
        gone.taken.cancel();
        Ok(gone.source)
    }

    /// The unproven, and the proven.
    fn count(&self) -> (usize, usize) {
        let proven = self.connections.values().filter(|connection| connection.standing == Standing::Proven).count();
        (self.connections.len() - proven, proven)
    }

    fn change(&mut self, id: u64, change: impl FnOnce(&mut Connection)) {
        self.now += 1;
        // One that has lost its seat is about to end.
        if let Some(connection) = self.connections.get_mut(&id) {
            change(connection);
            connection.since = self.now;
        }
    }
}

#[cfg(test)]
mod tests;
