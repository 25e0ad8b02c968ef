//! Certificates that are wrong whatever their chain.

use rcgen::{
    CustomExtension, GeneralSubtree, IsCa, Issuer, KeyPair, NameConstraints, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, PublicKeyData, SignatureAlgorithm,
};

use self::parts::{Parts, tlv};
use super::*;
use crate::certificate::CertificateError;
use crate::chain::Position;
use crate::test_root::{Link, links};

mod parts;

/// Nobody's: of the enterprise number for examples (RFC 5612).
const UNKNOWN: [u64; 8] = [1, 3, 6, 1, 4, 1, 32473, 1];
const BASIC_CONSTRAINTS: [u64; 4] = [2, 5, 29, 19];
const KEY_USAGE: [u64; 4] = [2, 5, 29, 15];
const ECDSA_WITH_SHA384: [u8; 10] = [6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3];
const ECDSA_WITH_SHA256: [u8; 10] = [6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];

/// What is thought of a document whose leaf `change` took from a right one and the key of its issuer.
fn with_leaf(change: impl FnOnce(Parts, &KeyPair) -> Vec<u8>) -> Result<Claims, Error> {
    let links = links(now());
    let issuer = KeyPair::try_from(links[1].key.serialized_der()).unwrap();
    let mut nsm = TestRoot::of(links);
    nsm.certificate = change(Parts::of(&nsm.certificate), &issuer);
    verdict(&nsm.trust_root(), &nsm.sign(&fields()))
}

fn with_link(index: usize, change: impl FnOnce(&mut Link)) -> Result<Claims, Error> {
    let mut links = links(now());
    change(&mut links[index]);
    let nsm = TestRoot::of(links);
    verdict(&nsm.trust_root(), &nsm.sign(&fields()))
}

/// What is thought of a document whose leaf has this public key; another one signed it.
fn with_public_key(key: &impl PublicKeyData) -> Result<Claims, Error> {
    let links = links(now());
    let issuer = Issuer::from_params(&links[1].params, &links[1].key);
    let certificate = links[2].params.signed_by(key, &issuer).unwrap().der().to_vec();
    let nsm = TestRoot { certificate, ..TestRoot::of(links) };
    verdict(&nsm.trust_root(), &nsm.sign(&fields()))
}

fn extension(oid: &[u64], critical: bool, content: &[u8]) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(oid, content.to_vec());
    extension.set_criticality(critical);
    extension
}

#[test]
fn a_certificate_taken_apart_and_signed_again_is_right() {
    with_leaf(|parts, _| parts.whole()).unwrap();
    with_leaf(|parts, issuer| parts.replace(&ECDSA_WITH_SHA384, &ECDSA_WITH_SHA384, issuer).whole()).unwrap();
}

#[test]
fn anything_but_a_certificate_is_refused_wherever_it_is() {
    let text = "expected an X.509 certificate in DER";
    assert_refused!(
        with_leaf(|_, _| vec![0x30, 0]),
        Error::Chain(ChainError::Certificate { at: Position::Leaf, source: CertificateError::Der(_) })
    );
    let mut nsm = TestRoot::new(now());
    nsm.cabundle[1] = b"certificate".to_vec();
    let error = verdict(&nsm.trust_root(), &nsm.sign(&fields())).unwrap_err();
    assert!(says(&error).starts_with(&format!("cabundle[1]: {text}: ")), "{}", says(&error));
}

#[test]
fn a_truncated_certificate_or_one_with_trailing_bytes_is_refused() {
    let der = NSM.certificate.clone();
    let cuts = (1..der.len()).map(|len| der[..len].to_vec());
    for wrong in cuts.chain([[&der[..], &[0]].concat()]) {
        assert_refused!(
            verdict_of(&entries_with("certificate", &crate::test_root::bytes(&wrong))),
            Error::Chain(ChainError::Certificate { at: Position::Leaf, source: CertificateError::Der(_) })
        );
    }
}

#[test]
fn a_fourth_part_or_a_signature_of_broken_bytes_is_no_certificate() {
    for tail in [&[5, 0][..], &[3, 2, 0, 0]] {
        assert_refused!(
            with_leaf(|parts, _| tlv(0x30, &[&parts.tbs[..], &parts.algorithm, &parts.signature, tail].concat())),
            Error::Chain(ChainError::Certificate { source: CertificateError::Der(_), .. })
        );
    }
    assert_refused!(
        with_leaf(|parts, _| Parts { signature: vec![3, 2, 4, 0xf0], ..parts }.whole()),
        Error::Chain(ChainError::Certificate { source: CertificateError::Der(_), .. })
    );
}

#[test]
fn a_certificate_of_another_version_is_refused() {
    assert_refused!(
        with_leaf(|parts, issuer| parts.replace(&[0xa0, 3, 2, 1, 2], &[0xa0, 3, 2, 1, 1], issuer).whole()),
        Error::Chain(ChainError::Certificate { at: Position::Leaf, source: CertificateError::Version }),
        "certificate: not version 3"
    );
    assert_refused!(
        with_leaf(|parts, issuer| parts.replace(&[0xa0, 3, 2, 1, 2], &[], issuer).whole()),
        Error::Chain(ChainError::Certificate { source: CertificateError::Version, .. })
    );
}

#[test]
fn another_signature_algorithm_is_refused_in_either_place() {
    let text = "certificate: signed with algorithm 1.2.840.10045.4.3.2, expected ecdsa-with-SHA384";
    let sha256 = tlv(0x30, &ECDSA_WITH_SHA256);
    // What is signed still says SHA-384.
    assert_refused!(
        with_leaf(|parts, _| Parts { algorithm: sha256, ..parts }.whole()),
        Error::Chain(ChainError::Certificate { source: CertificateError::SignatureAlgorithm(_), .. }),
        text
    );
    assert_refused!(
        with_leaf(|parts, issuer| parts.replace(&ECDSA_WITH_SHA384, &ECDSA_WITH_SHA256, issuer).whole()),
        Error::Chain(ChainError::Certificate { source: CertificateError::SignatureAlgorithm(_), .. }),
        text
    );
}

#[test]
fn parameters_of_the_signature_algorithm_are_refused() {
    let null = tlv(0x30, &[&ECDSA_WITH_SHA384[..], &[5, 0]].concat());
    assert_refused!(
        with_leaf(|parts, _| Parts { algorithm: null.clone(), ..parts }.whole()),
        Error::Chain(ChainError::Certificate { source: CertificateError::SignatureParameters, .. }),
        "certificate: ecdsa-with-SHA384 with parameters, expected none"
    );
    assert_refused!(
        with_leaf(|parts, issuer| parts.replace(&tlv(0x30, &ECDSA_WITH_SHA384), &null, issuer).whole()),
        Error::Chain(ChainError::Certificate { source: CertificateError::SignatureParameters, .. })
    );
}

#[test]
fn a_key_of_another_curve_is_refused() {
    assert_refused!(
        with_public_key(&KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()),
        Error::Chain(ChainError::Certificate { at: Position::Leaf, source: CertificateError::PublicKey }),
        "certificate: the public key is not an uncompressed point of P-384"
    );
    assert_refused!(
        with_public_key(&Point(vec![4; 97], &PKCS_ECDSA_P256_SHA256)),
        Error::Chain(ChainError::Certificate { source: CertificateError::PublicKey, .. })
    );
}

#[test]
fn a_key_that_is_not_an_uncompressed_point_is_refused() {
    for len in [0, 1, 49, 96, 98] {
        assert_refused!(
            with_public_key(&Point(vec![4; len], &PKCS_ECDSA_P384_SHA384)),
            Error::Chain(ChainError::Certificate { source: CertificateError::PublicKey, .. })
        );
    }
    for head in [0, 2, 6] {
        assert_refused!(
            with_public_key(&Point([&[head][..], &[4; 96]].concat(), &PKCS_ECDSA_P384_SHA384)),
            Error::Chain(ChainError::Certificate { source: CertificateError::PublicKey, .. })
        );
    }
}

#[test]
fn a_key_for_another_algorithm_than_ec_is_refused() {
    let (ec_public_key, ec_dh) = ([0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1], [0x2b, 0x81, 4, 1, 0x0c, 0, 0]);
    assert_refused!(
        with_leaf(|parts, issuer| parts.replace(&ec_public_key, &ec_dh, issuer).whole()),
        Error::Chain(ChainError::Certificate { source: CertificateError::PublicKey, .. })
    );
}

#[test]
fn a_point_that_is_not_on_the_curve_signed_nothing() {
    assert_refused!(with_public_key(&Point(vec![4; 97], &PKCS_ECDSA_P384_SHA384)), Error::Signature);
}

#[test]
fn an_unknown_critical_extension_is_refused_and_another_ignored() {
    with_link(2, |leaf| leaf.params.custom_extensions = vec![extension(&UNKNOWN, false, &[5, 0])]).unwrap();
    for index in [1, 2] {
        let at = if index == 2 { Position::Leaf } else { Position::Cabundle(index) };
        assert_refused!(
            with_link(index, |link| link.params.custom_extensions = vec![extension(&UNKNOWN, true, &[5, 0])]),
            Error::Chain(ChainError::Certificate { at: actual, .. }) if *actual == at,
            format!("{at}: unknown critical extension 1.3.6.1.4.1.32473.1")
        );
    }
}

#[test]
fn name_constraints_are_refused_because_they_are_not_checked() {
    let permitted_subtrees = vec![GeneralSubtree::DnsName("aws".to_owned())];
    let constraints = NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() };
    assert_refused!(
        with_link(1, |intermediate| intermediate.params.name_constraints = Some(constraints)),
        Error::Chain(ChainError::Certificate { source: CertificateError::CriticalExtension(_), .. }),
        "cabundle[1]: unknown critical extension 2.5.29.30"
    );
}

#[test]
fn a_duplicate_extension_is_refused() {
    for (oid, content) in [(&UNKNOWN[..], &[5, 0][..]), (&BASIC_CONSTRAINTS, &[0x30, 0])] {
        let twice = vec![extension(oid, false, content); 2];
        assert_refused!(
            with_link(2, |leaf| {
                leaf.params.is_ca = IsCa::NoCa;
                leaf.params.custom_extensions = twice;
            }),
            Error::Chain(ChainError::Certificate { source: CertificateError::DuplicateExtension(_), .. })
        );
    }
    // The leaf has the one of them that allows it to sign documents, and this.
    assert_refused!(
        with_link(2, |leaf| leaf.params.custom_extensions = vec![extension(&KEY_USAGE, true, &[3, 2, 2, 4])]),
        Error::Chain(ChainError::Certificate { .. }),
        "certificate: duplicate extension 2.5.29.15"
    );
}

#[test]
fn an_extension_that_cannot_be_parsed_is_refused() {
    for (oid, content) in [
        (KEY_USAGE, &[5, 0][..]),
        (KEY_USAGE, &[3, 2, 7, 0x80, 0]),
        (BASIC_CONSTRAINTS, &[3, 2, 7, 0x80]),
        (BASIC_CONSTRAINTS, &[0x30, 3, 2, 1, 0xff]),
    ] {
        assert_refused!(
            with_link(2, |leaf| {
                if oid == KEY_USAGE {
                    leaf.params.key_usages.clear();
                } else {
                    leaf.params.is_ca = IsCa::NoCa;
                }
                leaf.params.custom_extensions = vec![extension(&oid, true, content)];
            }),
            Error::Chain(ChainError::Certificate { at: Position::Leaf, source: CertificateError::Extension { .. } })
        );
    }
}

#[test]
fn a_certificate_authority_s_basic_constraints_are_critical() {
    let authority = |critical| {
        with_link(1, |intermediate| {
            intermediate.params.is_ca = IsCa::NoCa;
            let constraints = [0x30, 3, 1, 1, 0xff];
            intermediate.params.custom_extensions = vec![extension(&BASIC_CONSTRAINTS, critical, &constraints)];
        })
    };
    authority(true).unwrap();
    assert_refused!(
        authority(false),
        Error::Chain(ChainError::Certificate { at: Position::Cabundle(1), source: CertificateError::NotCritical }),
        "cabundle[1]: the basic constraints of a certificate authority are not critical, expected critical"
    );
}

#[test]
fn a_leaf_with_a_path_length_is_refused() {
    let leaf = |constraints: &[u8]| {
        with_link(2, |leaf| {
            leaf.params.is_ca = IsCa::NoCa;
            leaf.params.custom_extensions = vec![extension(&BASIC_CONSTRAINTS, true, constraints)];
        })
    };
    leaf(&[0x30, 0]).unwrap();
    assert_refused!(
        leaf(&[0x30, 3, 2, 1, 0]),
        Error::Chain(ChainError::Certificate { at: Position::Leaf, source: CertificateError::PathLength }),
        "certificate: a path length, expected none: not a certificate authority"
    );
}

/// A public key of any bytes.
struct Point(Vec<u8>, &'static SignatureAlgorithm);

impl PublicKeyData for Point {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.1
    }
}
