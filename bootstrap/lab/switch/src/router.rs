//! Decides what happens to each packet. No rings, sockets or clocks.

mod faults;

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use tunnel::port::Cid;

use super::connection::{Connections, Flow, Key};
use super::fault::{Filter, GuestState, Request, Response, State};
use super::packet::{Header, Operation};
use super::shaper::{Packet, Release, Shape};
use faults::Faults;

/// Guests, connections and faults.
#[derive(Debug)]
pub(crate) struct Router {
    guests: BTreeMap<Cid, Guest>,
    connections: Connections,
    faults: Faults,
    /// The directions that have a shaper.
    shaped: Vec<Flow>,
}

/// What to do with the packet at the head of a sender's ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Deliver it. `number` is that of its connection, if there is one, for [`Router::is_open`].
    Forward { number: Option<u64> },
    /// Pass it to [`Router::hold`].
    Hold,
    /// Drop it.
    Discard,
    /// Leave it in the ring, with everything behind it.
    Wait,
}

#[derive(Debug, Default)]
struct Guest {
    is_up: bool,
    /// Resets from the switch, oldest first.
    resets: VecDeque<Header>,
    malformed: u64,
    spoofed: u64,
}

impl Router {
    /// The switch takes nothing from a guest that leaves this many resets. The limit is high because Linux 6.12
    /// receives nothing while its replies wait in its send queue: with a low limit, both would wait forever.
    const RESETS_LIMIT: usize = 16 * 1024;

    /// A switch for these guests, all down.
    pub(crate) fn new(cids: impl IntoIterator<Item = Cid>) -> Self {
        Self {
            guests: cids.into_iter().map(|cid| (cid, Guest::default())).collect(),
            connections: Connections::default(),
            faults: Faults::default(),
            shaped: Vec::new(),
        }
    }

    /// A guest's driver is ready.
    pub(crate) fn guest_up(&mut self, cid: Cid) {
        if let Some(guest) = self.guests.get_mut(&cid) {
            guest.is_up = true;
        }
    }

    /// A guest is gone: the other ends of its connections get a reset.
    pub(crate) fn guest_down(&mut self, cid: Cid) {
        if let Some(guest) = self.guests.get_mut(&cid) {
            guest.is_up = false;
            guest.resets.clear();
        }
        for key in self.connections.matching(|key| key.touches(cid)) {
            self.reset(key);
        }
    }

    /// Counts a malformed packet.
    pub(crate) fn malformed(&mut self, from: Cid) {
        if let Some(guest) = self.guests.get_mut(&from) {
            guest.malformed += 1;
        }
    }

    /// Decides about the packet at the head of `from`'s ring, and counts it unless it has to wait.
    pub(crate) fn judge(&mut self, from: Cid, header: &Header, now: Instant) -> Verdict {
        let Some(sender) = self.guests.get_mut(&from) else {
            return Verdict::Discard;
        };
        if sender.resets.len() >= Self::RESETS_LIMIT {
            return Verdict::Wait;
        }
        if header.source.cid != from {
            sender.spoofed += 1;
            return Verdict::Discard;
        }
        let to = header.destination.cid;
        let is_reachable = to != from && self.guests.get(&to).is_some_and(|guest| guest.is_up);
        if !is_reachable || header.socket_type != Header::STREAM {
            return self.refuse(header);
        }
        let flow = Flow::of(header);
        if header.operation == Operation::Request {
            self.forget(flow.key());
            if self.faults.refuse(flow) || !self.connections.has_room() {
                return self.refuse(header);
            }
            self.connections.open(flow);
            for flow in flow.key().flows() {
                self.reshape(flow, now);
            }
        }
        let Some(connection) = self.connections.find(flow) else {
            // The receiver does not know the connection either, and answers with a reset.
            return Verdict::Forward { number: None };
        };
        let number = Some(connection.number);
        let direction = connection.direction(flow.source);
        if let Some(shaper) = &direction.shaper {
            if !shaper.has_room() {
                return Verdict::Wait;
            }
            direction.count(header);
            // Credit is for the other direction, which a fault of this one must not stop.
            return match header.operation {
                Operation::CreditUpdate | Operation::CreditRequest => Verdict::Forward { number },
                Operation::Request | Operation::Response | Operation::Reset | Operation::Shutdown | Operation::Data => {
                    Verdict::Hold
                }
            };
        }
        direction.count(header);
        if header.operation == Operation::Reset {
            self.forget(flow.key());
        }
        Verdict::Forward { number }
    }

    /// Holds a packet, after [`Verdict::Hold`].
    pub(crate) fn hold(&mut self, header: Header, payload: Vec<u8>) {
        let direction = self.connections.direction(Flow::of(&header));
        if let Some(shaper) = direction.and_then(|direction| direction.shaper.as_mut()) {
            shaper.push(header, payload);
        }
    }

    /// Whether the connection of a packet that is being delivered is still open.
    pub(crate) fn is_open(&self, header: &Header, number: Option<u64>) -> bool {
        number.is_none_or(|number| self.connections.is_open(Flow::of(header), number))
    }

    /// Whether [`Self::next_packet`] has a packet for `to`.
    pub(crate) fn has_packet(&mut self, to: Cid, now: Instant) -> bool {
        let Some(guest) = self.guests.get(&to) else {
            return false;
        };
        let connections = &mut self.connections;
        !guest.resets.is_empty()
            || self.shaped.iter().filter(|flow| flow.destination.cid == to).any(|&flow| {
                let direction = connections.direction(flow);
                direction.and_then(|it| it.shaper.as_ref()).is_some_and(|it| it.is_ready(now))
            })
    }

    /// Takes the next packet of the switch itself for `to`, with at most `room` payload bytes.
    pub(crate) fn next_packet(&mut self, to: Cid, room: usize, now: Instant) -> Option<Packet> {
        loop {
            if let Some(header) = self.guests.get_mut(&to)?.resets.pop_front() {
                return Some(Packet { header, payload: Vec::new() });
            }
            let (index, flow, release) = self.release(to, room, now)?;
            // The next turn begins after this direction, so that none starves another.
            self.shaped.get_mut(index..)?.rotate_left(1);
            match release {
                Release::Cut { fault } => {
                    self.end_faults(&[fault], now);
                    self.reset(flow.key());
                }
                Release::Packet { mut packet, spent } => {
                    if let Some(direction) = self.connections.direction(flow) {
                        packet.header.credit = direction.credit;
                    }
                    if packet.header.operation == Operation::Reset {
                        self.forget(flow.key());
                    } else {
                        self.end_faults(&spent, now);
                        self.relax(flow);
                    }
                    return Some(packet);
                }
                Release::Nothing => return None,
            }
        }
    }

    /// When, after `now`, [`Self::tick`] or a held packet is due. A packet that is due already waits for its
    /// receiver.
    pub(crate) fn next_deadline(&mut self, now: Instant) -> Option<Instant> {
        let connections = &mut self.connections;
        let held = self.shaped.iter().filter_map(|&flow| connections.direction(flow)?.shaper.as_ref()?.ready_at());
        self.faults.ends().chain(held).filter(|&at| at > now).min()
    }

    /// Ends the faults whose time is over.
    pub(crate) fn tick(&mut self, now: Instant) {
        if self.faults.expire(now) {
            self.reshape_all(now);
        }
    }

    /// Carries out a request of the control socket.
    pub(crate) fn apply(&mut self, request: &Request, now: Instant) -> Response {
        match request {
            Request::List => Response::State(self.state(now)),
            Request::Reset { filter } => {
                let keys = self.connections.matching(|key| is_touched(filter, key));
                keys.iter().for_each(|&key| self.reset(key));
                Response::Done { connections: keys.len(), fault: None }
            }
            Request::Inject { fault, filter, lasts } => {
                let connections = self.connections.matching(|key| is_touched(filter, key)).len();
                let id = self.faults.inject(*fault, *filter, *lasts, now);
                self.reshape_all(now);
                Response::Done { connections, fault: Some(id) }
            }
            Request::Clear { fault } => {
                let found = self.faults.find(*fault);
                if let (true, Some(id)) = (found.is_empty(), fault) {
                    return Response::Refused { reason: format!("no fault {id} is active") };
                }
                let (ids, filters): (Vec<u32>, Vec<Filter>) = found.into_iter().unzip();
                let is_meant = |key: Key| filters.iter().any(|filter| is_touched(filter, key));
                let connections = self.connections.matching(is_meant).len();
                self.end_faults(&ids, now);
                Response::Done { connections, fault: None }
            }
        }
    }

    fn state(&self, now: Instant) -> State {
        State {
            guests: self
                .guests
                .iter()
                .map(|(&cid, guest)| GuestState {
                    cid,
                    is_up: guest.is_up,
                    waiting_resets: guest.resets.len(),
                    waits_for: None,
                    malformed: guest.malformed,
                    spoofed: guest.spoofed,
                })
                .collect(),
            connections: self.connections.states(),
            faults: self.faults.states(now),
        }
    }

    /// Answers an undeliverable packet with a reset, unless it is a reset.
    fn refuse(&mut self, header: &Header) -> Verdict {
        if header.operation != Operation::Reset {
            let answer = Header::reset(header.destination, header.source, header.socket_type);
            if let Some(sender) = self.guests.get_mut(&header.source.cid) {
                sender.resets.push_back(answer);
            }
        }
        Verdict::Discard
    }

    /// Ends a connection, with a reset for each end that is up.
    fn reset(&mut self, key: Key) {
        self.forget(key);
        for Flow { source, destination } in key.flows() {
            if let Some(guest) = self.guests.get_mut(&destination.cid).filter(|guest| guest.is_up) {
                guest.resets.push_back(Header::reset(source, destination, Header::STREAM));
            }
        }
    }

    /// Removes a connection, with its held packets.
    fn forget(&mut self, key: Key) {
        if self.connections.close(key).is_some() {
            self.shaped.retain(|flow| flow.key() != key);
        }
    }

    fn release(&mut self, to: Cid, room: usize, now: Instant) -> Option<(usize, Flow, Release)> {
        for (index, &flow) in self.shaped.iter().enumerate() {
            if flow.destination.cid != to {
                continue;
            }
            let direction = self.connections.direction(flow);
            let Some(shaper) = direction.and_then(|direction| direction.shaper.as_mut()) else {
                continue;
            };
            match shaper.release(room, now) {
                Release::Nothing => {}
                release @ (Release::Packet { .. } | Release::Cut { .. }) => return Some((index, flow, release)),
            }
        }
        None
    }

    fn end_faults(&mut self, ids: &[u32], now: Instant) {
        if self.faults.end(ids) {
            self.reshape_all(now);
        }
    }

    fn reshape_all(&mut self, now: Instant) {
        for key in self.connections.matching(|_| true) {
            for flow in key.flows() {
                self.reshape(flow, now);
            }
        }
    }

    /// Updates the shaper of a direction to the active faults.
    fn reshape(&mut self, flow: Flow, now: Instant) {
        let (shape, marks) = self.faults.on(flow);
        let Some(direction) = self.connections.direction(flow) else {
            return;
        };
        if direction.shaper.is_some() || shape != Shape::default() || !marks.is_empty() {
            direction.shape(now).reshape(shape, &marks, now);
            if !self.shaped.contains(&flow) {
                self.shaped.push(flow);
            }
            self.relax(flow);
        }
    }

    /// Removes the shaper from a direction that needs none.
    fn relax(&mut self, flow: Flow) {
        if let Some(direction) = self.connections.direction(flow)
            && direction.shaper.as_ref().is_some_and(|shaper| shaper.is_idle())
        {
            direction.shaper = None;
            self.shaped.retain(|&other| other != flow);
        }
    }
}

/// Whether a filter selects either direction of a connection.
fn is_touched(filter: &Filter, key: Key) -> bool {
    key.flows().iter().any(|flow| filter.matches(flow.source, flow.destination))
}

#[cfg(test)]
mod tests;
