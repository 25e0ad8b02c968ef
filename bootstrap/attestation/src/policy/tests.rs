use super::*;
use crate::test_root::Fields;

fn pcr(byte: u8) -> Pcr {
    Pcr([byte; 48])
}

fn image(pcr0: u8, pcr1: u8, pcr2: u8) -> Measurements {
    Measurements::new(pcr(pcr0), pcr(pcr1), pcr(pcr2))
}

fn claims(registers: &[(u8, u8)]) -> Claims {
    let fields = Fields::new(std::time::SystemTime::UNIX_EPOCH);
    let mut pcrs = fields.pcrs;
    pcrs.extend(registers.iter().map(|(index, byte)| (*index, pcr(*byte))));
    Claims {
        module_id: fields.module_id,
        timestamp: fields.timestamp,
        pcrs,
        public_key: None,
        user_data: None,
        nonce: None,
        not_before: fields.timestamp,
        not_after: fields.timestamp,
    }
}

fn enclave(pcr0: u8, pcr1: u8, pcr2: u8) -> Claims {
    claims(&[(0, pcr0), (1, pcr1), (2, pcr2), (3, 3), (4, 4), (8, 8)])
}

fn two_images() -> Policy {
    let mut policy = Policy::new();
    policy.allow_image("old.json", image(0xa0, 0xa1, 0xa2));
    policy.allow_image("new.json", image(0xb0, 0xb1, 0xb2));
    policy
}

#[test]
fn any_of_the_images_is_right() {
    assert_eq!(two_images().check(&enclave(0xa0, 0xa1, 0xa2)), Ok(()));
    assert_eq!(two_images().check(&enclave(0xb0, 0xb1, 0xb2)), Ok(()));
}

#[test]
fn the_labels_are_those_of_all_images_that_have_every_measurement() {
    let mut policy = two_images();
    policy.allow_image("copy.json", image(0xb0, 0xb1, 0xb2));
    for (label, signer) in [("signed.json", 8), ("other-signer.json", 9)] {
        policy.allow_image(label, Measurements { others: [(8, pcr(signer))].into(), ..image(0xb0, 0xb1, 0xb2) });
    }
    let labels = |claims: &Claims| policy.labels(claims).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(labels(&enclave(0xb0, 0xb1, 0xb2)), ["new.json", "copy.json", "signed.json"]);
    assert_eq!(labels(&enclave(0xa0, 0xa1, 0xa2)), ["old.json"]);
    assert_eq!(labels(&enclave(0xa0, 0xa1, 0xb2)), [""; 0]);
}

#[test]
fn registers_of_two_images_do_not_mix() {
    for mixed in [(0xa0, 0xa1, 0xb2), (0xa0, 0xb1, 0xa2), (0xb0, 0xa1, 0xa2)] {
        assert!(two_images().check(&enclave(mixed.0, mixed.1, mixed.2)).is_err(), "{mixed:x?}");
    }
}

#[test]
fn another_configuration_of_the_same_release_is_named_by_pcr2() {
    let violation = two_images().check(&enclave(0xff, 0xb1, 0xcc)).unwrap_err();
    let expected = Violation::Configuration { actual: pcr(0xcc), label: "new.json".into(), expected: pcr(0xb2) };
    assert_eq!(violation, expected);
    let text = format!(
        "PCR2 is {}, expected {} (new.json): same release (PCR1), another configuration",
        "cc".repeat(48),
        "b2".repeat(48)
    );
    assert_eq!(violation.to_string(), text);
}

#[test]
fn another_release_of_the_same_configuration_is_named_by_pcr1() {
    let violation = two_images().check(&enclave(0xff, 0xcc, 0xa2)).unwrap_err();
    assert!(matches!(violation, Violation::Release { actual, .. } if actual == pcr(0xcc)), "{violation}");
}

#[test]
fn an_unknown_image_is_named_by_pcr0() {
    let violation = two_images().check(&enclave(0xcc, 0xcd, 0xce)).unwrap_err();
    let expected = Violation::Image { actual: pcr(0xcc), labels: "old.json, new.json".to_owned() };
    assert_eq!(violation, expected);
    let violation = two_images().check(&enclave(0xcc, 0xa1, 0xa2)).unwrap_err();
    assert!(matches!(violation, Violation::Image { .. }), "{violation}");
}

#[test]
fn an_enclave_in_debug_mode_is_refused_whatever_is_allowed() {
    for index in 0..=2 {
        let mut registers = [0xa0, 0xa1, 0xa2];
        registers[usize::from(index)] = 0;
        let [pcr0, pcr1, pcr2] = registers;
        let mut policy = two_images();
        // As if an operator had taken a debug enclave's PCRs for an image's.
        policy.allow_image("debug.json", image(pcr0, pcr1, pcr2));
        assert_eq!(policy.check(&enclave(pcr0, pcr1, pcr2)), Err(Violation::Debug(index)));
    }
}

#[test]
fn a_register_must_have_one_of_its_values() {
    for index in [3, 4, 8, 16, 31] {
        let mut policy = two_images();
        policy.allow(index, pcr(0x77)).unwrap();
        let mut claims = enclave(0xa0, 0xa1, 0xa2);
        claims.pcrs.insert(index, pcr(index));
        let violation = policy.check(&claims).unwrap_err();
        assert!(matches!(violation, Violation::Value { index: named, .. } if named == index), "{violation}");
        policy.allow(index, pcr(index)).unwrap();
        assert_eq!(policy.check(&claims), Ok(()));
    }
}

#[test]
fn values_do_not_stand_in_for_an_image_nor_an_image_for_values() {
    let mut policy = two_images();
    policy.allow(8, pcr(8)).unwrap();
    assert!(matches!(policy.check(&enclave(1, 2, 3)), Err(Violation::Image { .. })));
    let mut unsigned = enclave(0xa0, 0xa1, 0xa2);
    unsigned.pcrs.insert(8, pcr(0));
    assert!(matches!(policy.check(&unsigned), Err(Violation::Value { index: 8, .. })));
    unsigned.pcrs.remove(&8);
    assert_eq!(policy.check(&unsigned), Err(Violation::Absent(8)));
    unsigned.pcrs.remove(&1);
    assert_eq!(policy.check(&unsigned), Err(Violation::Absent(1)));
}

#[test]
fn a_policy_that_names_no_image_refuses_everything() {
    let mut policy = Policy::new();
    assert!(policy.is_empty());
    for index in [2, 3, 4, 16, 31] {
        policy.allow(index, pcr(index)).unwrap();
        assert!(policy.is_empty(), "PCR{index} does not identify the image");
    }
    assert_eq!(policy.check(&enclave(1, 2, 2)), Err(Violation::Empty));
    for index in [0, 1, 8] {
        let mut policy = policy.clone();
        policy.allow(index, pcr(index + 1)).unwrap();
        assert!(!policy.is_empty());
    }
    assert!(!two_images().is_empty());
}

#[test]
fn a_register_that_the_enclave_extends_must_be_present_with_its_value() {
    let mut policy = two_images();
    policy.allow(16, pcr(0x16)).unwrap();
    let mut claims = enclave(0xa0, 0xa1, 0xa2);
    assert_eq!(policy.check(&claims), Err(Violation::Absent(16)));
    // Locked without having been extended.
    claims.pcrs.insert(16, pcr(0));
    assert!(matches!(policy.check(&claims), Err(Violation::Value { index: 16, .. })));
    claims.pcrs.insert(16, pcr(0x16));
    assert_eq!(policy.check(&claims), Ok(()));
    claims.pcrs.insert(17, pcr(0x17));
    assert_eq!(policy.check(&claims), Ok(()), "the policy has no PCR17");
}

#[test]
fn an_image_s_further_registers_belong_to_that_image() {
    let mut policy = Policy::new();
    let others = |values: &[(u8, u8)]| values.iter().map(|(index, byte)| (*index, pcr(*byte))).collect();
    policy.allow_image("one.json", Measurements { others: others(&[(8, 8), (16, 0x61)]), ..image(1, 2, 3) });
    policy.allow_image("two.json", Measurements { others: others(&[(16, 0x62)]), ..image(4, 5, 6) });
    let with = |image: [u8; 3], pcr16| claims(&[(0, image[0]), (1, image[1]), (2, image[2]), (8, 8), (16, pcr16)]);
    assert_eq!(policy.check(&with([1, 2, 3], 0x61)), Ok(()));
    assert_eq!(policy.check(&with([4, 5, 6], 0x62)), Ok(()));
    for (image, pcr16) in [([1, 2, 3], 0x62), ([4, 5, 6], 0x61)] {
        let violation = policy.check(&with(image, pcr16)).unwrap_err();
        assert!(matches!(violation, Violation::Value { index: 16, .. }), "{violation}");
    }
    let mut unsigned = with([1, 2, 3], 0x61);
    unsigned.pcrs.insert(8, pcr(0));
    assert!(matches!(policy.check(&unsigned), Err(Violation::Value { index: 8, .. })));
    assert_eq!(policy.check(&enclave(4, 5, 6)), Err(Violation::Absent(16)));
}

#[test]
fn only_registers_of_an_enclave_and_values_can_be_asked_for() {
    let mut policy = Policy::new();
    for index in [5, 7, 9, 15, 32, 255] {
        assert_eq!(policy.allow(index, pcr(1)), Err(PolicyError::Index(index)));
    }
    for index in [0, 4, 8, 16, 31] {
        assert_eq!(policy.allow(index, pcr(0)), Err(PolicyError::Zero(index)));
    }
    assert_eq!(policy, Policy::new());
}
