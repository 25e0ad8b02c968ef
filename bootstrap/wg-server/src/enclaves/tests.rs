use super::*;
use crate::config::Range;

const OWN: PublicKey = PublicKey([0xee; 32]);
const KEY: PublicKey = PublicKey([1; 32]);
const OTHER: PublicKey = PublicKey([2; 32]);
const FIRST: Cid = Cid(16);
const SECOND: Cid = Cid(17);
const ENDPOINT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 40_000);

fn enclaves_with(last: &str) -> Enclaves {
    let gateways = ["203.0.113.1/24".parse().unwrap(), "fd3b::1/64".parse().unwrap()];
    let ipv4 = Range::parse(&format!("203.0.113.2-203.0.113.{last}"), &gateways).unwrap();
    let ipv6 = Range::parse("fd3b::2-fd3b::ff", &gateways).unwrap();
    let ranges = Ranges::new(Some(ipv4), Some(ipv6)).unwrap();
    Enclaves::new(OWN, ranges, Leases::new(ranges.len()))
}

fn enclaves() -> Enclaves {
    enclaves_with("254")
}

fn open(enclaves: &mut Enclaves, cid: Cid, role: Role) -> Admission {
    enclaves.opened(cid, role, SystemTime::UNIX_EPOCH).unwrap()
}

fn peer(enclaves: &mut Enclaves, cid: Cid, key: PublicKey) -> (StreamId, Vec<PeerChange>) {
    let stream = open(enclaves, cid, Role::Control).stream;
    (stream, enclaves.answered(cid, stream, key, ENDPOINT).unwrap())
}

fn set(key: PublicKey, last: u16) -> PeerChange {
    let addresses = vec![format!("203.0.113.{last}").parse().unwrap(), format!("fd3b::{last:x}").parse().unwrap()];
    PeerChange::Set { public_key: key, addresses, endpoint: ENDPOINT }
}

#[test]
fn two_enclaves_are_peers_with_an_address_of_each_version_of_their_own() {
    let mut enclaves = enclaves();
    assert_eq!(peer(&mut enclaves, FIRST, KEY).1, [set(KEY, 2)]);
    assert_eq!(peer(&mut enclaves, SECOND, OTHER).1, [set(OTHER, 3)]);
}

#[test]
fn a_rebooted_enclave_replaces_its_former_key() {
    let mut enclaves = enclaves();
    peer(&mut enclaves, FIRST, KEY);
    assert_eq!(peer(&mut enclaves, FIRST, OTHER).1, [PeerChange::Remove(KEY), set(OTHER, 2)]);
}

#[test]
fn a_newer_stream_replaces_the_older_of_its_role_only() {
    let mut enclaves = enclaves();
    let control = open(&mut enclaves, FIRST, Role::Control);
    let data = open(&mut enclaves, FIRST, Role::Data);
    assert_eq!(data.replaces, None);
    assert_eq!(open(&mut enclaves, FIRST, Role::Data).replaces, Some(data.stream));
    assert_eq!(open(&mut enclaves, FIRST, Role::Control).replaces, Some(control.stream));
    assert_eq!(open(&mut enclaves, SECOND, Role::Data).replaces, None);
}

#[test]
fn an_answer_on_a_replaced_stream_changes_nothing() {
    let mut enclaves = enclaves();
    let old = open(&mut enclaves, FIRST, Role::Control).stream;
    peer(&mut enclaves, FIRST, KEY);
    assert_eq!(enclaves.answered(FIRST, old, OTHER, ENDPOINT), Err(Refusal::Replaced));
}

#[test]
fn the_end_of_a_replaced_stream_does_not_end_its_successor() {
    let mut enclaves = enclaves();
    let old = open(&mut enclaves, FIRST, Role::Control).stream;
    peer(&mut enclaves, FIRST, KEY);
    let now = Instant::now();
    enclaves.closed(FIRST, Role::Control, old, now);
    assert_eq!(enclaves.expired(now + GRACE * 2), []);
}

#[test]
fn a_peer_outlives_its_control_stream_by_the_grace_period() {
    let mut enclaves = enclaves();
    let (stream, _) = peer(&mut enclaves, FIRST, KEY);
    let now = Instant::now();
    enclaves.closed(FIRST, Role::Control, stream, now);
    assert_eq!(enclaves.entries().next().unwrap().1.phase(), Phase::Away);
    assert_eq!(enclaves.expired(now + GRACE - Duration::from_millis(1)), []);
    assert_eq!(enclaves.expired(now + GRACE), [PeerChange::Remove(KEY)]);
    assert!(!enclaves.contains(FIRST));
}

#[test]
fn a_reconnect_within_the_grace_period_keeps_the_peer() {
    let mut enclaves = enclaves();
    let (stream, _) = peer(&mut enclaves, FIRST, KEY);
    let now = Instant::now();
    enclaves.closed(FIRST, Role::Control, stream, now);
    assert_eq!(peer(&mut enclaves, FIRST, KEY).1, [set(KEY, 2)]);
    assert_eq!(enclaves.expired(now + GRACE * 2), []);
}

#[test]
fn keys_that_would_harm_others_are_refused() {
    let mut enclaves = enclaves();
    peer(&mut enclaves, FIRST, KEY);
    let stream = open(&mut enclaves, SECOND, Role::Control).stream;
    assert_eq!(enclaves.answered(SECOND, stream, KEY, ENDPOINT), Err(Refusal::KeyTaken));
    assert_eq!(enclaves.answered(SECOND, stream, OWN, ENDPOINT), Err(Refusal::OwnKey));
    assert_eq!(enclaves.answered(SECOND, stream, PublicKey([0; 32]), ENDPOINT), Err(Refusal::ZeroKey));
}

#[test]
fn a_process_on_the_parent_is_no_enclave() {
    let mut enclaves = enclaves();
    for cid in [0, 1, 2, 3, u32::MAX] {
        let refusal = enclaves.opened(Cid(cid), Role::Control, SystemTime::UNIX_EPOCH);
        assert_eq!(refusal, Err(Refusal::NotAnEnclave(Cid(cid))));
    }
}

#[test]
fn the_number_of_enclaves_is_bounded_and_those_who_left_make_room() {
    let mut enclaves = enclaves();
    for cid in 100..100 + u32::try_from(MAX_ENCLAVES).unwrap() {
        open(&mut enclaves, Cid(cid), Role::Data);
    }
    assert_eq!(enclaves.opened(FIRST, Role::Data, SystemTime::UNIX_EPOCH), Err(Refusal::Full));
    let stream = enclaves.entries().next().unwrap().1.data.unwrap();
    enclaves.closed(Cid(100), Role::Data, stream, Instant::now());
    open(&mut enclaves, FIRST, Role::Data);
}

#[test]
fn a_range_without_a_free_address_refuses_the_next_enclave() {
    let mut enclaves = enclaves_with("2");
    open(&mut enclaves, FIRST, Role::Data);
    assert_eq!(enclaves.opened(SECOND, Role::Data, SystemTime::UNIX_EPOCH), Err(Refusal::NoAddress));
}

#[test]
fn a_restart_adopts_the_peers_that_have_a_lease_and_no_others() {
    let mut before = enclaves();
    peer(&mut before, FIRST, KEY);
    let mut enclaves = Enclaves::new(OWN, before.ranges, before.leases.clone());
    let now = Instant::now();
    let nets = |texts: [&str; 2]| texts.map(|text| text.parse::<IpNet>().unwrap());
    assert_eq!(enclaves.adopt(OTHER, &nets(["203.0.113.9/32", "fd3b::9/128"]), now), None, "no lease");
    assert_eq!(enclaves.adopt(OTHER, &nets(["203.0.113.0/24", "fd3b::2/128"]), now), None, "too much allowed");
    assert_eq!(enclaves.adopt(KEY, &nets(["fd3b::2/128", "203.0.113.2/32"]), now), Some(FIRST));
    assert_eq!(enclaves.expired(now + GRACE), [], "an adopted peer has more time");
    assert_eq!(enclaves.expired(now + ADOPTED_GRACE), [PeerChange::Remove(KEY)]);
}
