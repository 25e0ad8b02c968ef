//! One direction of one connection while a fault applies: which packets to hold, and when to release them.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use super::packet::Header;

/// Holds the packets of a direction in order and releases them as its faults allow.
#[derive(Debug)]
pub(crate) struct Shaper {
    shape: Shape,
    marks: Vec<Mark>,
    held: VecDeque<Held>,
    held_bytes: usize,
    tokens: u64,
    refilled: Instant,
}

/// The faults of a direction that last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) is_stalled: bool,
    pub(crate) is_dribbling: bool,
    pub(crate) rate: Option<NonZeroU64>,
}

/// A fault that strikes once, at one byte of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Number of the fault.
    pub(crate) fault: u32,
    /// What it does.
    pub(crate) strike: Strike,
    /// Payload bytes that pass first.
    pub(crate) after_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strike {
    Flip,
    Cut,
}

/// A packet for its receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) header: Header,
    pub(crate) payload: Vec<u8>,
}

/// What a direction releases.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Release {
    /// A packet, and the faults that struck it, which are over.
    Packet { packet: Packet, spent: Vec<u32> },
    /// A fault cuts the connection.
    Cut { fault: u32 },
    /// Nothing yet.
    Nothing,
}

#[derive(Debug)]
struct Held {
    header: Header,
    payload: Vec<u8>,
    sent: usize,
}

impl Shaper {
    /// The switch takes nothing from the sender while more is held. Receive buffers in the lab have at most 4 MiB, so
    /// a sender runs out of credit first, and the guest's other connections continue.
    const HOLD_LIMIT: usize = 8 * 1024 * 1024;
    /// Memory of a packet besides its payload.
    const PACKET_COST: usize = 128;
    /// A slow direction delivers in steps of this length, not byte by byte.
    const STEP: Duration = Duration::from_millis(20);

    /// A direction without faults or packets.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            shape: Shape::default(),
            marks: Vec::new(),
            held: VecDeque::new(),
            held_bytes: 0,
            tokens: 0,
            refilled: now,
        }
    }

    /// Changes the faults of the direction. A known mark keeps its count.
    pub(crate) fn reshape(&mut self, shape: Shape, marks: &[Mark], now: Instant) {
        if self.shape.rate != shape.rate {
            self.tokens = 0;
            self.refilled = now;
        }
        self.shape = shape;
        self.marks = marks
            .iter()
            .map(|mark| *self.marks.iter().find(|known| known.fault == mark.fault).unwrap_or(mark))
            .collect();
    }

    /// Whether it has no fault and holds nothing.
    pub(crate) fn is_idle(&self) -> bool {
        self.shape == Shape::default() && self.marks.is_empty() && self.held.is_empty()
    }

    /// Whether another packet may be pushed.
    pub(crate) fn has_room(&self) -> bool {
        self.held_bytes + self.held.len() * Self::PACKET_COST < Self::HOLD_LIMIT
    }

    /// Payload bytes it holds back.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Appends a packet.
    pub(crate) fn push(&mut self, header: Header, payload: Vec<u8>) {
        self.held_bytes += payload.len();
        self.held.push_back(Held { header, payload, sent: 0 });
    }

    /// Whether [`Self::release`] has something.
    pub(crate) fn is_ready(&self, now: Instant) -> bool {
        self.ready_at().is_some_and(|at| at <= now)
    }

    /// When [`Self::release`] will have something, unless the faults change.
    pub(crate) fn ready_at(&self) -> Option<Instant> {
        let head = self.held.front()?;
        if self.shape.is_stalled {
            return None;
        }
        let Some(rate) = self.shape.rate else {
            return Some(self.refilled);
        };
        let missing = self.next_step(head, rate).saturating_sub(self.tokens);
        Some(self.refilled + time_for(missing, rate))
    }

    /// Takes the next packet, with at most `room` payload bytes (at least 1).
    pub(crate) fn release(&mut self, room: usize, now: Instant) -> Release {
        if !self.is_ready(now) {
            return Release::Nothing;
        }
        self.refill(now);
        let Some(head) = self.held.front_mut() else {
            return Release::Nothing;
        };
        if head.payload.is_empty() {
            let packet = Packet { header: head.header, payload: Vec::new() };
            self.held.pop_front();
            return Release::Packet { packet, spent: Vec::new() };
        }

        let mut limit = room.min(head.payload.len() - head.sent) as u64;
        if self.shape.is_dribbling {
            limit = limit.min(1);
        }
        if self.shape.rate.is_some() {
            limit = limit.min(self.tokens);
        }
        for mark in self.marks.iter().filter(|mark| mark.strike == Strike::Cut) {
            if mark.after_bytes == 0 {
                return Release::Cut { fault: mark.fault };
            }
            limit = limit.min(mark.after_bytes);
        }
        self.tokens = self.tokens.saturating_sub(limit);
        let limit = usize::try_from(limit).expect("no more than the room");

        let mut payload: Vec<u8> = head.payload.iter().skip(head.sent).take(limit).copied().collect();
        let header = head.header.piece(limit);
        head.sent += limit;
        if head.sent == head.payload.len() {
            self.held.pop_front();
        }
        self.held_bytes -= limit;
        let spent = self.strike(&mut payload);
        Release::Packet { packet: Packet { header, payload }, spent }
    }

    /// Applies the marks that fall into this payload, and counts it towards the others.
    fn strike(&mut self, payload: &mut [u8]) -> Vec<u32> {
        let mut spent = Vec::new();
        for mark in &mut self.marks {
            let struck = usize::try_from(mark.after_bytes).ok().and_then(|offset| payload.get_mut(offset));
            if let (Strike::Flip, Some(byte)) = (mark.strike, struck) {
                *byte ^= 1;
                spent.push(mark.fault);
            }
            mark.after_bytes = mark.after_bytes.saturating_sub(payload.len() as u64);
        }
        self.marks.retain(|mark| !spent.contains(&mark.fault));
        spent
    }

    /// Bytes of the next step of a slow direction.
    fn next_step(&self, head: &Held, rate: NonZeroU64) -> u64 {
        let mut left = (head.payload.len() - head.sent) as u64;
        if self.shape.is_dribbling {
            left = left.min(1);
        }
        left.min(bytes_in(Self::STEP, rate).max(1))
    }

    fn refill(&mut self, now: Instant) {
        let Some(rate) = self.shape.rate else {
            self.refilled = now;
            return;
        };
        let earned = bytes_in(now.saturating_duration_since(self.refilled), rate);
        if earned > 0 {
            // Only the time of whole bytes, or a low rate would lose the remainder each time.
            self.refilled += time_for(earned, rate);
            self.tokens = (self.tokens + earned).min(bytes_in(Self::STEP * 4, rate).max(1));
        }
    }
}

fn bytes_in(time: Duration, rate: NonZeroU64) -> u64 {
    let bytes = time.as_nanos() * u128::from(rate.get()) / NANOS_PER_SECOND;
    // Saturates: more than any stream has.
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

fn time_for(bytes: u64, rate: NonZeroU64) -> Duration {
    let nanos = (u128::from(bytes) * NANOS_PER_SECOND).div_ceil(u128::from(rate.get()));
    // Saturates: 584 years.
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

const NANOS_PER_SECOND: u128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use tunnel::port::{Cid, Port};

    use super::super::packet::{Address, Credit, Operation};
    use super::*;

    fn data(payload: &[u8]) -> (Header, Vec<u8>) {
        let header = Header {
            source: Address { cid: Cid(16), port: Port(1) },
            destination: Address { cid: Cid(3), port: Port(820) },
            payload_len: payload.len(),
            socket_type: Header::STREAM,
            operation: Operation::Data,
            flags: 0,
            credit: Credit::default(),
        };
        (header, payload.to_vec())
    }

    fn shaper(shape: Shape, marks: &[Mark], now: Instant) -> Shaper {
        let mut shaper = Shaper::new(now);
        shaper.reshape(shape, marks, now);
        shaper
    }

    fn rate(bytes_per_second: u64) -> Shape {
        Shape { rate: NonZeroU64::new(bytes_per_second), ..Shape::default() }
    }

    /// Everything that comes out at `now`.
    fn drain(shaper: &mut Shaper, now: Instant) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        while let Release::Packet { packet, .. } = shaper.release(4096, now) {
            assert_eq!(packet.header.payload_len, packet.payload.len());
            out.push(packet.payload);
        }
        out
    }

    #[test]
    fn a_stalled_direction_gives_nothing_until_it_is_reshaped_and_then_all() {
        let now = Instant::now();
        let mut shaper = shaper(Shape { is_stalled: true, ..Shape::default() }, &[], now);
        let (header, payload) = data(b"held");
        shaper.push(header, payload);
        assert_eq!(shaper.release(4096, now + Duration::from_secs(3600)), Release::Nothing);
        assert_eq!(shaper.ready_at(), None);
        assert_eq!(shaper.held_bytes(), 4);
        shaper.reshape(Shape::default(), &[], now);
        assert_eq!(drain(&mut shaper, now), [b"held"]);
        assert!(shaper.is_idle());
    }

    #[test]
    fn a_dribbling_direction_gives_one_byte_a_packet() {
        let now = Instant::now();
        let mut shaper = shaper(Shape { is_dribbling: true, ..Shape::default() }, &[], now);
        let (header, payload) = data(b"abc");
        shaper.push(header, payload);
        assert_eq!(drain(&mut shaper, now), [b"a", b"b", b"c"]);
    }

    #[test]
    fn a_slow_direction_keeps_its_rate_over_time_and_loses_nothing() {
        let start = Instant::now();
        let mut shaper = shaper(rate(1000), &[], start);
        let sent: Vec<u8> = (0..2500_u32).map(|n| n.to_le_bytes()[0]).collect();
        let (header, payload) = data(&sent);
        shaper.push(header, payload);
        let mut received = Vec::new();
        let mut now = start;
        while let Some(at) = shaper.ready_at() {
            assert!(at >= now);
            now = at;
            received.extend(drain(&mut shaper, now).concat());
            let allowed = (now - start).as_secs_f64() * 1000.0 + 1.0;
            assert!(received.len() as f64 <= allowed, "{} bytes after {:?}", received.len(), now - start);
        }
        assert_eq!(received, sent);
        assert!((now - start).as_millis().abs_diff(2500) <= 1, "{:?}", now - start);
    }

    #[test]
    fn a_rate_of_one_byte_a_second_is_kept_when_asked_too_often() {
        let start = Instant::now();
        let mut shaper = shaper(rate(1), &[], start);
        let (header, payload) = data(b"abc");
        shaper.push(header, payload);
        let at = |tenths: u32| start + Duration::from_millis(100) * tenths;
        let times: Vec<u32> = (0..40).step_by(3).filter(|&tenths| !drain(&mut shaper, at(tenths)).is_empty()).collect();
        assert_eq!(times, [12, 21, 30], "each in the first step after its second");
    }

    #[test]
    fn a_flip_changes_one_bit_of_one_byte_across_packets_and_is_spent() {
        let now = Instant::now();
        let mark = Mark { fault: 7, strike: Strike::Flip, after_bytes: 5 };
        let mut shaper = shaper(Shape::default(), &[mark], now);
        for _ in 0..2 {
            let (header, payload) = data(&[0; 4]);
            shaper.push(header, payload);
        }
        let first = shaper.release(4096, now);
        assert!(matches!(&first, Release::Packet { spent, .. } if spent.is_empty()));
        let Release::Packet { packet, spent } = shaper.release(4096, now) else { panic!("a packet") };
        assert_eq!((packet.payload, spent), (vec![0, 1, 0, 0], vec![7]));
        assert!(shaper.is_idle());
    }

    #[test]
    fn a_cut_lets_exactly_its_bytes_pass() {
        let now = Instant::now();
        let mark = Mark { fault: 9, strike: Strike::Cut, after_bytes: 6 };
        let mut shaper = shaper(Shape::default(), &[mark], now);
        for _ in 0..2 {
            let (header, payload) = data(b"abcd");
            shaper.push(header, payload);
        }
        assert_eq!(drain(&mut shaper, now), [&b"abcd"[..], &b"ab"[..]]);
        assert_eq!(shaper.release(4096, now), Release::Cut { fault: 9 });
    }

    #[test]
    fn a_held_packet_is_split_to_the_room_there_is() {
        let now = Instant::now();
        let mut shaper = Shaper::new(now);
        let (header, payload) = data(b"abcdef");
        shaper.push(header, payload);
        let Release::Packet { packet, .. } = shaper.release(4, now) else { panic!("a packet") };
        assert_eq!((packet.header.payload_len, packet.payload), (4, b"abcd".to_vec()));
        let Release::Packet { packet, .. } = shaper.release(4, now) else { panic!("a packet") };
        assert_eq!((packet.header.payload_len, packet.payload), (2, b"ef".to_vec()));
    }

    #[test]
    fn control_packets_stay_in_their_place_and_cost_no_tokens() {
        let now = Instant::now();
        let mut shaper = shaper(rate(1), &[], now);
        let (header, payload) = data(b"a");
        shaper.push(header, payload);
        let (mut header, _) = data(b"");
        header.operation = Operation::Shutdown;
        shaper.push(header, Vec::new());
        assert_eq!(drain(&mut shaper, now), Vec::<Vec<u8>>::new());
        assert_eq!(drain(&mut shaper, now + Duration::from_secs(1)), [&b"a"[..], &b""[..]]);
    }

    #[test]
    fn it_takes_no_more_than_its_limit() {
        let now = Instant::now();
        let mut shaper = shaper(Shape { is_stalled: true, ..Shape::default() }, &[], now);
        let mut packets = 0;
        while shaper.has_room() {
            let (header, payload) = data(&[0; 65_536]);
            shaper.push(header, payload);
            packets += 1;
            assert!(packets <= 128, "no bound");
        }
        assert!(packets > 64);
    }

    #[test]
    fn tiny_packets_count_with_what_they_cost_in_memory() {
        let now = Instant::now();
        let mut shaper = shaper(Shape { is_stalled: true, ..Shape::default() }, &[], now);
        let mut packets = 0;
        while shaper.has_room() {
            let (header, payload) = data(&[0; 1]);
            shaper.push(header, payload);
            packets += 1;
            assert!(packets <= 70_000, "no bound");
        }
    }
}
