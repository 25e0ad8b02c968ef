//! From the leaf to the root: who issued whom, when, and whether they may.

use rcgen::{BasicConstraints, IsCa, Issuer, KeyUsagePurpose};

use super::*;
use crate::chain::Position;
use crate::test_root::{Link, link, links};

const MINUTE: Duration = Duration::from_mins(1);
const LEAF: usize = 2;

/// A right chain but for what `change` does to one of its links.
fn changed(index: usize, change: impl FnOnce(&mut Link)) -> TestRoot {
    let mut links = links(now());
    change(&mut links[index]);
    TestRoot::of(links)
}

fn authority(name: &str, constraints: BasicConstraints) -> Link {
    link(name, IsCa::Ca(constraints), KeyUsagePurpose::KeyCertSign, now())
}

/// What the chain's own root thinks of a right document.
fn verdict_on(nsm: &TestRoot) -> Result<Claims, Error> {
    verdict(&nsm.trust_root(), &nsm.sign(&fields()))
}

fn position(index: usize) -> Position {
    if index == LEAF { Position::Leaf } else { Position::Cabundle(index) }
}

#[test]
fn another_root_of_the_same_name_is_not_the_trusted_one() {
    let impostor = TestRoot::new(now());
    let error = verdict(&TRUSTED, &impostor.sign(&fields())).unwrap_err();
    let text = format!("cabundle[0] is not the trusted root, which is {}", *TRUSTED);
    assert_refused!(Err::<Claims, _>(error), Error::Chain(ChainError::Root(_)), text);
    assert!(TRUSTED.to_string().starts_with("NOT AWS's root but another, SHA-256 "));
}

#[test]
fn a_document_of_a_test_s_root_is_refused_where_aws_s_is_trusted() {
    let error = verify(&NSM.sign(&fields()), &TrustRoot::aws(), At::Time(now())).unwrap_err();
    assert!(
        says(&error).starts_with("cabundle[0] is not the trusted root, which is AWS's root, SHA-256 641a"),
        "{error}"
    );
}

#[test]
fn the_trusted_root_before_another_s_chain_does_not_help() {
    let mut impostor = TestRoot::new(now());
    impostor.cabundle[0] = NSM.cabundle[0].clone();
    assert_refused!(
        verdict_on(&impostor),
        Error::Chain(ChainError::Signature(Position::Cabundle(1))),
        "cabundle[1]: not signed by the certificate before it"
    );
}

#[test]
fn a_bundle_that_does_not_start_with_the_root_is_refused() {
    for order in [&[1][..], &[1, 0]] {
        let cabundle = array(order.iter().map(|index| NSM.cabundle[*index].as_slice()));
        let document = NSM.sign_payload(&map(&entries_with("cabundle", &cabundle)));
        assert_refused!(verdict(&TRUSTED, &document), Error::Chain(ChainError::Root(_)));
    }
}

#[test]
fn a_certificate_that_is_in_the_bundle_twice_is_refused() {
    let mut nsm = TestRoot::new(now());
    nsm.cabundle.insert(1, nsm.cabundle[0].clone());
    assert_refused!(
        verdict_on(&nsm),
        Error::Chain(ChainError::Repeated(Position::Cabundle(1))),
        "cabundle[1]: duplicate certificate"
    );
    let mut nsm = changed(1, |link| link.params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    nsm.cabundle.push(nsm.cabundle[1].clone());
    assert_refused!(verdict_on(&nsm), Error::Chain(ChainError::Repeated(Position::Cabundle(2))));
}

#[test]
fn a_chain_whose_order_is_another_or_that_lacks_a_link_is_refused() {
    let four = || {
        let mut links = links(now());
        links.insert(1, authority("region", BasicConstraints::Unconstrained));
        TestRoot::of(links)
    };
    verdict_on(&four()).unwrap();

    let mut reordered = four();
    reordered.cabundle.swap(1, 2);
    assert_refused!(
        verdict_on(&reordered),
        Error::Chain(ChainError::Issuer(Position::Cabundle(1))),
        "cabundle[1]: its issuer's name is not the subject of the certificate before it"
    );
    let mut without_region = four();
    without_region.cabundle.remove(1);
    assert_refused!(verdict_on(&without_region), Error::Chain(ChainError::Issuer(Position::Cabundle(1))));
    let mut without_intermediate = four();
    without_intermediate.cabundle.pop();
    assert_refused!(verdict_on(&without_intermediate), Error::Chain(ChainError::Issuer(Position::Leaf)));
}

#[test]
fn a_leaf_of_another_chain_is_refused_though_it_signed_the_document() {
    let other = TestRoot::new(now());
    let nsm = TestRoot { cabundle: TestRoot::new(now()).cabundle, ..other };
    assert_refused!(verdict_on(&nsm), Error::Chain(ChainError::Signature(Position::Leaf)));
}

#[test]
fn another_leaf_of_the_same_chain_does_not_stand_in_for_the_one_that_signed() {
    let links = links(now());
    let other = link("leaf", IsCa::ExplicitNoCa, KeyUsagePurpose::DigitalSignature, now());
    let issuer = Issuer::from_params(&links[1].params, &links[1].key);
    let certificate = other.params.signed_by(&other.key, &issuer).unwrap().der().to_vec();
    let nsm = TestRoot { certificate, ..TestRoot::of(links) };
    assert_refused!(verdict_on(&nsm), Error::Signature);
}

#[test]
fn a_self_signed_leaf_is_refused_whatever_its_name() {
    for (name, is_issuer_named) in [("leaf", false), ("intermediate", true)] {
        let leaf = link(name, IsCa::ExplicitNoCa, KeyUsagePurpose::DigitalSignature, now());
        let certificate = leaf.params.self_signed(&leaf.key).unwrap().der().to_vec();
        let nsm = TestRoot { certificate, key: leaf.key, ..TestRoot::new(now()) };
        if is_issuer_named {
            assert_refused!(
                verdict_on(&nsm),
                Error::Chain(ChainError::Signature(Position::Leaf)),
                "certificate: not signed by the certificate before it"
            );
        } else {
            assert_refused!(verdict_on(&nsm), Error::Chain(ChainError::Issuer(Position::Leaf)));
        }
    }
}

#[test]
fn a_leaf_that_names_another_issuer_is_refused_though_the_signature_is_right() {
    let links = links(now());
    let somebody = authority("somebody", BasicConstraints::Unconstrained);
    let issuer = Issuer::from_params(&somebody.params, &links[1].key);
    let certificate = links[LEAF].params.signed_by(&links[LEAF].key, &issuer).unwrap().der().to_vec();
    let nsm = TestRoot { certificate, ..TestRoot::of(links) };
    assert_refused!(verdict_on(&nsm), Error::Chain(ChainError::Issuer(Position::Leaf)));
}

#[test]
fn a_chain_with_any_expired_certificate_is_refused() {
    for index in 0..=LEAF {
        let nsm = changed(index, |link| link.params.not_after = link.params.not_before + 59 * MINUTE);
        let at = position(index);
        assert_refused!(
            verdict_on(&nsm),
            Error::Chain(ChainError::Expired { at: actual, .. }) if *actual == at,
            format!("{at}: expired at 2027-01-15T07:59:00Z, and the time is 2027-01-15T08:00:00Z")
        );
    }
}

#[test]
fn a_chain_with_any_certificate_of_the_future_is_refused() {
    for index in 0..=LEAF {
        let nsm = changed(index, |link| link.params.not_before += 61 * MINUTE);
        let at = position(index);
        assert_refused!(
            verdict_on(&nsm),
            Error::Chain(ChainError::NotYetValid { at: actual, .. }) if *actual == at,
            format!("{at}: not valid before 2027-01-15T08:01:00Z, and the time is 2027-01-15T08:00:00Z")
        );
    }
}

#[test]
fn a_verifier_s_clock_may_be_five_seconds_behind_and_none_ahead() {
    let tolerance = CLOCK_TOLERANCE;
    assert_eq!(tolerance, Duration::from_secs(5));
    for index in 0..=LEAF {
        let at = |begins: Duration, time: SystemTime| {
            let nsm = changed(index, |link| link.params.not_before += begins);
            verify(&nsm.sign(&fields()), &nsm.trust_root(), At::Time(time)).map(drop)
        };
        // The certificate begins in this moment; the document is made one minute later.
        let (begins, start) = (59 * MINUTE, now() - MINUTE);
        assert!(at(begins, start - tolerance).is_ok(), "{index}");
        let early = at(begins, start - tolerance - Duration::from_millis(1));
        assert_refused!(early, Error::Chain(ChainError::NotYetValid { at: actual, .. }) if *actual == position(index));
    }
    let end = now() + 120 * MINUTE;
    let nsm = TestRoot::new(now());
    let at = |time| verify(&nsm.sign(&fields()), &nsm.trust_root(), At::Time(time)).map(drop);
    assert!(at(end).is_ok());
    assert_refused!(at(end + Duration::from_millis(1)), Error::Chain(ChainError::Expired { .. }));
}

#[test]
fn between_a_document_and_its_certificates_there_is_no_tolerance() {
    // The hypervisor's clock made both.
    let nsm = changed(LEAF, |link| link.params.not_before += 60 * MINUTE);
    let just_before = Fields::new(now() - Duration::from_millis(1));
    let verdict = |at| verify(&nsm.sign(&just_before), &nsm.trust_root(), at).map(drop);
    assert_refused!(verdict(At::Document), Error::Chain(ChainError::NotYetValid { .. }));
    assert_refused!(verdict(At::Time(now())), Error::Timestamp { .. });
}

#[test]
fn a_chain_longer_than_its_certificates_allow_is_refused() {
    let mut long = links(now());
    long.insert(2, authority("zone", BasicConstraints::Constrained(0)));
    assert_refused!(
        verdict_on(&TestRoot::of(long)),
        Error::Chain(ChainError::PathLength { at: Position::Cabundle(1), allowed: 0, actual: 1 }),
        "cabundle[1]: followed by 1 certificate authorities, expected at most 0"
    );
    let narrow = changed(0, |root| root.params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    assert_refused!(
        verdict_on(&narrow),
        Error::Chain(ChainError::PathLength { at: Position::Cabundle(0), allowed: 0, actual: 1 })
    );
}

#[test]
fn a_chain_exactly_as_long_as_its_certificates_allow_is_right() {
    let mut links = links(now());
    links[0].params.is_ca = IsCa::Ca(BasicConstraints::Constrained(3));
    links.insert(1, authority("region", BasicConstraints::Constrained(2)));
    links.insert(2, authority("zone", BasicConstraints::Constrained(1)));
    verdict_on(&TestRoot::of(links)).unwrap();
}

#[test]
fn a_chain_of_eight_certificate_authorities_is_right() {
    let mut links = links(now());
    for index in 0..6 {
        links.insert(1, authority(&format!("number {index}"), BasicConstraints::Unconstrained));
    }
    let nsm = TestRoot::of(links);
    assert_eq!(nsm.cabundle.len(), 8);
    verdict_on(&nsm).unwrap();
}

#[test]
fn a_root_may_sign_the_leaf_itself() {
    let mut links = links(now());
    links.remove(1);
    verdict_on(&TestRoot::of(links)).unwrap();
}

#[test]
fn an_intermediate_that_is_no_certificate_authority_is_refused() {
    for is_ca in [IsCa::NoCa, IsCa::ExplicitNoCa] {
        let nsm = changed(1, |intermediate| intermediate.params.is_ca = is_ca);
        assert_refused!(
            verdict_on(&nsm),
            Error::Chain(ChainError::NotAuthority(Position::Cabundle(1))),
            "cabundle[1]: not a certificate authority"
        );
    }
}

#[test]
fn a_leaf_that_issued_another_is_no_certificate_authority() {
    let mut links = links(now());
    links[1].params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    links.push(link("forged", IsCa::ExplicitNoCa, KeyUsagePurpose::DigitalSignature, now()));
    assert_refused!(verdict_on(&TestRoot::of(links)), Error::Chain(ChainError::NotAuthority(Position::Cabundle(2))));
}

#[test]
fn an_intermediate_without_key_cert_sign_is_refused() {
    for usages in [vec![], vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::CrlSign]] {
        let nsm = changed(1, |intermediate| intermediate.params.key_usages = usages);
        assert_refused!(
            verdict_on(&nsm),
            Error::Chain(ChainError::KeyUsage { at: Position::Cabundle(1), missing: "keyCertSign" }),
            "cabundle[1]: its key usage lacks keyCertSign"
        );
    }
}

#[test]
fn a_leaf_without_digital_signature_is_refused() {
    for usages in [vec![], vec![KeyUsagePurpose::ContentCommitment, KeyUsagePurpose::KeyAgreement]] {
        let nsm = changed(LEAF, |leaf| leaf.params.key_usages = usages);
        assert_refused!(
            verdict_on(&nsm),
            Error::Chain(ChainError::KeyUsage { at: Position::Leaf, missing: "digitalSignature" }),
            "certificate: its key usage lacks digitalSignature"
        );
    }
}

#[test]
fn a_leaf_that_may_issue_certificates_is_refused() {
    let text = "certificate: a certificate authority, expected one that may only sign documents";
    let authority = changed(LEAF, |leaf| leaf.params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    assert_refused!(verdict_on(&authority), Error::Chain(ChainError::LeafIsAuthority), text);
    let by_its_key = changed(LEAF, |leaf| leaf.params.key_usages.push(KeyUsagePurpose::KeyCertSign));
    assert_refused!(verdict_on(&by_its_key), Error::Chain(ChainError::LeafIsAuthority), text);
}

#[test]
fn a_leaf_without_basic_constraints_is_right() {
    verdict_on(&changed(LEAF, |leaf| leaf.params.is_ca = IsCa::NoCa)).unwrap();
}

#[test]
fn a_changed_certificate_is_not_what_its_issuer_signed() {
    for index in 1..=LEAF {
        let mut nsm = TestRoot::new(now());
        let der = if index == LEAF { &mut nsm.certificate } else { &mut nsm.cabundle[index] };
        // The serial number's last byte: version [0] is 5 bytes, and that within two sequences.
        let at = der.windows(5).position(|bytes| bytes == [0xa0, 3, 2, 1, 2]).unwrap() + 5 + 2 + 8;
        der[at] ^= 1;
        let at = position(index);
        assert_refused!(verdict_on(&nsm), Error::Chain(ChainError::Signature(actual)) if *actual == at);
    }
}
