use std::num::NonZeroU64;
use std::time::Duration;

use tunnel::port::Port;

use super::super::fault::Fault;
use super::super::packet::{Address, Credit};
use super::*;

const PARENT: Cid = Cid(3);
const ENCLAVE: Cid = Cid(16);
const OTHER: Cid = Cid(17);

fn address(cid: Cid, port: u32) -> Address {
    Address { cid, port: Port(port) }
}

fn packet(source: Address, destination: Address, operation: Operation, payload_len: usize) -> Header {
    Header {
        source,
        destination,
        payload_len,
        socket_type: Header::STREAM,
        operation,
        flags: 0,
        credit: Credit { buf_alloc: 262_144, fwd_cnt: 0 },
    }
}

/// Two guests up, one down.
fn router() -> Router {
    let mut router = Router::new([PARENT, ENCLAVE, OTHER]);
    router.guest_up(PARENT);
    router.guest_up(ENCLAVE);
    router
}

struct Stream {
    dialer: Address,
    listener: Address,
}

impl Stream {
    fn open(router: &mut Router, port: u32, now: Instant) -> Self {
        let stream = Self { dialer: address(ENCLAVE, 1000 + port), listener: address(PARENT, port) };
        let request = packet(stream.dialer, stream.listener, Operation::Request, 0);
        assert!(matches!(router.judge(ENCLAVE, &request, now), Verdict::Forward { .. }));
        let response = packet(stream.listener, stream.dialer, Operation::Response, 0);
        assert!(matches!(router.judge(PARENT, &response, now), Verdict::Forward { .. }));
        stream
    }

    fn send(&self, router: &mut Router, payload: &[u8], now: Instant) -> Verdict {
        let header = packet(self.dialer, self.listener, Operation::Data, payload.len());
        let verdict = router.judge(ENCLAVE, &header, now);
        if verdict == Verdict::Hold {
            router.hold(header, payload.to_vec());
        }
        verdict
    }
}

/// All the packets that the router has for a guest at `now`.
fn packets(router: &mut Router, to: Cid, now: Instant) -> Vec<Packet> {
    let mut packets = Vec::new();
    while router.has_packet(to, now) {
        packets.extend(router.next_packet(to, 4096, now));
    }
    packets
}

fn payload(packets: &[Packet]) -> Vec<u8> {
    packets.iter().flat_map(|packet| packet.payload.clone()).collect()
}

fn inject(router: &mut Router, fault: Fault, filter: Filter, lasts: Option<Duration>, now: Instant) -> u32 {
    let response = router.apply(&Request::Inject { fault, filter, lasts }, now);
    let Response::Done { fault: Some(id), .. } = response else {
        panic!("{response:?}");
    };
    id
}

fn state(router: &mut Router, now: Instant) -> State {
    let Response::State(state) = router.apply(&Request::List, now) else {
        panic!("no state");
    };
    state
}

fn port(port: u32) -> Filter {
    Filter { port: Some(Port(port)), ..Filter::default() }
}

#[test]
fn a_packet_to_an_unknown_cid_is_answered_with_a_reset() {
    let (mut router, now) = (router(), Instant::now());
    let request = packet(address(ENCLAVE, 1000), address(Cid(99), 820), Operation::Request, 0);
    assert_eq!(router.judge(ENCLAVE, &request, now), Verdict::Discard);
    let answers = packets(&mut router, ENCLAVE, now);
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].header, Header::reset(request.destination, request.source, Header::STREAM));
}

#[test]
fn a_packet_to_a_guest_that_is_down_is_answered_with_a_reset() {
    let (mut router, now) = (router(), Instant::now());
    let request = packet(address(ENCLAVE, 1000), address(OTHER, 820), Operation::Request, 0);
    assert_eq!(router.judge(ENCLAVE, &request, now), Verdict::Discard);
    assert_eq!(packets(&mut router, ENCLAVE, now).len(), 1);
}

#[test]
fn a_packet_to_oneself_is_answered_with_a_reset() {
    let (mut router, now) = (router(), Instant::now());
    let request = packet(address(ENCLAVE, 1000), address(ENCLAVE, 820), Operation::Request, 0);
    assert_eq!(router.judge(ENCLAVE, &request, now), Verdict::Discard);
    assert_eq!(packets(&mut router, ENCLAVE, now).len(), 1);
}

#[test]
fn a_reset_is_never_answered() {
    let (mut router, now) = (router(), Instant::now());
    for to in [PARENT, OTHER, Cid(99)] {
        let reset = Header::reset(address(ENCLAVE, 1000), address(to, 820), Header::STREAM);
        router.judge(ENCLAVE, &reset, now);
    }
    assert_eq!(packets(&mut router, ENCLAVE, now), []);
}

#[test]
fn a_packet_under_another_guests_number_goes_nowhere_and_is_counted() {
    let (mut router, now) = (router(), Instant::now());
    router.guest_up(OTHER);
    let request = packet(address(OTHER, 1000), address(PARENT, 820), Operation::Request, 0);
    assert_eq!(router.judge(ENCLAVE, &request, now), Verdict::Discard);
    for cid in [PARENT, ENCLAVE, OTHER] {
        assert_eq!(packets(&mut router, cid, now), []);
    }
    assert_eq!(state(&mut router, now).guests[1].spoofed, 1);
}

#[test]
fn anything_but_a_stream_is_answered_with_a_reset_of_its_type() {
    let (mut router, now) = (router(), Instant::now());
    let mut request = packet(address(ENCLAVE, 1000), address(PARENT, 820), Operation::Request, 0);
    request.socket_type = 2;
    assert_eq!(router.judge(ENCLAVE, &request, now), Verdict::Discard);
    assert_eq!(packets(&mut router, ENCLAVE, now)[0].header.socket_type, 2);
}

#[test]
fn data_without_a_connection_goes_to_its_receiver_who_answers_for_itself() {
    let (mut router, now) = (router(), Instant::now());
    let data = packet(address(ENCLAVE, 1000), address(PARENT, 820), Operation::Data, 5);
    assert_eq!(router.judge(ENCLAVE, &data, now), Verdict::Forward { number: None });
    assert!(!router.has_packet(ENCLAVE, now));
}

#[test]
fn a_guest_that_takes_no_resets_has_nothing_more_taken_from_it() {
    let (mut router, now) = (router(), Instant::now());
    let request = packet(address(ENCLAVE, 1000), address(Cid(99), 820), Operation::Request, 0);
    let taken = (0..100_000).take_while(|_| router.judge(ENCLAVE, &request, now) == Verdict::Discard).count();
    assert_eq!(taken, Router::RESETS_LIMIT);
    assert!(router.next_packet(ENCLAVE, 4096, now).is_some());
    assert_eq!(router.judge(ENCLAVE, &request, now), Verdict::Discard);
}

#[test]
fn the_connection_table_has_a_bound() {
    let (mut router, now) = (router(), Instant::now());
    let accepted = (0..100_000)
        .take_while(|&port| {
            let request = packet(address(ENCLAVE, port), address(PARENT, 820), Operation::Request, 0);
            matches!(router.judge(ENCLAVE, &request, now), Verdict::Forward { .. })
        })
        .count();
    assert_eq!(accepted, 16 * 1024);
    assert_eq!(packets(&mut router, ENCLAVE, now).len(), 1);
}

#[test]
fn a_guest_that_goes_resets_its_peers_and_only_them() {
    let (mut router, now) = (router(), Instant::now());
    router.guest_up(OTHER);
    let stream = Stream::open(&mut router, 820, now);
    router.guest_down(PARENT);
    let resets = packets(&mut router, ENCLAVE, now);
    assert_eq!(resets.len(), 1);
    assert_eq!(resets[0].header, Header::reset(stream.listener, stream.dialer, Header::STREAM));
    assert_eq!(packets(&mut router, OTHER, now), []);
    router.guest_up(PARENT);
    assert_eq!(packets(&mut router, PARENT, now), [], "the new run knows nothing of the old connection");
    assert_eq!(stream.send(&mut router, b"late", now), Verdict::Forward { number: None });
}

#[test]
fn a_reset_fault_reaches_both_ends_of_the_connections_that_match() {
    let (mut router, now) = (router(), Instant::now());
    let stream = Stream::open(&mut router, 820, now);
    Stream::open(&mut router, 821, now);
    let done = router.apply(&Request::Reset { filter: port(820) }, now);
    assert_eq!(done, Response::Done { connections: 1, fault: None });
    assert_eq!(
        packets(&mut router, PARENT, now)[0].header,
        Header::reset(stream.dialer, stream.listener, Header::STREAM),
    );
    assert_eq!(
        packets(&mut router, ENCLAVE, now)[0].header,
        Header::reset(stream.listener, stream.dialer, Header::STREAM),
    );
    assert_eq!(state(&mut router, now).connections.len(), 1);
}

#[test]
fn a_refused_port_answers_requests_with_a_reset_until_its_time_is_over() {
    let (mut router, now) = (router(), Instant::now());
    let established = Stream::open(&mut router, 820, now);
    inject(&mut router, Fault::Refuse, port(820), Some(Duration::from_secs(5)), now);
    let request = packet(address(ENCLAVE, 7), address(PARENT, 820), Operation::Request, 0);
    assert_eq!(router.judge(ENCLAVE, &request, now), Verdict::Discard);
    assert_eq!(packets(&mut router, ENCLAVE, now).len(), 1);
    assert!(matches!(established.send(&mut router, b"x", now), Verdict::Forward { .. }));
    assert_eq!(router.next_deadline(now), Some(now + Duration::from_secs(5)));
    router.tick(now + Duration::from_secs(5));
    assert!(matches!(router.judge(ENCLAVE, &request, now), Verdict::Forward { .. }));
}

#[test]
fn a_stall_holds_one_direction_and_clear_delivers_all_of_it() {
    let (mut router, now) = (router(), Instant::now());
    let stream = Stream::open(&mut router, 820, now);
    let id = inject(&mut router, Fault::Stall, Filter { source: Some(ENCLAVE), ..port(820) }, None, now);
    assert_eq!(stream.send(&mut router, b"one ", now), Verdict::Hold);
    assert_eq!(stream.send(&mut router, b"two", now), Verdict::Hold);
    let back = packet(stream.listener, stream.dialer, Operation::Data, 3);
    assert!(matches!(router.judge(PARENT, &back, now), Verdict::Forward { .. }));
    assert!(!router.has_packet(PARENT, now));
    assert_eq!(state(&mut router, now).connections[0].from_opener.held_bytes, 7);
    router.apply(&Request::Clear { fault: Some(id) }, now);
    assert_eq!(payload(&packets(&mut router, PARENT, now)), b"one two");
    assert!(matches!(stream.send(&mut router, b"three", now), Verdict::Forward { .. }));
}

#[test]
fn credit_passes_a_stall_and_is_not_taken_back_by_what_comes_after() {
    let (mut router, now) = (router(), Instant::now());
    let stream = Stream::open(&mut router, 820, now);
    inject(&mut router, Fault::Stall, Filter::default(), Some(Duration::from_secs(1)), now);
    assert_eq!(stream.send(&mut router, b"held", now), Verdict::Hold);
    let mut update = packet(stream.dialer, stream.listener, Operation::CreditUpdate, 0);
    update.credit.fwd_cnt = 100;
    assert!(matches!(router.judge(ENCLAVE, &update, now), Verdict::Forward { .. }));
    let later = now + Duration::from_secs(1);
    router.tick(later);
    let released = packets(&mut router, PARENT, later);
    assert_eq!(released[0].header.credit.fwd_cnt, 100);
}

#[test]
fn the_end_of_a_stream_stays_behind_its_held_bytes() {
    let (mut router, now) = (router(), Instant::now());
    let stream = Stream::open(&mut router, 820, now);
    inject(&mut router, Fault::Stall, Filter::default(), Some(Duration::from_secs(1)), now);
    stream.send(&mut router, b"held", now);
    let reset = Header::reset(stream.dialer, stream.listener, Header::STREAM);
    assert_eq!(router.judge(ENCLAVE, &reset, now), Verdict::Hold);
    router.hold(reset, Vec::new());
    let later = now + Duration::from_secs(1);
    router.tick(later);
    let operations: Vec<_> = packets(&mut router, PARENT, later).iter().map(|packet| packet.header.operation).collect();
    assert_eq!(operations, [Operation::Data, Operation::Reset]);
    assert_eq!(state(&mut router, later).connections, []);
    assert_eq!(router.next_deadline(later), None);
}

#[test]
fn a_stalled_sender_is_made_to_wait_before_memory_runs_out() {
    let (mut router, now) = (router(), Instant::now());
    let stream = Stream::open(&mut router, 820, now);
    inject(&mut router, Fault::Stall, Filter::default(), None, now);
    let held = (0..1000).take_while(|_| stream.send(&mut router, &[0; 65_536], now) == Verdict::Hold).count();
    assert!((65..=128).contains(&held), "{held}");
    assert_eq!(stream.send(&mut router, b"x", now), Verdict::Wait);
}

#[test]
fn a_cut_delivers_its_bytes_and_resets_both_ends_once() {
    let (mut router, now) = (router(), Instant::now());
    let stream = Stream::open(&mut router, 820, now);
    inject(&mut router, Fault::Cut { after_bytes: 6 }, Filter { source: Some(ENCLAVE), ..port(820) }, None, now);
    stream.send(&mut router, b"abcd", now);
    stream.send(&mut router, b"efgh", now);
    let received = packets(&mut router, PARENT, now);
    assert_eq!(payload(&received), b"abcdef");
    assert_eq!(received.last().unwrap().header.operation, Operation::Reset);
    let answers = packets(&mut router, ENCLAVE, now);
    assert_eq!(answers[0].header.operation, Operation::Reset);
    assert_eq!(state(&mut router, now).faults, []);
    assert_eq!(state(&mut router, now).connections, []);
    let again = Stream::open(&mut router, 820, now);
    assert!(matches!(again.send(&mut router, b"abcdefgh", now), Verdict::Forward { .. }));
}

#[test]
fn a_flip_strikes_one_of_the_streams_that_match_and_then_never_again() {
    let (mut router, now) = (router(), Instant::now());
    let first = Stream::open(&mut router, 820, now);
    let second = Stream::open(&mut router, 821, now);
    inject(
        &mut router,
        Fault::Flip { after_bytes: 1 },
        Filter { source: Some(ENCLAVE), ..Filter::default() },
        None,
        now,
    );
    first.send(&mut router, b"aaa", now);
    assert_eq!(payload(&packets(&mut router, PARENT, now)), b"a`a");
    assert!(matches!(first.send(&mut router, b"aaa", now), Verdict::Forward { .. }));
    assert!(matches!(second.send(&mut router, b"aaa", now), Verdict::Forward { .. }));
    assert_eq!(state(&mut router, now).faults, []);
}

#[test]
fn a_fault_meets_connections_that_are_opened_later() {
    let (mut router, now) = (router(), Instant::now());
    inject(&mut router, Fault::Dribble, Filter { source: Some(PARENT), ..port(820) }, None, now);
    let stream = Stream { dialer: address(ENCLAVE, 1), listener: address(PARENT, 820) };
    let request = packet(stream.dialer, stream.listener, Operation::Request, 0);
    assert!(matches!(router.judge(ENCLAVE, &request, now), Verdict::Forward { .. }));
    let data = packet(stream.listener, stream.dialer, Operation::Data, 3);
    assert_eq!(router.judge(PARENT, &data, now), Verdict::Hold);
    router.hold(data, b"abc".to_vec());
    let lens: Vec<_> = packets(&mut router, ENCLAVE, now).iter().map(|packet| packet.header.payload_len).collect();
    assert_eq!(lens, [1, 1, 1]);
}

#[test]
fn the_slower_of_two_rates_counts() {
    let (mut router, now) = (router(), Instant::now());
    let stream = Stream::open(&mut router, 820, now);
    for bytes_per_second in [100, 1000].map(|rate| NonZeroU64::new(rate).unwrap()) {
        inject(&mut router, Fault::Slow { bytes_per_second }, Filter::default(), None, now);
    }
    stream.send(&mut router, &[7; 100], now);
    let mut time = now;
    let mut received = 0;
    while let Some(at) = router.next_deadline(time) {
        time = at;
        received += payload(&packets(&mut router, PARENT, time)).len();
    }
    assert_eq!(received, 100);
    assert!((time - now).as_millis().abs_diff(1000) <= 1, "{:?}", time - now);
}

#[test]
fn held_streams_take_turns() {
    let (mut router, now) = (router(), Instant::now());
    inject(&mut router, Fault::Dribble, Filter { source: Some(ENCLAVE), ..Filter::default() }, None, now);
    for port in [820, 821] {
        let request = packet(address(ENCLAVE, port), address(PARENT, port), Operation::Request, 0);
        assert_eq!(router.judge(ENCLAVE, &request, now), Verdict::Hold);
        router.hold(request, Vec::new());
        let data = packet(address(ENCLAVE, port), address(PARENT, port), Operation::Data, 2);
        assert_eq!(router.judge(ENCLAVE, &data, now), Verdict::Hold);
        router.hold(data, vec![0; 2]);
    }
    let ports: Vec<u32> = packets(&mut router, PARENT, now).iter().map(|packet| packet.header.source.port.0).collect();
    assert_eq!(ports, [820, 821, 820, 821, 820, 821]);
}

#[test]
fn clearing_a_fault_that_does_not_exist_says_so() {
    let (mut router, now) = (router(), Instant::now());
    let answer = router.apply(&Request::Clear { fault: Some(5) }, now);
    assert_eq!(answer, Response::Refused { reason: "no fault 5 is active".to_owned() });
}
