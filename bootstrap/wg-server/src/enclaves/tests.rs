use attestation::Claims;
use binding::tunnel::Binding;
use proptest::prelude::*;

use super::*;
use crate::config::Range;

const OWN: PublicKey = PublicKey([0xee; 32]);
const KEY: PublicKey = PublicKey([1; 32]);
const OTHER: PublicKey = PublicKey([2; 32]);
const FIRST: EnclaveId = EnclaveId::here(Cid(16));
const SECOND: EnclaveId = EnclaveId::here(Cid(17));
const LIFETIME: Duration = Duration::from_hours(1);

fn enclaves_with(last: &str) -> Enclaves {
    let gateways = ["203.0.113.1/24".parse().unwrap(), "fd3b::1/64".parse().unwrap()];
    let ipv4 = Range::parse(&format!("203.0.113.2-203.0.113.{last}"), &gateways).unwrap();
    let ipv6 = Range::parse("fd3b::2-fd3b::ff", &gateways).unwrap();
    let ranges = Ranges::new(Some(ipv4), Some(ipv6)).unwrap();
    Enclaves::new(OWN, ranges, Leases::new(ranges.len()), LIFETIME)
}

fn enclaves() -> Enclaves {
    enclaves_with("254")
}

fn open(enclaves: &mut Enclaves, id: EnclaveId, role: Role) -> OpenStream {
    enclaves.opened(id, role, SystemTime::UNIX_EPOCH).unwrap().0
}

fn attested(key: PublicKey) -> Arc<Attested> {
    let binding =
        Binding { public_key: key, kem_key: [0; 32], tls_key: None, config: [0; 32], gateway: OWN, cid: FIRST.cid };
    let claims = Claims {
        module_id: "module".to_owned(),
        timestamp: SystemTime::UNIX_EPOCH,
        pcrs: BTreeMap::new(),
        public_key: None,
        user_data: None,
        nonce: None,
        not_before: SystemTime::UNIX_EPOCH,
        not_after: SystemTime::UNIX_EPOCH,
    };
    Arc::new(Attested { claims, binding, document: vec![], at: SystemTime::UNIX_EPOCH })
}

/// A control stream with a verified answer on it.
fn candidate(enclaves: &mut Enclaves, id: EnclaveId, key: PublicKey) -> OpenStream {
    let stream = open(enclaves, id, Role::Control);
    enclaves.answered(id, &stream, attested(key), Instant::now()).unwrap();
    stream
}

/// The same, with the first handshake.
fn peer(enclaves: &mut Enclaves, id: EnclaveId, key: PublicKey) -> (OpenStream, Vec<PeerChange>) {
    let stream = candidate(enclaves, id, key);
    (stream, enclaves.confirmed(id, key))
}

/// The keys that the kernel has to forget.
fn expired(enclaves: &mut Enclaves, now: Instant) -> Vec<PublicKey> {
    enclaves.expired(now).into_iter().map(|expired| expired.public_key).collect()
}

fn own(key: PublicKey, last: u16) -> PeerChange {
    let addresses = vec![format!("203.0.113.{last}").parse().unwrap(), format!("fd3b::{last:x}").parse().unwrap()];
    PeerChange::Own { public_key: key, addresses }
}

#[test]
fn two_enclaves_are_peers_with_an_address_of_each_version_of_their_own() {
    let mut enclaves = enclaves();
    assert_eq!(peer(&mut enclaves, FIRST, KEY).1, [own(KEY, 2)]);
    assert_eq!(peer(&mut enclaves, SECOND, OTHER).1, [own(OTHER, 3)]);
}

#[test]
fn a_new_key_gets_the_addresses_before_the_former_one_goes() {
    let mut enclaves = enclaves();
    peer(&mut enclaves, FIRST, KEY);
    assert_eq!(peer(&mut enclaves, FIRST, OTHER).1, [own(OTHER, 2), PeerChange::Remove(KEY)]);
}

#[test]
fn an_answer_on_a_replaced_stream_changes_nothing() {
    let mut enclaves = enclaves();
    let old = open(&mut enclaves, FIRST, Role::Control);
    peer(&mut enclaves, FIRST, KEY);
    assert_eq!(enclaves.answered(FIRST, &old, attested(OTHER), Instant::now()), Err(Refusal::Replaced));
}

#[test]
fn the_end_of_a_replaced_stream_does_not_end_its_successor() {
    let mut enclaves = enclaves();
    let old = open(&mut enclaves, FIRST, Role::Control);
    peer(&mut enclaves, FIRST, KEY);
    let now = Instant::now();
    enclaves.closed(FIRST, &old, now);
    assert_eq!(expired(&mut enclaves, now + GRACE * 2), []);
}

#[test]
fn a_peer_outlives_its_control_stream_by_the_grace_period() {
    let mut enclaves = enclaves();
    let (stream, _) = peer(&mut enclaves, FIRST, KEY);
    let now = Instant::now();
    enclaves.closed(FIRST, &stream, now);
    assert_eq!(enclaves.entries().next().unwrap().1.phase(), Phase::Away);
    assert_eq!(expired(&mut enclaves, now + GRACE - Duration::from_millis(1)), []);
    assert_eq!(expired(&mut enclaves, now + GRACE), [KEY]);
    assert!(!enclaves.contains(FIRST));
}

#[test]
fn a_reconnect_within_the_grace_period_keeps_the_peer() {
    let mut enclaves = enclaves();
    let (stream, _) = peer(&mut enclaves, FIRST, KEY);
    let now = Instant::now();
    enclaves.closed(FIRST, &stream, now);
    peer(&mut enclaves, FIRST, OTHER);
    assert_eq!(expired(&mut enclaves, now + GRACE * 2), []);
    assert_eq!(enclaves.entries().next().unwrap().1.phase(), Phase::Peer);
}

#[test]
fn a_reconnect_without_a_handshake_moves_no_deadline() {
    let mut enclaves = enclaves();
    let (stream, _) = peer(&mut enclaves, FIRST, KEY);
    let now = Instant::now();
    enclaves.closed(FIRST, &stream, now);
    let stream = candidate(&mut enclaves, FIRST, OTHER);
    let later = now + GRACE / 2;
    assert_eq!(enclaves.closed(FIRST, &stream, later), Some(PeerChange::Remove(OTHER)));
    let stream = open(&mut enclaves, FIRST, Role::Control);
    enclaves.refused(FIRST, &stream, later);
    assert_eq!(expired(&mut enclaves, now + GRACE - Duration::from_millis(1)), []);
    assert_eq!(expired(&mut enclaves, now + GRACE), [KEY]);
}

#[test]
fn a_peer_that_never_proves_itself_again_ends_with_its_proof() {
    let mut enclaves = enclaves();
    peer(&mut enclaves, FIRST, KEY);
    let end = Instant::now() + LIFETIME + PROOF_GRACE;
    assert_eq!(expired(&mut enclaves, end - Duration::from_secs(1)), []);
    let [gone] = enclaves.expired(end)[..] else { panic!("one") };
    assert_eq!((gone.id, gone.public_key, gone.reason), (FIRST, KEY, "no new proof before the old one expired"));
    // Its stream is open still: it may prove itself.
    assert_eq!(enclaves.entries().next().unwrap().1.phase(), Phase::Connecting);
    let stream = enclaves.entries().next().unwrap().1.streams.control().unwrap().clone();
    enclaves.answered(FIRST, &stream, attested(OTHER), end).unwrap();
    assert_eq!(enclaves.confirmed(FIRST, OTHER), [own(OTHER, 2)]);
}

#[test]
fn a_candidate_without_a_handshake_is_forgotten_with_its_proof() {
    let mut enclaves = enclaves();
    candidate(&mut enclaves, FIRST, KEY);
    let end = Instant::now() + LIFETIME + PROOF_GRACE;
    assert_eq!(expired(&mut enclaves, end), [KEY]);
    assert_eq!(enclaves.confirmed(FIRST, KEY), [], "a handshake that is too late");
}

/// What an enclave, or a parent that carries for it, can make happen on its streams.
#[derive(Clone, Copy, Debug)]
enum Event {
    Open(Role),
    Close(Role),
    Answer,
    Refuse,
    Handshake,
    Wait(u16),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        Just(Event::Open(Role::Control)),
        Just(Event::Open(Role::Data)),
        Just(Event::Close(Role::Control)),
        Just(Event::Close(Role::Data)),
        Just(Event::Answer),
        Just(Event::Refuse),
        Just(Event::Handshake),
        (0..3600_u16).prop_map(Event::Wait),
    ];
    prop::collection::vec(event, 0..80)
}

proptest! {
    #[test]
    fn no_key_is_known_longer_than_its_proof_is_good(
        events in events(),
        adopted in proptest::option::of(0..10_000_u64),
    ) {
        let mut before = enclaves();
        peer(&mut before, FIRST, KEY);
        let mut enclaves = Enclaves::new(OWN, before.ranges, before.leases.clone(), LIFETIME);
        let good_for = LIFETIME + PROOF_GRACE;
        let mut now = Instant::now() + good_for * 3;
        // Which proof is whose, by key; that of the first may be one of an earlier wg-server's.
        let mut proved = BTreeMap::from([(KEY.0, now - Duration::from_secs(adopted.unwrap_or(0)))]);
        let nets = ["203.0.113.2/32", "fd3b::2/128"].map(|text| text.parse::<IpNet>().unwrap());
        enclaves.adopt(KEY, &nets, adopted.map(Duration::from_secs), now);
        let mut next_key = 0;
        for event in events {
            let streams = enclaves.entries().next().map(|(_, enclave)| enclave.streams.clone()).unwrap_or_default();
            match event {
                Event::Open(role) => drop(enclaves.opened(FIRST, role, SystemTime::UNIX_EPOCH)),
                Event::Close(role) => {
                    let stream = if role == Role::Control { streams.control() } else { streams.data() };
                    stream.map(|stream| enclaves.closed(FIRST, stream, now));
                }
                Event::Answer => {
                    next_key += 1;
                    let key = PublicKey([next_key | 0x80; 32]);
                    if let Some(stream) = streams.control()
                        && enclaves.answered(FIRST, stream, attested(key), now).is_ok()
                    {
                        proved.insert(key.0, now);
                    }
                }
                Event::Refuse => {
                    if let Some(stream) = streams.control() {
                        enclaves.refused(FIRST, stream, now);
                    }
                }
                Event::Handshake => {
                    let candidate = enclaves.entries().next().and_then(|(_, enclave)| enclave.candidate.clone());
                    candidate.map(|candidate| enclaves.confirmed(FIRST, candidate.public_key));
                }
                Event::Wait(seconds) => now += Duration::from_secs(seconds.into()),
            }
            enclaves.expired(now);
            for (_, enclave) in enclaves.entries() {
                for member in [&enclave.peer, &enclave.candidate].into_iter().flatten() {
                    let age = now - proved[&member.public_key.0];
                    prop_assert!(age < good_for, "{event:?}: a proof of {age:?}");
                }
            }
        }
    }
}

#[test]
fn an_answer_without_a_handshake_moves_no_address() {
    let mut enclaves = enclaves();
    candidate(&mut enclaves, FIRST, KEY);
    assert!(enclaves.entries().next().unwrap().1.peer.is_none());
    assert_eq!(enclaves.confirmed(FIRST, OTHER), [], "another key");
    assert_eq!(enclaves.confirmed(SECOND, KEY), [], "another enclave");
    assert_eq!(enclaves.confirmed(FIRST, KEY), [own(KEY, 2)]);
    assert_eq!(enclaves.confirmed(FIRST, KEY), [], "once");
}

#[test]
fn a_newer_candidate_replaces_the_older() {
    let mut enclaves = enclaves();
    let stream = candidate(&mut enclaves, FIRST, KEY);
    let changes = enclaves.answered(FIRST, &stream, attested(OTHER), Instant::now());
    assert_eq!(changes, Ok(Some(PeerChange::Remove(KEY))));
    assert_eq!(enclaves.confirmed(FIRST, KEY), []);
    assert_eq!(enclaves.confirmed(FIRST, OTHER), [own(OTHER, 2)]);
}

#[test]
fn a_refused_renewal_ends_the_peer_with_its_session_whatever_reconnects() {
    let mut enclaves = enclaves();
    let (stream, _) = peer(&mut enclaves, FIRST, KEY);
    let now = Instant::now();
    enclaves.refused(FIRST, &stream, now);
    enclaves.closed(FIRST, &stream, now);
    let stream = open(&mut enclaves, FIRST, Role::Control);
    enclaves.refused(FIRST, &stream, now + GRACE);
    enclaves.closed(FIRST, &stream, now + GRACE);
    assert_eq!(expired(&mut enclaves, now + REFUSED_GRACE - Duration::from_millis(1)), []);
    assert_eq!(expired(&mut enclaves, now + REFUSED_GRACE), [KEY]);
}

#[test]
fn a_proof_after_a_refusal_keeps_the_enclave() {
    let mut enclaves = enclaves();
    let (stream, _) = peer(&mut enclaves, FIRST, KEY);
    let now = Instant::now();
    enclaves.refused(FIRST, &stream, now);
    assert_eq!(enclaves.answered(FIRST, &stream, attested(OTHER), Instant::now()), Ok(None));
    assert_eq!(enclaves.confirmed(FIRST, OTHER), [own(OTHER, 2), PeerChange::Remove(KEY)]);
    assert_eq!(expired(&mut enclaves, now + REFUSED_GRACE), []);
}

#[test]
fn keys_that_would_harm_others_are_refused() {
    let mut enclaves = enclaves();
    peer(&mut enclaves, FIRST, KEY);
    let stream = open(&mut enclaves, SECOND, Role::Control);
    assert_eq!(enclaves.answered(SECOND, &stream, attested(KEY), Instant::now()), Err(Refusal::KeyTaken));
    assert_eq!(enclaves.answered(SECOND, &stream, attested(OWN), Instant::now()), Err(Refusal::OwnKey));
    assert_eq!(enclaves.answered(SECOND, &stream, attested(PublicKey([0; 32])), Instant::now()), Err(Refusal::ZeroKey));
}

#[test]
fn a_process_on_the_parent_is_not_an_enclave() {
    let mut enclaves = enclaves();
    for cid in [0, 1, 2, 3, u32::MAX] {
        let refusal = enclaves.opened(EnclaveId::here(Cid(cid)), Role::Control, SystemTime::UNIX_EPOCH);
        assert_eq!(refusal, Err(Refusal::NotAnEnclave(Cid(cid))));
    }
}

#[test]
fn the_number_of_enclaves_is_bounded_and_those_who_left_make_room() {
    let mut enclaves = enclaves();
    for cid in 100..100 + u32::try_from(MAX_ENCLAVES).unwrap() {
        open(&mut enclaves, EnclaveId::here(Cid(cid)), Role::Data);
    }
    assert_eq!(enclaves.opened(FIRST, Role::Data, SystemTime::UNIX_EPOCH), Err(Refusal::Full));
    let stream = enclaves.entries().next().unwrap().1.streams.data().unwrap().clone();
    enclaves.closed(EnclaveId::here(Cid(100)), &stream, Instant::now());
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
    let mut enclaves = Enclaves::new(OWN, before.ranges, before.leases.clone(), LIFETIME);
    let now = Instant::now();
    let nets = |texts: [&str; 2]| texts.map(|text| text.parse::<IpNet>().unwrap());
    assert_eq!(enclaves.adopt(OTHER, &nets(["203.0.113.9/32", "fd3b::9/128"]), None, now), None, "no lease");
    assert_eq!(enclaves.adopt(OTHER, &nets(["203.0.113.0/24", "fd3b::2/128"]), None, now), None, "too much allowed");
    let too_old = Some(LIFETIME + PROOF_GRACE);
    assert_eq!(enclaves.adopt(KEY, &nets(["fd3b::2/128", "203.0.113.2/32"]), too_old, now), None, "too old a proof");
    assert_eq!(enclaves.adopt(KEY, &nets(["fd3b::2/128", "203.0.113.2/32"]), None, now), Some(FIRST));
    assert_eq!(expired(&mut enclaves, now + GRACE), [], "an adopted peer has more time");
    assert_eq!(expired(&mut enclaves, now + ADOPTED_GRACE), [KEY]);
}

#[test]
fn the_same_cid_on_two_parents_is_two_enclaves() {
    let mut enclaves = enclaves();
    let [one, other] = ["192.0.2.2", "192.0.2.3"].map(|parent| EnclaveId::elsewhere(parent.parse().unwrap(), Cid(16)));
    assert_eq!(peer(&mut enclaves, one, KEY).1, [own(KEY, 2)]);
    let (_, addresses) = enclaves.opened(other, Role::Control, SystemTime::UNIX_EPOCH).unwrap();
    assert_ne!(addresses, enclaves.entries().next().unwrap().1.addresses);
    assert_eq!(enclaves.entries().count(), 2);
}

#[test]
fn a_parent_that_makes_enclaves_up_leaves_room_for_those_of_others() {
    let mut enclaves = enclaves();
    let parent = "192.0.2.2".parse().unwrap();
    let refused = (100..200).find(|cid| {
        let id = EnclaveId::elsewhere(parent, Cid(*cid));
        enclaves.opened(id, Role::Control, SystemTime::UNIX_EPOCH) == Err(Refusal::NoAddress)
    });
    assert_eq!(refused, Some(100 + u32::try_from(crate::lease::MAX_PER_PARENT).unwrap()));
    open(&mut enclaves, EnclaveId::elsewhere("192.0.2.3".parse().unwrap(), Cid(100)), Role::Control);
}

#[test]
fn an_adopted_peer_s_proof_does_not_get_younger() {
    let mut before = enclaves();
    peer(&mut before, FIRST, KEY);
    let nets = ["203.0.113.2/32", "fd3b::2/128"].map(|text| text.parse::<IpNet>().unwrap());
    let now = Instant::now();
    for (age, left) in [(Some(LIFETIME), PROOF_GRACE), (None, ADOPTED_GRACE)] {
        let mut enclaves = Enclaves::new(OWN, before.ranges, before.leases.clone(), LIFETIME);
        enclaves.adopt(KEY, &nets, age, now);
        // What the next wg-server is told, if this one is killed as well.
        let [(key, told)] = enclaves.proofs(now).collect::<Vec<_>>()[..] else { panic!("one peer") };
        assert_eq!((key, told), (KEY, LIFETIME + PROOF_GRACE - left));
        let [(_, later)] = enclaves.proofs(now + left).collect::<Vec<_>>()[..] else { panic!("one peer") };
        assert_eq!(later, LIFETIME + PROOF_GRACE);
        open(&mut enclaves, FIRST, Role::Control);
        assert_eq!(expired(&mut enclaves, now + left), [KEY]);
    }
}
