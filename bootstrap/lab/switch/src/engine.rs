//! Moves packets between the guests' rings as the router decides.
//!
//! Nothing is queued here. A packet stays in its sender's ring until it has been copied, once, into its receiver's
//! buffers. When those run out, the rest of it waits, and so does all that its sender queued behind it, control
//! packets too. Guests on a Nitro host see the same back-pressure.

use std::time::Instant;

use tracing::{debug, trace};
use tunnel::port::Cid;
use vhost_user_backend::VringT;
use vm_memory::{GuestAddressSpace, GuestMemoryMmap};

use super::buffer::{BadBuffers, Buffers};
use super::fault::{Request, Response};
use super::packet::{Header, HeaderError, Operation};
use super::ring::{Rings, give_back, interrupt, next_chain, put_back, want_kick};
use super::router::{Router, Verdict};

/// All guests, and the router.
pub(crate) struct Engine {
    router: Router,
    lines: Vec<Line>,
    /// The guest to serve first: the one after the last that could send, so that all take turns.
    first: usize,
}

/// A guest's place. It exists while the guest is down as well.
struct Line {
    cid: Cid,
    guest: Option<Guest>,
}

/// A guest that is up.
struct Guest {
    rings: Rings,
    sending: Sending,
    /// The buffers of the packet that it sends, or sent last.
    outgoing: Buffers,
    /// The buffers that it offered last.
    incoming: Buffers,
    /// A packet for this guest waits for buffers.
    is_starved: bool,
    /// Chains of the receive ring were returned since its last interrupt.
    has_used_receive: bool,
    /// The same for the transmit ring.
    has_used_transmit: bool,
}

/// What the packet at the head of a guest's transmit ring waits for.
#[derive(Clone, Copy)]
enum Sending {
    /// There is no packet, or the switch has not looked at it yet. The guest kicks when it sends.
    Idle,
    /// The router: the packet stays in the ring.
    HeldUp,
    /// Buffers of its receiver: the packet has been taken out of the ring.
    Delivering(Pending),
}

/// A packet that has been taken out of its ring, whose buffers still belong to the switch.
#[derive(Clone, Copy)]
struct Pending {
    head: u16,
    header: Header,
    number: Option<u64>,
    /// Payload bytes that are still to be delivered.
    left: usize,
}

/// What to do with a chain that a guest sent.
enum Accepted {
    /// It is a packet to deliver.
    Deliver(Pending),
    /// Give it back.
    Finished,
    /// Leave it in the ring: the router makes it wait.
    HeldUp,
}

/// Why a chain is not a packet.
#[derive(Debug, thiserror::Error)]
enum PacketError {
    #[error("buffers")]
    Buffers(#[from] BadBuffers),
    #[error("header")]
    Header(#[from] HeaderError),
}

/// Whether a packet has arrived.
#[derive(PartialEq, Eq)]
enum Delivery {
    Complete,
    /// The receiver's buffers ran out.
    Starved,
}

impl Engine {
    /// Packets to take from one guest before the next guest's turn and the interrupts.
    const BATCH: usize = 32;
    /// Rounds in one turn, after which other threads may have the lock.
    const ROUNDS: usize = 16;

    /// An engine for these guests, all down.
    pub(crate) fn new(cids: &[Cid]) -> Self {
        Self {
            router: Router::new(cids.iter().copied()),
            lines: cids.iter().map(|&cid| Line { cid, guest: None }).collect(),
            first: 0,
        }
    }

    /// A guest's rings are ready. Does nothing if the guest is up.
    pub(crate) fn guest_up(&mut self, cid: Cid, rings: &Rings) {
        if let Some(line) = self.lines.iter_mut().find(|line| line.cid == cid && line.guest.is_none()) {
            line.guest = Some(Guest::new(rings.clone()));
            self.router.guest_up(cid);
            debug!(%cid, "guest is up");
        }
    }

    /// A guest's rings are gone. They are not used after this.
    pub(crate) fn guest_down(&mut self, cid: Cid) {
        if let Some(line) = self.lines.iter_mut().find(|line| line.cid == cid && line.guest.is_some()) {
            line.guest = None;
            self.router.guest_down(cid);
            debug!(%cid, "guest is down");
        }
    }

    /// Carries out a request of the control socket.
    pub(crate) fn apply(&mut self, request: &Request, now: Instant) -> Response {
        let mut response = self.router.apply(request, now);
        if let Response::State(state) = &mut response {
            for shown in &mut state.guests {
                let line = self.lines.iter().find(|line| line.cid == shown.cid);
                shown.waits_for = line.and_then(|line| line.guest.as_ref()).and_then(Guest::waits_for);
            }
        }
        response
    }

    /// When, after `now`, a turn is due without a kick.
    pub(crate) fn next_deadline(&mut self, now: Instant) -> Option<Instant> {
        self.router.next_deadline(now)
    }

    /// Moves packets. True if there is more to move.
    pub(crate) fn turn(&mut self, now: Instant) -> bool {
        self.router.tick(now);
        for _ in 0..Self::ROUNDS {
            let mut is_moving = false;
            let first = self.first;
            for position in 0..self.lines.len() {
                let index = (first + position) % self.lines.len();
                is_moving |= self.flush(index, now);
                if self.drain(index, now) {
                    is_moving = true;
                    self.first = index + 1;
                }
            }
            self.notify();
            if !is_moving && !self.arm() {
                return false;
            }
        }
        true
    }

    /// Delivers the router's own packets for a guest: resets, and what a fault held back.
    fn flush(&mut self, index: usize, now: Instant) -> bool {
        let Self { router, lines, .. } = self;
        let Some(Line { cid, guest: Some(guest) }) = lines.get_mut(index) else {
            return false;
        };
        let Guest { rings, incoming, is_starved, has_used_receive, .. } = guest;
        let memory = rings.memory.memory();
        let mut ring = rings.receive.get_mut();
        *is_starved = false;
        let mut is_moving = false;
        for _ in 0..Self::BATCH * 4 {
            if !router.has_packet(*cid, now) {
                break;
            }
            let Some(chain) = next_chain(&mut ring, &memory) else {
                *is_starved = true;
                break;
            };
            let head = chain.head_index();
            incoming.write_to(chain);
            let room = incoming.left().saturating_sub(Header::LEN);
            if room == 0 {
                give_back(&mut ring, &memory, head, 0);
                *has_used_receive = true;
                continue;
            }
            let Some(packet) = router.next_packet(*cid, room, now) else {
                put_back(&mut ring);
                break;
            };
            let written = incoming
                .write_slice(&memory, &packet.header.encode())
                .and_then(|()| incoming.write_slice(&memory, &packet.payload));
            give_back(&mut ring, &memory, head, written.map_or(0, |()| on_the_wire(packet.header.payload_len)));
            *has_used_receive = true;
            is_moving = true;
        }
        is_moving
    }

    /// Takes packets from a guest and delivers them.
    fn drain(&mut self, index: usize, now: Instant) -> bool {
        let Some(guest) = self.guest_mut(index) else {
            return false;
        };
        let rings = guest.rings.clone();
        // Taken out, so that the receiver can be borrowed at the same time.
        let mut buffers = std::mem::take(&mut guest.outgoing);
        let mut sending = std::mem::replace(&mut guest.sending, Sending::Idle);

        let memory = rings.memory.memory();
        let mut ring = rings.transmit.get_mut();
        let mut used = 0_usize;
        let mut is_moving = false;
        while used < Self::BATCH {
            let mut packet = match std::mem::replace(&mut sending, Sending::Idle) {
                Sending::Delivering(packet) => packet,
                Sending::Idle | Sending::HeldUp => {
                    let Some(chain) = next_chain(&mut ring, &memory) else {
                        break;
                    };
                    let head = chain.head_index();
                    buffers.read_from(chain);
                    match self.accept(index, head, &mut buffers, &memory, now) {
                        Accepted::Deliver(packet) => packet,
                        Accepted::Finished => {
                            give_back(&mut ring, &memory, head, 0);
                            used += 1;
                            continue;
                        }
                        Accepted::HeldUp => {
                            put_back(&mut ring);
                            sending = Sending::HeldUp;
                            break;
                        }
                    }
                }
            };
            let left_before = packet.left;
            match self.deliver(&mut packet, &mut buffers, &memory) {
                Delivery::Complete => {
                    give_back(&mut ring, &memory, packet.head, 0);
                    used += 1;
                }
                Delivery::Starved => {
                    is_moving |= packet.left != left_before;
                    sending = Sending::Delivering(packet);
                    break;
                }
            }
        }
        drop(ring);
        if let Some(guest) = self.guest_mut(index) {
            guest.outgoing = buffers;
            guest.sending = sending;
            guest.has_used_transmit |= used > 0;
        }
        is_moving || used > 0
    }

    /// Looks at a chain that a guest sent.
    fn accept(
        &mut self,
        index: usize,
        head: u16,
        buffers: &mut Buffers,
        memory: &GuestMemoryMmap,
        now: Instant,
    ) -> Accepted {
        let Some(&Line { cid, .. }) = self.lines.get(index) else {
            return Accepted::Finished;
        };
        let header = match read_header(buffers, memory) {
            Ok(header) => header,
            Err(error) => {
                debug!(%cid, %error, "malformed packet");
                self.router.malformed(cid);
                return Accepted::Finished;
            }
        };
        trace!(?header, "packet");
        match self.router.judge(cid, &header, now) {
            Verdict::Forward { number } => {
                Accepted::Deliver(Pending { head, header, number, left: header.payload_len })
            }
            Verdict::Discard => Accepted::Finished,
            Verdict::Hold => {
                let mut payload = vec![0; header.payload_len];
                match buffers.read_slice(memory, &mut payload) {
                    Ok(()) => self.router.hold(header, payload),
                    Err(BadBuffers) => self.router.malformed(cid),
                }
                Accepted::Finished
            }
            Verdict::Wait => Accepted::HeldUp,
        }
    }

    /// Copies as much of a packet as its receiver has buffers for.
    fn deliver(&mut self, packet: &mut Pending, buffers: &mut Buffers, memory: &GuestMemoryMmap) -> Delivery {
        let header = &packet.header;
        if header.operation == Operation::Data && !self.router.is_open(header, packet.number) {
            return Delivery::Complete;
        }
        let receiver = self.lines.iter_mut().find(|line| line.cid == header.destination.cid);
        let Some(Guest { rings, incoming, is_starved, has_used_receive, .. }) =
            receiver.and_then(|line| line.guest.as_mut())
        else {
            return Delivery::Complete;
        };
        let receiver_memory = rings.memory.memory();
        let mut ring = rings.receive.get_mut();
        loop {
            let Some(chain) = next_chain(&mut ring, &receiver_memory) else {
                *is_starved = true;
                return Delivery::Starved;
            };
            let head = chain.head_index();
            incoming.write_to(chain);
            *has_used_receive = true;
            let Some(piece) = piece_len(packet.left, incoming.left()) else {
                give_back(&mut ring, &receiver_memory, head, 0);
                continue;
            };
            let written = incoming
                .write_slice(&receiver_memory, &header.piece(piece).encode())
                .and_then(|()| buffers.copy(memory, incoming, &receiver_memory, piece));
            let Ok(()) = written else {
                // The receiver's buffers are outside its memory: it loses the packet.
                give_back(&mut ring, &receiver_memory, head, 0);
                return Delivery::Complete;
            };
            give_back(&mut ring, &receiver_memory, head, on_the_wire(piece));
            packet.left -= piece;
            if packet.left == 0 {
                return Delivery::Complete;
            }
        }
    }

    /// Interrupts the guests whose chains were given back.
    fn notify(&mut self) {
        for Line { cid, guest } in &mut self.lines {
            let Some(guest) = guest else {
                continue;
            };
            if std::mem::take(&mut guest.has_used_receive) {
                interrupt(*cid, &mut guest.rings.receive.get_mut());
            }
            if std::mem::take(&mut guest.has_used_transmit) {
                interrupt(*cid, &mut guest.rings.transmit.get_mut());
            }
        }
    }

    /// Asks for kicks where needed. True if a chain has come in the meantime.
    fn arm(&mut self) -> bool {
        let mut has_more = false;
        for Guest { rings, sending, is_starved, .. } in self.lines.iter().filter_map(|line| line.guest.as_ref()) {
            if *is_starved {
                has_more |= want_kick(&mut rings.receive.get_mut(), &rings.memory.memory());
            }
            if matches!(sending, Sending::Idle) {
                has_more |= want_kick(&mut rings.transmit.get_mut(), &rings.memory.memory());
            }
        }
        has_more
    }

    fn guest_mut(&mut self, index: usize) -> Option<&mut Guest> {
        self.lines.get_mut(index)?.guest.as_mut()
    }
}

impl Guest {
    fn new(rings: Rings) -> Self {
        Self {
            rings,
            sending: Sending::Idle,
            outgoing: Buffers::default(),
            incoming: Buffers::default(),
            is_starved: false,
            has_used_receive: false,
            has_used_transmit: false,
        }
    }

    /// The guest whose missing buffers keep this one from sending.
    fn waits_for(&self) -> Option<Cid> {
        match &self.sending {
            Sending::Delivering(packet) => Some(packet.header.destination.cid),
            Sending::Idle | Sending::HeldUp => None,
        }
    }
}

/// Payload bytes of the next piece of a packet in a buffer of `capacity` bytes; `None` if not even one fits.
fn piece_len(left: usize, capacity: usize) -> Option<usize> {
    let room = capacity.checked_sub(Header::LEN)?;
    (room > 0 || left == 0).then(|| left.min(room))
}

/// Length of a packet with its header.
fn on_the_wire(payload_len: usize) -> u32 {
    u32::try_from(Header::LEN + payload_len).expect("a payload has at most MAX_PAYLOAD bytes")
}

fn read_header(buffers: &mut Buffers, memory: &GuestMemoryMmap) -> Result<Header, PacketError> {
    let header = Header::decode(&buffers.read(memory)?)?;
    if buffers.holds(memory, header.payload_len) { Ok(header) } else { Err(BadBuffers.into()) }
}

#[cfg(test)]
mod tests;
