mod guest;

use std::time::Duration;

use tunnel::port::Port;
use virtio_bindings::bindings::virtio_ring::VRING_DESC_F_NEXT;
use vm_memory::{Bytes, GuestAddress};

use super::super::fault::{Fault, Filter};
use super::super::packet::{Address, Credit};
use super::*;
use guest::{Guest, split};

const PARENT: Cid = Cid(3);
const ENCLAVE: Cid = Cid(16);
const OTHER: Cid = Cid(17);
/// What Linux 6.12 posts (`VIRTIO_VSOCK_DEFAULT_RX_BUF_SIZE`).
const LINUX_BUFFER: u32 = 3776;
const LINUX_ROOM: usize = 3776 - Header::LEN;

fn header(from: Cid, to: Cid, operation: Operation, payload: &[u8]) -> Header {
    // The listener has port 820 and is the parent unless two enclaves talk.
    let port = |cid: Cid| Port(if cid == PARENT { 820 } else { cid.0 });
    Header {
        source: Address { cid: from, port: port(from) },
        destination: Address { cid: to, port: port(to) },
        payload_len: payload.len(),
        socket_type: Header::STREAM,
        operation,
        flags: 0,
        credit: Credit { buf_alloc: 262_144, fwd_cnt: 77 },
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|position| (position * 31 % 251).to_le_bytes()[0]).collect()
}

struct Lab {
    engine: Engine,
    parent: Guest,
    enclave: Guest,
    now: Instant,
}

impl Lab {
    /// A parent and an enclave with a connection between them, and no buffers left.
    fn connected() -> Self {
        let mut lab = Self {
            engine: Engine::new(&[PARENT, ENCLAVE, OTHER]),
            parent: Guest::new(PARENT),
            enclave: Guest::new(ENCLAVE),
            now: Instant::now(),
        };
        lab.engine.guest_up(PARENT, &lab.parent.rings);
        lab.engine.guest_up(ENCLAVE, &lab.enclave.rings);
        lab.parent.post_buffers(1, LINUX_BUFFER);
        lab.enclave.send(&header(ENCLAVE, PARENT, Operation::Request, b""), b"");
        lab.settle();
        assert_eq!(lab.parent.receive()[0].0.operation, Operation::Request);
        lab
    }

    fn settle(&mut self) {
        let mut turns = 0;
        while self.engine.turn(self.now) {
            turns += 1;
            assert!(turns < 10_000, "the engine never rests");
        }
    }

    fn send(&mut self, payload: &[u8]) {
        self.enclave.send(&header(ENCLAVE, PARENT, Operation::Data, payload), payload);
    }

    fn malformed(&mut self) -> u64 {
        let Response::State(state) = self.engine.apply(&Request::List, self.now) else {
            panic!("no state");
        };
        state.guests[1].malformed
    }
}

#[test]
fn a_packet_larger_than_the_receivers_buffers_arrives_in_pieces_with_their_own_lengths() {
    let mut lab = Lab::connected();
    let sent = pattern(65_536);
    lab.parent.post_buffers(32, LINUX_BUFFER);
    lab.send(&sent);
    lab.settle();
    let pieces = lab.parent.receive();
    assert_eq!(pieces.len(), 65_536_usize.div_ceil(LINUX_ROOM));
    for (header, payload) in &pieces {
        assert_eq!(header.payload_len, payload.len());
        assert_eq!(header.operation, Operation::Data);
        assert_eq!(header.credit, Credit { buf_alloc: 262_144, fwd_cnt: 77 });
    }
    assert_eq!(pieces.concat_payload(), sent);
    assert_eq!(lab.enclave.sent(), 2, "request and packet");
}

#[test]
fn a_packet_is_read_however_it_is_scattered() {
    for first in 1..=Header::LEN + 1 {
        let mut lab = Lab::connected();
        let sent = pattern(5000);
        lab.parent.post_buffers(4, LINUX_BUFFER);
        let header = header(ENCLAVE, PARENT, Operation::Data, &sent);
        lab.enclave.send_scattered(&header, &sent, &[first, 1, 7, 1000, 2, 3000]);
        lab.settle();
        assert_eq!(lab.parent.receive().concat_payload(), sent, "first buffer of {first} bytes");
    }
}

#[test]
fn a_receive_buffer_may_be_scattered_too() {
    let mut lab = Lab::connected();
    let start = lab.parent.allocate(200);
    let spans = [(start, 20), (start + 20, 30), (start + 50, 150)];
    lab.parent.receive.post(&lab.parent.rings.memory.memory(), &spans, true);
    lab.send(b"scattered");
    lab.settle();
    assert_eq!(lab.parent.receive().concat_payload(), b"scattered");
}

#[test]
fn a_sender_waits_for_its_receivers_buffers_and_nothing_is_lost_or_reordered() {
    let mut lab = Lab::connected();
    let sent = pattern(40 * 1000);
    for chunk in sent.chunks(1000) {
        lab.send(chunk);
    }
    lab.enclave.send(&header(ENCLAVE, PARENT, Operation::CreditUpdate, b""), b"");
    lab.settle();
    assert_eq!(lab.enclave.sent(), 1, "without buffers nothing is taken");
    assert_eq!(lab.parent.receive(), []);
    lab.parent.post_buffers(10, LINUX_BUFFER);
    lab.settle();
    assert_eq!(lab.enclave.sent(), 11, "as much as there are buffers");
    let mut received = lab.parent.receive();
    lab.parent.post_buffers(40, LINUX_BUFFER);
    lab.settle();
    received.extend(lab.parent.receive());
    assert_eq!(received.concat_payload(), sent);
    assert_eq!(received.len(), 41);
    assert_eq!(received[40].0.operation, Operation::CreditUpdate, "control stays behind the data");
    assert_eq!(lab.enclave.sent(), 42);
}

#[test]
fn a_half_delivered_packet_goes_on_where_it_stopped() {
    let mut lab = Lab::connected();
    let sent = pattern(3 * LINUX_ROOM + 5);
    lab.send(&sent);
    let mut received = Vec::new();
    for round in 0..4 {
        assert_eq!(lab.enclave.sent(), 1, "round {round}: its buffers are still ours");
        lab.parent.post_buffers(1, LINUX_BUFFER);
        lab.settle();
        received.extend(lab.parent.receive());
    }
    assert_eq!(received.concat_payload(), sent);
    assert_eq!(lab.enclave.sent(), 2);
}

#[test]
fn a_receive_buffer_too_small_for_a_header_is_given_back_empty() {
    let mut lab = Lab::connected();
    lab.parent.post_buffers(1, 43);
    lab.parent.post_buffers(1, 44);
    lab.parent.post_buffers(2, 45);
    lab.send(b"ab");
    lab.settle();
    let lens: Vec<usize> = lab.parent.receive_raw().iter().map(Vec::len).collect();
    assert_eq!(lens, [0, 0, 45, 45]);
}

#[test]
fn a_truncated_header_is_counted_and_given_back() {
    let mut lab = Lab::connected();
    let memory = lab.enclave.rings.memory.memory();
    lab.enclave.transmit.post(&memory, &[(0x10_0000, 43)], false);
    lab.settle();
    assert_eq!((lab.enclave.sent(), lab.malformed()), (2, 1));
}

#[test]
fn a_length_beyond_the_chain_is_counted_and_given_back() {
    let mut lab = Lab::connected();
    lab.parent.post_buffers(4, LINUX_BUFFER);
    let mut lie = header(ENCLAVE, PARENT, Operation::Data, b"short");
    lie.payload_len = 6;
    lab.enclave.send(&lie, b"short");
    lie.payload_len = 0xffff_ffff;
    lab.enclave.send(&lie, b"short");
    lab.settle();
    assert_eq!((lab.enclave.sent(), lab.malformed()), (3, 2));
    assert_eq!(lab.parent.receive(), []);
}

#[test]
fn bytes_beyond_the_length_are_not_passed_on() {
    let mut lab = Lab::connected();
    lab.parent.post_buffers(1, LINUX_BUFFER);
    let short = header(ENCLAVE, PARENT, Operation::Data, b"abc");
    lab.enclave.send(&short, b"abcdef");
    lab.settle();
    assert_eq!(lab.parent.receive().concat_payload(), b"abc");
}

#[test]
fn a_buffer_outside_the_guests_memory_is_counted_and_given_back() {
    let mut lab = Lab::connected();
    lab.parent.post_buffers(1, LINUX_BUFFER);
    let header = header(ENCLAVE, PARENT, Operation::Data, &[0; 100]);
    let memory = lab.enclave.rings.memory.memory();
    memory.write_slice(&header.encode(), GuestAddress(0x10_0000)).unwrap();
    for outside in [(32 << 20) - 50, 32 << 20, u64::MAX - 10] {
        lab.enclave.transmit.post(&memory, &[(0x10_0000, 44), (outside, 100)], false);
    }
    drop(memory);
    lab.settle();
    assert_eq!((lab.enclave.sent(), lab.malformed()), (4, 3));
    assert_eq!(lab.parent.receive(), []);
}

#[test]
fn a_receive_buffer_outside_the_guests_memory_harms_only_its_owner() {
    let mut lab = Lab::connected();
    let memory = lab.parent.rings.memory.memory();
    lab.parent.receive.post(&memory, &[(32 << 20, LINUX_BUFFER)], true);
    drop(memory);
    lab.send(b"lost");
    lab.parent.post_buffers(1, LINUX_BUFFER);
    lab.send(b"kept");
    lab.settle();
    assert_eq!(lab.enclave.sent(), 3);
    assert_eq!(lab.parent.receive_raw().last().map(|bytes| split(bytes).1), Some(b"kept".to_vec()));
}

#[test]
fn a_chain_that_bites_its_tail_ends() {
    let mut lab = Lab::connected();
    let memory = lab.enclave.rings.memory.memory();
    lab.enclave.transmit.post(&memory, &[(0x10_0000, 1), (0x10_0001, 1)], false);
    // The second descriptor of that chain points back to the first.
    let (descriptors, ..) = lab.enclave.transmit.parts();
    let second = u64::from(lab.enclave.transmit.next_descriptor - 1);
    let at = descriptors + 16 * second;
    memory.write_obj(u16::try_from(VRING_DESC_F_NEXT).unwrap(), GuestAddress(at + 12)).unwrap();
    memory.write_obj(u16::try_from(second - 1).unwrap(), GuestAddress(at + 14)).unwrap();
    drop(memory);
    lab.settle();
    assert_eq!((lab.enclave.sent(), lab.malformed()), (2, 1));
}

#[test]
fn a_guest_that_goes_frees_its_senders_and_may_come_again() {
    let mut lab = Lab::connected();
    lab.send(&pattern(10_000));
    lab.parent.post_buffers(1, LINUX_BUFFER);
    lab.settle();
    assert_eq!(lab.enclave.sent(), 1, "half delivered");
    lab.engine.guest_down(PARENT);
    lab.enclave.post_buffers(4, LINUX_BUFFER);
    lab.settle();
    assert_eq!(lab.enclave.sent(), 2);
    let answers = lab.enclave.receive();
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].0.operation, Operation::Reset);

    lab.parent = Guest::new(PARENT);
    lab.engine.guest_up(PARENT, &lab.parent.rings);
    lab.parent.post_buffers(2, LINUX_BUFFER);
    lab.enclave.send(&header(ENCLAVE, PARENT, Operation::Request, b""), b"");
    lab.send(b"again");
    lab.settle();
    assert_eq!(lab.parent.receive().concat_payload(), b"again");
}

#[test]
fn a_ring_that_is_stopped_is_not_touched() {
    let mut lab = Lab::connected();
    lab.parent.post_buffers(4, LINUX_BUFFER);
    lab.parent.rings.receive.set_queue_ready(false);
    lab.send(b"too late");
    lab.settle();
    assert_eq!(lab.parent.receive(), []);
}

#[test]
fn a_ring_that_is_disabled_keeps_its_senders_waiting() {
    let mut lab = Lab::connected();
    lab.parent.post_buffers(4, LINUX_BUFFER);
    lab.parent.rings.receive.set_enabled(false);
    lab.send(b"not yet");
    lab.settle();
    assert_eq!(lab.parent.receive(), []);
    lab.parent.rings.receive.set_enabled(true);
    lab.settle();
    assert_eq!(lab.parent.receive().concat_payload(), b"not yet");
}

#[test]
fn a_packet_that_the_router_lets_wait_is_taken_later() {
    let mut lab = Lab::connected();
    let request = header(ENCLAVE, Cid(99), Operation::Request, b"");
    let mut posted = 1;
    while lab.enclave.sent() == posted {
        assert!(posted < 20_000, "no bound");
        for _ in 0..200 {
            lab.enclave.send(&request, b"");
        }
        posted += 200;
        lab.settle();
    }
    assert_eq!(lab.enclave.sent(), 1 + 16 * 1024, "no more than resets may wait");
    lab.enclave.post_buffers(250, 64);
    lab.settle();
    assert_eq!(lab.enclave.sent(), posted);
    assert_eq!(lab.enclave.receive().len(), 250);
}

#[test]
fn two_senders_share_a_receivers_buffers() {
    let mut lab = Lab::connected();
    let mut other = Guest::new(OTHER);
    lab.engine.guest_up(OTHER, &other.rings);
    lab.parent.post_buffers(1, LINUX_BUFFER);
    other.send(&header(OTHER, PARENT, Operation::Request, b""), b"");
    lab.settle();
    lab.parent.receive();
    for _ in 0..60 {
        lab.send(b"x");
        let header = header(OTHER, PARENT, Operation::Data, b"x");
        other.send(&header, b"x");
    }
    for _ in 0..40 {
        lab.parent.post_buffers(1, LINUX_BUFFER);
        lab.settle();
    }
    let from_other = lab.parent.receive().iter().filter(|(header, _)| header.source.cid == OTHER).count();
    assert!((15..=25).contains(&from_other), "{from_other} of 40");
    assert_eq!(other.cid, OTHER);
}

#[test]
fn a_reset_in_the_middle_of_a_packet_drops_the_rest_of_it() {
    let mut lab = Lab::connected();
    lab.send(&pattern(10_000));
    lab.parent.post_buffers(1, LINUX_BUFFER);
    lab.settle();
    lab.engine.apply(&Request::Reset { filter: Filter::default() }, lab.now);
    lab.parent.post_buffers(4, LINUX_BUFFER);
    lab.settle();
    let operations: Vec<_> = lab.parent.receive().iter().map(|(header, _)| header.operation).collect();
    assert_eq!(operations, [Operation::Data, Operation::Reset]);
    assert_eq!(lab.enclave.sent(), 2);
}

#[test]
fn a_shaped_stream_arrives_whole() {
    let mut lab = Lab::connected();
    let inject = |fault| Request::Inject { fault, filter: Filter::default(), lasts: None };
    lab.engine.apply(&inject(Fault::Dribble), lab.now);
    let sent = pattern(300);
    lab.send(&sent[..200]);
    lab.send(&sent[200..]);
    let mut received = Vec::new();
    for _ in 0..300 {
        lab.parent.post_buffers(1, LINUX_BUFFER);
        lab.settle();
        received.extend(lab.parent.receive());
    }
    assert!(received.iter().all(|(header, payload)| header.payload_len == 1 && payload.len() == 1));
    assert_eq!(received.concat_payload(), sent);
}

#[test]
fn a_stall_of_one_stream_does_not_stop_its_guest() {
    let mut lab = Lab::connected();
    let filter = Filter { port: Some(Port(820)), ..Filter::default() };
    let lasts = Some(Duration::from_secs(1));
    lab.engine.apply(&Request::Inject { fault: Fault::Stall, filter, lasts }, lab.now);
    lab.parent.post_buffers(4, LINUX_BUFFER);
    lab.send(b"stalled");
    let mut request = header(ENCLAVE, PARENT, Operation::Request, b"");
    request.destination.port = Port(821);
    lab.enclave.send(&request, b"");
    lab.settle();
    assert_eq!(lab.parent.receive().len(), 1);
    assert_eq!(lab.engine.next_deadline(lab.now), Some(lab.now + Duration::from_secs(1)));
    lab.now += Duration::from_secs(1);
    lab.settle();
    assert_eq!(lab.parent.receive().concat_payload(), b"stalled");
}

trait ConcatPayload {
    fn concat_payload(&self) -> Vec<u8>;
}

impl ConcatPayload for Vec<(Header, Vec<u8>)> {
    fn concat_payload(&self) -> Vec<u8> {
        self.iter().flat_map(|(_, payload)| payload.clone()).collect()
    }
}
