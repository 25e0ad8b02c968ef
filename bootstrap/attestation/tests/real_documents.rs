//! Documents that AWS's hypervisor signed.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic fails the test")]

use std::thread;
use std::time::{Duration, SystemTime};

use attestation::{At, ChainError, Claims, Error, Expected, Measurements, Policy, Position, TrustRoot, Violation};

const PRODUCTION: &[u8] = include_bytes!("nitro-2024-08.cbor");
const DEBUG: &[u8] = include_bytes!("nitro-2022-10-debug.cbor");

fn verify(document: &[u8], at: At) -> Result<Claims, Error> {
    attestation::verify(document, &TrustRoot::aws(), at)
}

fn image_of(claims: &Claims) -> Measurements {
    Measurements::new(claims.pcrs[&0], claims.pcrs[&1], claims.pcrs[&2])
}

fn unix(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

#[test]
fn the_pinned_root_is_the_one_whose_hash_aws_publishes() {
    assert_eq!(TrustRoot::aws().fingerprint(), "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b");
    assert!(TrustRoot::aws().is_aws());
}

#[test]
fn a_document_of_an_enclave_in_production_gives_its_claims() {
    let claims = verify(PRODUCTION, At::Document).unwrap();
    assert_eq!(claims.module_id, "i-084e1dd2f1b2c529b-enc0190fecc5b166251");
    assert_eq!(claims.timestamp, SystemTime::UNIX_EPOCH + Duration::from_millis(1_723_012_992_231));
    // 2024-08-07, 06:38:06 to 09:38:09 UTC.
    assert_eq!((claims.not_before, claims.not_after), (unix(1_723_012_686), unix(1_723_023_489)));
    assert_eq!(claims.pcrs.keys().copied().collect::<Vec<_>>(), (0..16).collect::<Vec<_>>());
    assert!(claims.pcrs[&0].to_string().starts_with("5fec1b7372742584"), "{}", claims.pcrs[&0]);
    assert_eq!(claims.public_key.as_ref().map(Vec::len), Some(64));
    assert_eq!((&claims.user_data, &claims.nonce), (&None, &None));
    assert!(!claims.is_debug());

    let mut policy = Policy::new();
    policy.allow_image("the image", image_of(&claims));
    let expected = Expected { public_key: claims.public_key.as_deref(), ..Expected::default() };
    attestation::attest(PRODUCTION, &TrustRoot::aws(), &policy, &expected, At::Document).unwrap();
}

#[test]
fn a_document_of_an_enclave_in_debug_mode_is_genuine_and_allowed_by_no_policy() {
    let claims = verify(DEBUG, At::Document).unwrap();
    assert!(claims.is_debug());
    assert_eq!(claims.user_data.as_deref(), Some(b"hello, world!".as_slice()));

    let mut policy = Policy::new();
    policy.allow_image("zeros", image_of(&claims));
    policy.allow(3, claims.pcrs[&3]).unwrap();
    let error = attestation::attest(DEBUG, &TrustRoot::aws(), &policy, &Expected::default(), At::Document).unwrap_err();
    assert!(matches!(error, Error::Policy(Violation::Debug(0))), "{error}");
}

#[test]
fn a_document_counts_from_five_seconds_before_the_leaf_s_first_second_to_its_last() {
    let first = 1_723_012_686;
    for (time, is_valid) in
        [(first - 6, false), (first - 5, true), (first, true), (1_723_023_489, true), (1_723_023_490, false)]
    {
        assert_eq!(verify(PRODUCTION, At::Time(unix(time))).is_ok(), is_valid, "{time}");
    }
    let early = verify(PRODUCTION, At::Time(unix(first - 6))).unwrap_err();
    let is_early = matches!(early, Error::Chain(ChainError::NotYetValid { at: Position::Leaf, .. }));
    assert!(is_early, "{early}");
}

#[test]
fn documents_of_years_ago_have_expired() {
    for document in [PRODUCTION, DEBUG] {
        let error = verify(document, At::Time(SystemTime::now())).unwrap_err();
        assert!(matches!(error, Error::Chain(ChainError::Expired { .. })), "{error}");
    }
    let error = verify(PRODUCTION, At::Time(unix(1_723_023_490))).unwrap_err();
    assert_eq!(error.to_string(), "certificate: expired at 2024-08-07T09:38:09Z, and the time is 2024-08-07T09:38:10Z");
}

#[test]
fn a_document_cut_anywhere_or_with_bytes_behind_it_is_refused() {
    for document in [PRODUCTION, DEBUG] {
        for len in 0..document.len() {
            assert!(verify(&document[..len], At::Document).is_err(), "cut to {len}");
        }
        for byte in [0x00, 0xff, 0xd2, 0xf6] {
            assert!(verify(&[document, &[byte]].concat(), At::Document).is_err(), "{byte:02x} after it");
        }
        assert!(verify(&[document, document].concat(), At::Document).is_err());
    }
}

#[test]
fn the_tag_of_cose_may_be_there_and_no_other() {
    let tagged = |tag: u8| verify(&[&[tag], PRODUCTION].concat(), At::Document);
    tagged(0xd2).unwrap();
    for tag in (0xc0..=0xd7).filter(|tag| *tag != 0xd2) {
        assert!(tagged(tag).is_err(), "{tag:02x}");
    }
    assert!(verify(&[&[0xd2, 0xd2], PRODUCTION].concat(), At::Document).is_err(), "tagged twice");
}

/// Every bit counts: envelope, payload, leaf, cabundle (both are in the payload) and signature.
#[test]
fn a_document_with_any_bit_flipped_is_refused() {
    let bits: Vec<usize> = (0..PRODUCTION.len() * 8).collect();
    let threads = thread::available_parallelism().unwrap().get();
    thread::scope(|scope| {
        for bits in bits.chunks(bits.len().div_ceil(threads)) {
            scope.spawn(move || {
                let root = TrustRoot::aws();
                for bit in bits {
                    let mut document = PRODUCTION.to_vec();
                    document[bit / 8] ^= 1 << (bit % 8);
                    // Over the payload's own time, a flip of the timestamp would be found by the clock alone.
                    let at = At::Time(unix(1_723_013_000));
                    assert!(attestation::verify(&document, &root, at).is_err(), "bit {bit}");
                }
            });
        }
    });
}
