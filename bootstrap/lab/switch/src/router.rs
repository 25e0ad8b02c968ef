//! Decides what happens to each packet: the switch without its rings, sockets and clocks.

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

/// What to do with the packet at the head of a sender's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Deliver it to its destination; `number` is its connection's if it has one, for [`Router::is_open`].
    Forward { number: Option<u64> },
    /// Pass it to [`Router::hold`].
    Hold,
    /// It ends here.
    Discard,
    /// Leave it where it is, and everything behind it.
    Wait,
}

#[derive(Debug, Default)]
struct Guest {
    is_up: bool,
    /// Resets made by the switch, oldest first.
    resets: VecDeque<Header>,
    malformed: u64,
    spoofed: u64,
}

impl Router {
    /// A guest that takes none of its resets has nothing more taken from it. So many, because Linux 6.12
    /// itself takes nothing while its answers wait in its send queue: a low limit would lock both for ever.
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

    /// A guest is gone: whoever was connected to it gets a reset.
    pub(crate) fn guest_down(&mut self, cid: Cid) {
        if let Some(guest) = self.guests.get_mut(&cid) {
            guest.is_up = false;
            guest.resets.clear();
        }
        for key in self.connections.matching(|key| key.touches(cid)) {
            self.reset(key);
        }
    }

    /// Counts a packet that was none.
    pub(crate) fn malformed(&mut self, from: Cid) {
        if let Some(guest) = self.guests.get_mut(&from) {
            guest.malformed += 1;
        }
    }

    /// Decides about the packet at the head of `from`'s queue, and counts it unless it has to wait.
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
            // Its receiver knows no such connection either and answers for itself.
            return Verdict::Forward { number: None };
        };
        let number = Some(connection.number);
        let direction = connection.direction(flow.source);
        if let Some(shaper) = &direction.shaper {
            if !shaper.has_room() {
                return Verdict::Wait;
            }
            direction.count(header);
            // Credit is about the other direction, which a fault of this one must not stop.
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

    /// Takes over a packet that [`Self::judge`] said to hold.
    pub(crate) fn hold(&mut self, header: Header, payload: Vec<u8>) {
        let direction = self.connections.direction(Flow::of(&header));
        if let Some(shaper) = direction.and_then(|direction| direction.shaper.as_mut()) {
            shaper.push(header, payload);
        }
    }

    /// Whether a packet that is being delivered still has the connection it had, if any.
    pub(crate) fn is_open(&self, header: &Header, number: Option<u64>) -> bool {
        number.is_none_or(|number| self.connections.is_open(Flow::of(header), number))
    }

    /// Whether [`Self::next_packet`] has something for `to`.
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

    /// Takes out the next packet that the switch itself has for `to`, of at most `room` payload bytes.
    pub(crate) fn next_packet(&mut self, to: Cid, room: usize, now: Instant) -> Option<Packet> {
        loop {
            if let Some(header) = self.guests.get_mut(&to)?.resets.pop_front() {
                return Some(Packet { header, payload: Vec::new() });
            }
            let (index, flow, release) = self.release(to, room, now)?;
            // The next turn begins behind this one, so that no direction starves another.
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

    /// When, after `now`, [`Self::tick`] or a held packet is due. What is due already waits for a receiver.
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

    /// Answers a packet that goes nowhere with a reset, unless it is one.
    fn refuse(&mut self, header: &Header) -> Verdict {
        if header.operation != Operation::Reset {
            let answer = Header::reset(header.destination, header.source, header.socket_type);
            if let Some(sender) = self.guests.get_mut(&header.source.cid) {
                sender.resets.push_back(answer);
            }
        }
        Verdict::Discard
    }

    /// Ends a connection: a reset for both ends that are still there.
    fn reset(&mut self, key: Key) {
        self.forget(key);
        for Flow { source, destination } in key.flows() {
            if let Some(guest) = self.guests.get_mut(&destination.cid).filter(|guest| guest.is_up) {
                guest.resets.push_back(Header::reset(source, destination, Header::STREAM));
            }
        }
    }

    /// Takes a connection out of the books, with what was held of it.
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

    /// Brings the shaper of a direction in line with the faults that are active.
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

    /// Takes the shaper away from a direction that needs none any more.
    fn relax(&mut self, flow: Flow) {
        if let Some(direction) = self.connections.direction(flow)
            && direction.shaper.as_ref().is_some_and(|shaper| shaper.is_idle())
        {
            direction.shaper = None;
            self.shaped.retain(|&other| other != flow);
        }
    }
}

/// Whether a filter means either direction of a connection.
fn is_touched(filter: &Filter, key: Key) -> bool {
    key.flows().iter().any(|flow| filter.matches(flow.source, flow.destination))
}

#[cfg(test)]
mod tests;
