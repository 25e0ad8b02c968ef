//! Documents that are genuine: what the verifier asked for, which enclave it is, and when.

use super::*;
use crate::measurements::Measurements;
use crate::pcr::Pcr;

fn pcr(byte: u8) -> Pcr {
    Pcr([byte; 48])
}

fn image() -> Measurements {
    Measurements::new(pcr(0x10), pcr(0x11), pcr(0x12))
}

fn policy() -> Policy {
    let mut policy = Policy::new();
    policy.allow_image("the image", image());
    policy
}

fn attested(said: &Fields, policy: &Policy, expected: &Expected<'_>) -> Result<Claims, Error> {
    attest(&NSM.sign(said), &TRUSTED, policy, expected, At::Time(now()))
}

fn with_register(index: u8, value: Pcr) -> Fields {
    let mut said = fields();
    said.pcrs.insert(index, value);
    said
}

fn answers(said: &Fields, expected: &Expected<'_>) -> Result<Claims, Error> {
    attested(said, &policy(), expected)
}

#[test]
fn a_document_of_the_right_image_that_says_what_was_asked_is_accepted() {
    let said = Fields { nonce: Some(vec![1]), user_data: Some(vec![2]), public_key: Some(vec![3]), ..fields() };
    let expected = Expected { nonce: Some(&[1]), user_data: Some(&[2]), public_key: Some(&[3]) };
    answers(&said, &expected).unwrap();
    answers(&said, &Expected::default()).unwrap();
}

#[test]
fn a_document_that_says_something_else_or_nothing_is_not_the_answer() {
    let asked = [5, 6];
    let put = |field: &str, value: Option<Vec<u8>>| match field {
        "nonce" => Fields { nonce: value, ..fields() },
        "user_data" => Fields { user_data: value, ..fields() },
        _ => Fields { public_key: value, ..fields() },
    };
    for (field, expected) in [
        ("nonce", Expected { nonce: Some(&asked), ..Expected::default() }),
        ("user_data", Expected { user_data: Some(&asked), ..Expected::default() }),
        ("public_key", Expected { public_key: Some(&asked), ..Expected::default() }),
    ] {
        answers(&put(field, Some(asked.to_vec())), &expected).unwrap();
        for (said, text) in
            [(Some(vec![5, 7]), "0507"), (Some(vec![5]), "05"), (Some(vec![5, 6, 0]), "050600"), (None, "absent")]
        {
            assert_refused!(
                answers(&put(field, said.clone()), &expected),
                Error::Unexpected { field: named, actual, .. } if *named == field && *actual == said,
                format!("{field} is {text}, expected 0506")
            );
        }
    }
}

#[test]
fn an_empty_nonce_is_not_an_absent_one() {
    let expected = Expected { nonce: Some(&[]), ..Expected::default() };
    answers(&Fields { nonce: Some(vec![]), ..fields() }, &expected).unwrap();
    assert_refused!(
        answers(&fields(), &expected),
        Error::Unexpected { field: "nonce", actual: None, .. },
        "nonce is absent, expected empty"
    );
}

#[test]
fn what_was_asked_for_in_one_field_does_not_count_in_another() {
    let expected = Expected { nonce: Some(&[1]), ..Expected::default() };
    let said = Fields { user_data: Some(vec![1]), public_key: Some(vec![1]), ..fields() };
    assert_refused!(answers(&said, &expected), Error::Unexpected { field: "nonce", .. });
}

#[test]
fn an_enclave_in_debug_mode_is_refused() {
    for index in 0..=2 {
        let said = with_register(index, pcr(0));
        let genuine = verdict(&TRUSTED, &NSM.sign(&said)).unwrap();
        assert!(genuine.is_debug());
        assert_refused!(
            answers(&said, &Expected::default()),
            Error::Policy(Violation::Debug(named)) if *named == index,
            format!("PCR{index} is zero: the enclave runs in debug mode, which is never allowed")
        );
    }
    assert!(!verdict(&TRUSTED, &NSM.sign(&with_register(3, pcr(0)))).unwrap().is_debug());
}

#[test]
fn another_image_is_refused() {
    let mut other = fields();
    other.pcrs.extend([(0, pcr(1)), (1, pcr(2)), (2, pcr(3))]);
    assert_refused!(
        answers(&other, &Expected::default()),
        Error::Policy(Violation::Image { .. }),
        format!("PCR0 is {}, expected that of the image", pcr(1))
    );
}

#[test]
fn each_register_of_a_policy_may_have_any_of_its_values_and_no_other() {
    for index in [0, 1, 2, 3, 4, 8] {
        let mut policy = Policy::new();
        // PCR2 to PCR4 alone name no image: one that is always right.
        policy.allow(if index == 8 { 0 } else { 8 }, if index == 8 { pcr(0x10) } else { pcr(0x88) }).unwrap();
        policy.allow(index, pcr(0x77)).unwrap();
        policy.allow(index, pcr(0x78)).unwrap();
        let saying = |value| {
            let mut said = with_register(8, pcr(0x88));
            said.pcrs.insert(index, value);
            said
        };
        for allowed in [0x77, 0x78] {
            attested(&saying(pcr(allowed)), &policy, &Expected::default()).unwrap();
        }
        assert_refused!(
            attested(&saying(pcr(0x79)), &policy, &Expected::default()),
            Error::Policy(Violation::Value { index: named, .. }) if *named == index,
            format!("PCR{index} is {}, expected {} or {}", pcr(0x79), pcr(0x77), pcr(0x78))
        );
    }
}

#[test]
fn a_policy_of_nothing_accepts_nothing() {
    assert_refused!(
        attested(&fields(), &Policy::new(), &Expected::default()),
        Error::Policy(Violation::Empty),
        "the policy allows no image, expected at least one"
    );
}

#[test]
fn a_policy_looks_at_genuine_documents_only() {
    let mut document = NSM.sign(&fields());
    *document.last_mut().unwrap() ^= 1;
    let verdict = attest(&document, &TRUSTED, &Policy::new(), &Expected::default(), At::Time(now()));
    assert_refused!(verdict, Error::Signature);
}

#[test]
fn a_document_is_dated_within_its_leaf_s_validity() {
    let dated = |timestamp| verdict(&TRUSTED, &NSM.sign(&Fields::new(timestamp)));
    let (first, last) = (now() - Duration::from_hours(1), now() + Duration::from_hours(2));
    for right in [first, last] {
        assert_eq!(dated(right).unwrap().timestamp, right);
    }
    let millisecond = Duration::from_millis(1);
    for wrong in [first - millisecond, last + millisecond] {
        assert_refused!(dated(wrong), Error::Timestamp { timestamp, .. } if *timestamp == wrong);
    }
    assert_refused!(
        dated(first - Duration::from_secs(1)),
        Error::Timestamp { .. },
        "payload: timestamp 2027-01-15T06:59:59Z, and the document's certificate is valid from 2027-01-15T07:00:00Z to 2027-01-15T10:00:00Z"
    );
}

#[test]
fn an_archived_document_is_verified_at_its_own_date() {
    let later = now() + Duration::from_hours(24);
    let document = NSM.sign(&fields());
    let at = |at| verify(&document, &TRUSTED, at);
    at(At::Document).unwrap();
    assert_refused!(at(At::Time(later)), Error::Chain(ChainError::Expired { .. }));
    let misdated = NSM.sign(&Fields::new(later));
    assert_refused!(
        verify(&misdated, &TRUSTED, At::Document),
        Error::Chain(ChainError::Expired { time, .. }) if *time == later
    );
}

#[test]
fn a_date_at_the_end_of_time_is_refused_without_a_panic() {
    for timestamp in [u64::MAX, u64::MAX / 2, i64::MAX as u64] {
        let document = NSM.sign_payload(&map(&entries_with("timestamp", &crate::test_root::cbor(timestamp))));
        let error = verdict(&TRUSTED, &document).unwrap_err();
        assert!(says(&error).starts_with("payload: timestamp SystemTime"), "{error}");
        assert_refused!(Err::<Claims, _>(error), Error::Timestamp { .. });
        let kept = verify(&document, &TRUSTED, At::Document);
        assert_refused!(kept, Error::Chain(ChainError::Expired { .. }));
    }
    let earliest = NSM.sign_payload(&map(&entries_with("timestamp", &crate::test_root::cbor(1))));
    assert_refused!(verdict(&TRUSTED, &earliest), Error::Timestamp { .. });
}
