use std::collections::BTreeMap;
use std::time::Duration;

use attestation::test_root::{Fields, TestRoot};
use attestation::{Measurements, Pcr, Policy};
use tunnel::control::{KemKey, PublicKey};

use super::*;

const NOW: SystemTime = SystemTime::UNIX_EPOCH;
const CID: Cid = Cid(16);
const GATEWAY: PublicKey = PublicKey([0x22; 32]);
const OWN: PublicKey = PublicKey([0x33; 32]);
const KEM: KemKey = KemKey([0x44; 1184]);
const NONCE: [u8; 32] = [0x11; 32];

/// A gateway, an enclave that answers it, and an authority that both believe in.
struct Exchange {
    root: TestRoot,
    now: SystemTime,
    offer: Offer,
    fields: Fields,
    binding: Binding,
    answer: Answer,
}

impl Exchange {
    /// One in which everything is right.
    fn new() -> Self {
        let now = NOW + Duration::from_hours(24 * 365 * 56);
        let binding = Binding {
            public_key: OWN,
            kem_key: kem_key_digest(&KEM),
            tls_key: None,
            config: [0x55; 32],
            gateway: GATEWAY,
            cid: CID,
        };
        Self {
            root: TestRoot::new(now),
            now,
            offer: Offer { nonce: NONCE, public_key: GATEWAY, ipv4: None, ipv6: None },
            fields: Fields { nonce: Some(NONCE.to_vec()), ..Fields::new(now) },
            binding,
            answer: Answer { public_key: OWN, kem_key: KEM, document: Vec::new() },
        }
    }

    fn trust(&self) -> Attestation {
        let pcr = |value| Pcr([value; Pcr::LEN]);
        let mut policy = Policy::new();
        policy.allow_image("right.json", Measurements::new(pcr(0x10), pcr(0x11), pcr(0x12)));
        Attestation { policy, root: self.root.trust_root(), key_lifetime: Duration::from_hours(1) }
    }

    /// Has the document signed, and verifies it.
    fn verify(&self) -> Result<Attested> {
        let fields = Fields { user_data: Some(self.binding.encode().to_vec()), ..self.fields.clone() };
        self.verify_document(self.root.sign(&fields), &self.trust())
    }

    fn verify_document(&self, document: Vec<u8>, trust: &Attestation) -> Result<Attested> {
        verify(Answer { document, ..self.answer.clone() }, &self.offer, CID, trust, self.now)
    }

    fn refusal(&self) -> String {
        format!("{:#}", self.verify().expect_err("a refusal"))
    }
}

#[test]
fn a_document_over_the_right_keys_for_this_gateway_and_cid_makes_a_peer() {
    let exchange = Exchange::new();
    let attested = exchange.verify().unwrap();
    assert_eq!(attested.binding, exchange.binding);
    assert_eq!(attested.claims.pcrs[&1], Pcr([0x11; Pcr::LEN]));
    assert_eq!(attested.at, exchange.now);
}

#[test]
fn what_the_document_binds_must_be_what_was_offered_and_answered() {
    let mut other = Exchange::new();
    other.binding.gateway = PublicKey([1; 32]);
    assert!(other.refusal().starts_with("the attestation document is for the gateway AQEB"), "{}", other.refusal());

    let mut other = Exchange::new();
    other.binding.cid = Cid(17);
    assert_eq!(other.refusal(), "the attestation document is for CID 17, but this is CID 16");

    let mut other = Exchange::new();
    other.binding.public_key = PublicKey([1; 32]);
    assert!(other.refusal().contains("is for the WireGuard key AQEB"), "{}", other.refusal());

    let mut other = Exchange::new();
    other.answer.public_key = PublicKey([1; 32]);
    assert!(other.refusal().contains("but the answer has AQEB"), "{}", other.refusal());

    let mut other = Exchange::new();
    other.answer.kem_key = KemKey([0x45; 1184]);
    assert!(other.refusal().contains("another ML-KEM key than that of the answer"), "{}", other.refusal());
}

#[test]
fn a_document_for_another_nonce_or_none_is_refused() {
    let mut replayed = Exchange::new();
    replayed.fields.nonce = Some(vec![0x12; 32]);
    assert!(replayed.refusal().starts_with("the attestation document: nonce is 1212"), "{}", replayed.refusal());
    replayed.fields.nonce = None;
    assert!(replayed.refusal().starts_with("the attestation document: nonce is absent"), "{}", replayed.refusal());
}

#[test]
fn a_document_that_binds_nothing_or_something_else_is_refused() {
    let exchange = Exchange::new();
    let with = |user_data| {
        let fields = Fields { user_data, ..exchange.fields.clone() };
        format!("{:#}", exchange.verify_document(exchange.root.sign(&fields), &exchange.trust()).unwrap_err())
    };
    assert!(with(None).starts_with("the attestation document's user_data: a binding of 0 bytes"), "{}", with(None));
    let mut foreign = exchange.binding.encode().to_vec();
    foreign[0] ^= 1;
    assert!(with(Some(foreign.clone())).contains("does not bind a tunnel's keys"), "{}", with(Some(foreign)));
    let long = [&exchange.binding.encode()[..], &[0]].concat();
    assert!(with(Some(long.clone())).contains("a binding of 197 bytes, expected 196"), "{}", with(Some(long)));
}

#[test]
fn another_image_debug_mode_and_a_register_that_differs_are_refused() {
    let mut other = Exchange::new();
    other.fields.pcrs.insert(2, Pcr([0x13; Pcr::LEN]));
    assert!(other.refusal().starts_with("the attestation document: PCR2 is 1313"), "{}", other.refusal());

    let mut debug = Exchange::new();
    debug.fields.pcrs = (0..16).map(|index| (index, Pcr([0; Pcr::LEN]))).collect::<BTreeMap<_, _>>();
    assert!(debug.refusal().contains("debug mode, which is never allowed"), "{}", debug.refusal());

    let exchange = Exchange::new();
    let mut trust = exchange.trust();
    trust.policy.allow(3, Pcr([7; Pcr::LEN])).unwrap();
    let document =
        exchange.root.sign(&Fields { user_data: Some(exchange.binding.encode().to_vec()), ..exchange.fields.clone() });
    let error = format!("{:#}", exchange.verify_document(document, &trust).unwrap_err());
    assert!(error.starts_with("the attestation document: PCR3 is 0000"), "{error}");
}

#[test]
fn a_document_of_another_authority_or_another_day_is_refused() {
    let exchange = Exchange::new();
    let trust = Attestation { root: TestRoot::new(exchange.now).trust_root(), ..exchange.trust() };
    let fields = Fields { user_data: Some(exchange.binding.encode().to_vec()), ..exchange.fields.clone() };
    let error = format!("{:#}", exchange.verify_document(exchange.root.sign(&fields), &trust).unwrap_err());
    assert!(error.starts_with("the attestation document: cabundle[0] is not the trusted root"), "{error}");

    let mut late = Exchange::new();
    late.now += Duration::from_hours(24);
    assert!(late.refusal().contains("expired at"), "{}", late.refusal());
}

#[test]
fn a_gateway_whose_clock_is_five_seconds_behind_admits_and_one_of_six_does_not() {
    let exchange = Exchange::new();
    // The certificates begin one hour before the exchange.
    let begin = exchange.now - Duration::from_hours(1);
    let at = |now| Exchange { now, fields: Fields { timestamp: begin, ..exchange.fields.clone() }, ..Exchange::new() };
    let behind = |seconds| {
        let exchange = Exchange { root: TestRoot::new(exchange.now), ..at(begin - Duration::from_secs(seconds)) };
        exchange.verify().map(drop).map_err(|error| format!("{error:#}"))
    };
    assert_eq!(behind(0), Ok(()));
    assert_eq!(behind(5), Ok(()));
    assert!(behind(6).unwrap_err().contains(": not valid before "), "{:?}", behind(6));
}
