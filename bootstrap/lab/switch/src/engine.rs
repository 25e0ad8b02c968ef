//! Moves packets between the guests' rings as the router decides.
//!
//! Nothing is queued here: a packet stays in its sender's ring until it has been copied, once, into its
//! receiver's buffers. When those run out it stays half delivered, and all that its sender queued behind it
//! waits, control packets too. That is the back-pressure that guests see on a Nitro host.

use std::time::Instant;

use tracing::{debug, trace};
use tunnel::port::Cid;
use vhost_user_backend::{VringMutex, VringState, VringT};
use virtio_queue::{QueueOwnedT, QueueT};
use vm_memory::{GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap};

use super::buffer::{BadBuffers, Buffers};
use super::fault::{Request, Response};
use super::packet::{Header, HeaderError, Operation};
use super::router::{Router, Verdict};

/// All guests' rings, and the router.
pub(crate) struct Engine {
    router: Router,
    lines: Vec<Line>,
    /// Who is served first: the guest behind the last one that could send, so that all take turns.
    first: usize,
}

/// The two rings of a guest that is up.
#[derive(Clone)]
pub(crate) struct Rings {
    /// The guest receives here.
    pub(crate) receive: VringMutex,
    /// The guest sends here.
    pub(crate) transmit: VringMutex,
    /// The guest's memory.
    pub(crate) memory: GuestMemoryAtomic<GuestMemoryMmap>,
}

/// What the engine knows of one guest.
struct Line {
    cid: Cid,
    rings: Option<Rings>,
    /// The packet of this guest that is not delivered yet, if it has been looked at.
    pending: Option<Pending>,
    /// The buffers of that packet, or of the last one.
    outgoing: Buffers,
    /// The buffers that this guest offered last.
    incoming: Buffers,
    /// The router lets this guest wait.
    is_held_up: bool,
    /// Something for this guest waits for buffers.
    is_starved: bool,
    has_used_receive: bool,
    has_used_transmit: bool,
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

/// Why a chain is no packet.
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
    /// Packets taken from one guest before the next one has its turn and the guests are told.
    const BATCH: usize = 32;
    /// Rounds in one turn: after these, others may have the lock.
    const ROUNDS: usize = 16;

    /// An engine for these guests, all down.
    pub(crate) fn new(cids: &[Cid]) -> Self {
        Self {
            router: Router::new(cids.iter().copied()),
            lines: cids.iter().copied().map(Line::new).collect(),
            first: 0,
        }
    }

    /// A guest's rings are ready. Does nothing if they were before.
    pub(crate) fn guest_up(&mut self, cid: Cid, rings: &Rings) {
        if let Some(line) = self.lines.iter_mut().find(|line| line.cid == cid && line.rings.is_none()) {
            *line = Line { rings: Some(rings.clone()), ..Line::new(cid) };
            self.router.guest_up(cid);
            debug!(%cid, "guest is up");
        }
    }

    /// A guest's rings are gone. After this they are not touched.
    pub(crate) fn guest_down(&mut self, cid: Cid) {
        if let Some(line) = self.lines.iter_mut().find(|line| line.cid == cid && line.rings.is_some()) {
            *line = Line::new(cid);
            self.router.guest_down(cid);
            debug!(%cid, "guest is down");
        }
    }

    /// Carries out a request of the control socket.
    pub(crate) fn apply(&mut self, request: &Request, now: Instant) -> Response {
        let mut response = self.router.apply(request, now);
        if let Response::State(state) = &mut response {
            for guest in &mut state.guests {
                let line = self.lines.iter().find(|line| line.cid == guest.cid);
                guest.waits_for = line.and_then(|line| line.pending).map(|pending| pending.header.destination.cid);
            }
        }
        response
    }

    /// When, after `now`, a turn is due even if no guest asks for one.
    pub(crate) fn next_deadline(&mut self, now: Instant) -> Option<Instant> {
        self.router.next_deadline(now)
    }

    /// Moves what can be moved. True: there is more.
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

    /// Delivers what the router itself has for a guest.
    fn flush(&mut self, index: usize, now: Instant) -> bool {
        let Self { router, lines, .. } = self;
        let Some(line) = lines.get_mut(index) else {
            return false;
        };
        line.is_starved = false;
        let Some(rings) = &line.rings else {
            return false;
        };
        let memory = rings.memory.memory();
        let mut ring = rings.receive.get_mut();
        let mut is_moving = false;
        for _ in 0..Self::BATCH * 4 {
            if !router.has_packet(line.cid, now) {
                break;
            }
            let Some(chain) = next_chain(&mut ring, &memory) else {
                line.is_starved = true;
                break;
            };
            let head = chain.head_index();
            line.incoming.write_to(chain);
            let room = line.incoming.left().saturating_sub(Header::LEN);
            if room == 0 {
                give_back(&mut ring, &memory, head, 0);
                line.has_used_receive = true;
                continue;
            }
            let Some(packet) = router.next_packet(line.cid, room, now) else {
                ring.get_queue_mut().go_to_previous_position();
                break;
            };
            let written = line
                .incoming
                .write_slice(&memory, &packet.header.encode())
                .and_then(|()| line.incoming.write_slice(&memory, &packet.payload));
            give_back(&mut ring, &memory, head, written.map_or(0, |()| on_the_wire(packet.header.payload_len)));
            line.has_used_receive = true;
            is_moving = true;
        }
        is_moving
    }

    /// Takes packets from a guest and delivers them.
    fn drain(&mut self, index: usize, now: Instant) -> bool {
        let Some(line) = self.lines.get_mut(index) else {
            return false;
        };
        let Some(rings) = line.rings.clone() else {
            return false;
        };
        // Taken out, so that the receiver's line can be borrowed at the same time.
        let mut buffers = std::mem::take(&mut line.outgoing);
        let mut pending = line.pending.take();
        line.is_held_up = false;

        let memory = rings.memory.memory();
        let mut ring = rings.transmit.get_mut();
        let mut used = 0_usize;
        let mut is_moving = false;
        while used < Self::BATCH {
            let packet = match pending.take() {
                Some(packet) => packet,
                None => {
                    let Some(chain) = next_chain(&mut ring, &memory) else {
                        break;
                    };
                    let head = chain.head_index();
                    buffers.read_from(chain);
                    match self.accept(index, head, &mut buffers, &memory, now) {
                        Some(Ok(packet)) => packet,
                        Some(Err(Finished)) => {
                            give_back(&mut ring, &memory, head, 0);
                            used += 1;
                            continue;
                        }
                        None => {
                            ring.get_queue_mut().go_to_previous_position();
                            break;
                        }
                    }
                }
            };
            let left_before = packet.left;
            let mut packet = packet;
            match self.deliver(&mut packet, &mut buffers, &memory) {
                Delivery::Complete => {
                    give_back(&mut ring, &memory, packet.head, 0);
                    used += 1;
                }
                Delivery::Starved => {
                    is_moving |= packet.left != left_before;
                    pending = Some(packet);
                    break;
                }
            }
        }
        drop(ring);
        if let Some(line) = self.lines.get_mut(index) {
            line.outgoing = buffers;
            line.pending = pending;
            line.has_used_transmit |= used > 0;
        }
        is_moving || used > 0
    }

    /// Looks at a chain that a guest sent: a packet to deliver, or one that ends here, or (`None`) one that waits.
    fn accept(
        &mut self,
        index: usize,
        head: u16,
        buffers: &mut Buffers,
        memory: &GuestMemoryMmap,
        now: Instant,
    ) -> Option<Result<Pending, Finished>> {
        let line = self.lines.get_mut(index)?;
        let header = match read_header(buffers, memory) {
            Ok(header) => header,
            Err(error) => {
                debug!(cid = %line.cid, %error, "malformed packet");
                self.router.malformed(line.cid);
                return Some(Err(Finished));
            }
        };
        trace!(?header, "packet");
        match self.router.judge(line.cid, &header, now) {
            Verdict::Forward { number } => Some(Ok(Pending { head, header, number, left: header.payload_len })),
            Verdict::Discard => Some(Err(Finished)),
            Verdict::Hold => {
                let mut payload = vec![0; header.payload_len];
                match buffers.read_slice(memory, &mut payload) {
                    Ok(()) => self.router.hold(header, payload),
                    Err(BadBuffers) => self.router.malformed(line.cid),
                }
                Some(Err(Finished))
            }
            Verdict::Wait => {
                line.is_held_up = true;
                None
            }
        }
    }

    /// Copies as much of a packet as its receiver has buffers for.
    fn deliver(&mut self, packet: &mut Pending, buffers: &mut Buffers, memory: &GuestMemoryMmap) -> Delivery {
        let header = &packet.header;
        if header.operation == Operation::Data && !self.router.is_open(header, packet.number) {
            return Delivery::Complete;
        }
        let receiver = self.lines.iter_mut().find(|line| line.cid == header.destination.cid);
        let Some((line, rings)) = receiver.and_then(|line| line.rings.clone().map(|rings| (line, rings))) else {
            return Delivery::Complete;
        };
        let receiver_memory = rings.memory.memory();
        let mut ring = rings.receive.get_mut();
        loop {
            let Some(chain) = next_chain(&mut ring, &receiver_memory) else {
                line.is_starved = true;
                return Delivery::Starved;
            };
            let head = chain.head_index();
            line.incoming.write_to(chain);
            line.has_used_receive = true;
            let Some(piece) = piece_len(packet.left, line.incoming.left()) else {
                give_back(&mut ring, &receiver_memory, head, 0);
                continue;
            };
            let written = line
                .incoming
                .write_slice(&receiver_memory, &header.piece(piece).encode())
                .and_then(|()| buffers.copy(memory, &mut line.incoming, &receiver_memory, piece));
            let Ok(()) = written else {
                // Its own buffers are outside its memory: it loses what it asked for, nobody else does.
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

    /// Tells the guests what has been used, where they want to know.
    fn notify(&mut self) {
        for line in &mut self.lines {
            let Some(rings) = &line.rings else {
                continue;
            };
            if std::mem::take(&mut line.has_used_receive) {
                signal(line.cid, &mut rings.receive.get_mut());
            }
            if std::mem::take(&mut line.has_used_transmit) {
                signal(line.cid, &mut rings.transmit.get_mut());
            }
        }
    }

    /// Asks the guests for a kick where one is needed. True: something has come meanwhile.
    fn arm(&mut self) -> bool {
        let mut has_more = false;
        for line in &mut self.lines {
            let Some(rings) = &line.rings else {
                continue;
            };
            if line.is_starved {
                has_more |= want_kick(&mut rings.receive.get_mut(), &rings.memory.memory());
            }
            if line.pending.is_none() && !line.is_held_up {
                has_more |= want_kick(&mut rings.transmit.get_mut(), &rings.memory.memory());
            }
        }
        has_more
    }
}

/// A chain that needs nothing more.
struct Finished;

impl Line {
    fn new(cid: Cid) -> Self {
        Self {
            cid,
            rings: None,
            pending: None,
            outgoing: Buffers::default(),
            incoming: Buffers::default(),
            is_held_up: false,
            is_starved: false,
            has_used_receive: false,
            has_used_transmit: false,
        }
    }
}

/// Payload bytes of the next piece of a packet in a buffer of `capacity` bytes; `None` if the buffer is useless.
fn piece_len(left: usize, capacity: usize) -> Option<usize> {
    let room = capacity.checked_sub(Header::LEN)?;
    (room > 0 || left == 0).then(|| left.min(room))
}

/// Bytes of a packet, header included.
fn on_the_wire(payload_len: usize) -> u32 {
    u32::try_from(Header::LEN + payload_len).expect("a payload has at most MAX_PAYLOAD bytes")
}

fn read_header(buffers: &mut Buffers, memory: &GuestMemoryMmap) -> Result<Header, PacketError> {
    let header = Header::decode(&buffers.read(memory)?)?;
    if buffers.holds(memory, header.payload_len) { Ok(header) } else { Err(BadBuffers.into()) }
}

/// The next chain of a ring that is in use.
fn next_chain<'m>(
    ring: &mut VringState,
    memory: &'m GuestMemoryMmap,
) -> Option<virtio_queue::DescriptorChain<&'m GuestMemoryMmap>> {
    if !ring.is_enabled() || !ring.get_queue().ready() {
        return None;
    }
    ring.get_queue_mut().iter(memory).ok()?.next()
}

fn give_back(ring: &mut VringState, memory: &GuestMemoryMmap, head: u16, written: u32) {
    if let Err(error) = ring.get_queue_mut().add_used(memory, head, written) {
        debug!(%error, "used ring");
    }
}

fn signal(cid: Cid, ring: &mut VringState) {
    // Without an answer from the ring, one interrupt too many is better than one too few.
    if ring.needs_notification().unwrap_or(true)
        && let Err(error) = ring.signal_used_queue()
    {
        debug!(%cid, %error, "interrupt");
    }
}

fn want_kick(ring: &mut VringState, memory: &GuestMemoryMmap) -> bool {
    ring.is_enabled() && ring.get_queue().ready() && ring.get_queue_mut().enable_notification(memory).unwrap_or(false)
}

#[cfg(test)]
mod tests;
