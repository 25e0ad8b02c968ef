//! COSE_Sign1: tag, headers, signature.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair};

use super::*;
use crate::envelope::signed_bytes;
use crate::test_root::{bytes, cbor, null};

/// The four parts of a right document, each in CBOR.
fn parts() -> [Vec<u8>; 4] {
    let payload = map(&NSM.entries(&fields()));
    [bytes(&PROTECTED), vec![0xa0], bytes(&payload), bytes(&NSM.signature(&PROTECTED, &payload))]
}

/// A document that is right but for its protected header, which is signed.
fn with_protected(header: &[u8]) -> Result<Claims, Error> {
    let payload = map(&NSM.entries(&fields()));
    verdict(&TRUSTED, &envelope(header, &payload, &NSM.signature(header, &payload)))
}

fn with_signature(signature: &[u8]) -> Result<Claims, Error> {
    verdict(&TRUSTED, &envelope(&PROTECTED, &map(&NSM.entries(&fields())), signature))
}

fn with_head(head: &[u8], parts: &[Vec<u8>]) -> Result<Claims, Error> {
    verdict(&TRUSTED, &[head, &parts.concat()].concat())
}

#[test]
fn the_tag_may_be_there_or_not() {
    with_head(&[0x84], &parts()).unwrap();
    with_head(&[0xd2, 0x84], &parts()).unwrap();
    with_head(&[0xd8, 18, 0x84], &parts()).unwrap();
}

#[test]
fn the_tag_of_another_message_is_refused() {
    for tag in [0, 16, 17, 19, 97, 98] {
        assert_refused!(with_head(&[0xd8, tag, 0x84], &parts()), Error::Envelope(EnvelopeError::Tag(actual)) if *actual == u64::from(tag));
    }
    assert_refused!(
        with_head(&[0xd8, 98, 0x84], &parts()),
        Error::Envelope(EnvelopeError::Tag(98)),
        "COSE_Sign1: tag 98, expected 18 or none"
    );
}

#[test]
fn a_tag_around_the_tag_is_refused() {
    assert_refused!(
        with_head(&[0xd2, 0xd2, 0x84], &parts()),
        Error::Envelope(EnvelopeError::Cbor { part: "document", expected: "array", .. })
    );
}

#[test]
fn an_array_of_another_length_than_four_is_refused() {
    let [protected, unprotected, payload, signature] = parts();
    let three = [protected.clone(), unprotected.clone(), payload.clone()];
    let five = [protected, unprotected, payload, signature.clone(), signature];
    assert_refused!(
        with_head(&[0x83], &three),
        Error::Envelope(EnvelopeError::Parts(Some(3))),
        "COSE_Sign1: an array of 3, expected an array of 4"
    );
    assert_refused!(with_head(&[0x85], &five), Error::Envelope(EnvelopeError::Parts(Some(5))));
    assert_refused!(
        with_head(&[0x9f], &[parts().concat(), vec![0xff]]),
        Error::Envelope(EnvelopeError::Parts(None)),
        "COSE_Sign1: an array of unknown length, expected an array of 4"
    );
}

#[test]
fn a_part_of_another_type_is_refused() {
    let null = null();
    let chunked = [&[0x5f][..], &parts()[2], &[0xff]].concat();
    for (index, value, part) in [
        (0, PROTECTED.to_vec(), "protected header"),
        (0, null.clone(), "protected header"),
        (1, bytes(&[0xa0]), "unprotected header"),
        (1, null.clone(), "unprotected header"),
        (2, null.clone(), "payload"),
        (2, map(&NSM.entries(&fields())), "payload"),
        (2, chunked, "payload"),
        (3, null, "signature"),
        (3, cbor("signature"), "signature"),
    ] {
        let mut parts = parts();
        parts[index] = value;
        assert_refused!(with_head(&[0x84], &parts), Error::Envelope(EnvelopeError::Cbor { part: actual, .. }) if *actual == part);
    }
}

#[test]
fn a_truncated_document_is_refused_as_cbor() {
    let document = NSM.sign(&fields());
    for len in 1..document.len() {
        assert_refused!(verdict(&TRUSTED, &document[..len]), Error::Envelope(EnvelopeError::Cbor { .. }));
    }
}

#[test]
fn bytes_after_a_document_are_refused() {
    let document = NSM.sign(&fields());
    assert_refused!(
        verdict(&TRUSTED, &[&document, &[0][..]].concat()),
        Error::Envelope(EnvelopeError::Trailing(1)),
        "COSE_Sign1: 1 trailing bytes, expected none"
    );
    let twice = [document.clone(), document.clone()].concat();
    assert_refused!(verdict(&TRUSTED, &twice), Error::Envelope(EnvelopeError::Trailing(len)) if *len == document.len());
}

#[test]
fn another_algorithm_than_es384_is_refused() {
    for (algorithm, header) in [
        (-7, &[0xa1, 1, 0x26][..]),
        (-36, &[0xa1, 1, 0x38, 0x23]),
        (-8, &[0xa1, 1, 0x27]),
        (-1, &[0xa1, 1, 0x20]),
        (0, &[0xa1, 1, 0]),
        (5, &[0xa1, 1, 5]),
        (35, &[0xa1, 1, 0x18, 35]),
    ] {
        assert_refused!(with_protected(header), Error::Envelope(EnvelopeError::Algorithm(actual)) if *actual == algorithm);
    }
    assert_refused!(
        with_protected(&[0xa1, 1, 0x26]),
        Error::Envelope(EnvelopeError::Algorithm(-7)),
        "COSE_Sign1: algorithm -7, expected -35 (ES384)"
    );
}

#[test]
fn an_algorithm_given_by_name_or_beyond_all_numbers_is_refused() {
    let beyond = [&[0xa1, 1, 0x3b][..], &[0xff; 8]].concat();
    for header in [&[0xa1, 1, 0x65, b'E', b'S', b'3', b'8', b'4'][..], &[0xa1, 1, 0xf6], &beyond] {
        assert_refused!(
            with_protected(header),
            Error::Envelope(EnvelopeError::Cbor { part: "protected header", expected: "algorithm's number", .. })
        );
    }
}

#[test]
fn a_protected_header_with_anything_but_the_algorithm_once_is_refused() {
    for header in [
        &[0xa0][..],                           // nothing
        &[0xa1, 2, 0x38, 0x22],                // another parameter
        &[0xa2, 1, 0x38, 0x22, 1, 0x38, 0x22], // twice
        &[0xa2, 1, 0x38, 0x22, 4, 0x41, 0],    // a key's name too
        &[0xbf, 1, 0x38, 0x22, 0xff],          // until a break
        &[0xa1, 1, 0x38, 0x22, 0],             // a trailing byte
    ] {
        assert_refused!(with_protected(header), Error::Envelope(EnvelopeError::ProtectedHeader));
    }
    assert_refused!(
        with_protected(&[0xa0]),
        Error::Envelope(EnvelopeError::ProtectedHeader),
        "COSE_Sign1: protected header: expected the algorithm and nothing else"
    );
}

#[test]
fn a_protected_header_that_is_not_a_map_of_numbers_is_refused() {
    for header in
        [&[][..], &[0x81, 1], &[0xa1, 0x63, b'a', b'l', b'g', 0x38, 0x22], &[0xa1], &[0xa1, 1], &[0xa1, 1, 0x38]]
    {
        assert_refused!(with_protected(header), Error::Envelope(EnvelopeError::Cbor { part: "protected header", .. }));
    }
}

#[test]
fn an_algorithm_that_is_not_signed_does_not_count() {
    let payload = map(&NSM.entries(&fields()));
    for header in [&[0xa0][..], &[]] {
        let parts = [bytes(header), PROTECTED.to_vec(), bytes(&payload), bytes(&NSM.signature(header, &payload))];
        assert_refused!(with_head(&[0x84], &parts), Error::Envelope(_));
    }
}

#[test]
fn an_unprotected_header_is_empty_and_its_map_of_either_length() {
    let with_unprotected = |header: &[u8]| {
        let mut parts = parts();
        parts[1] = header.to_vec();
        with_head(&[0x84], &parts)
    };
    with_unprotected(&[0xa0]).unwrap();
    with_unprotected(&[0xbf, 0xff]).unwrap();
    for header in [&[0xa1, 1, 0x38, 0x22][..], &[0xbf, 1, 0x38, 0x22, 0xff]] {
        assert_refused!(
            with_unprotected(header),
            Error::Envelope(EnvelopeError::UnprotectedHeader),
            "COSE_Sign1: unprotected header: expected none"
        );
    }
}

#[test]
fn a_signature_of_another_length_than_96_is_refused() {
    let payload = map(&NSM.entries(&fields()));
    let signature = NSM.signature(&PROTECTED, &payload);
    assert_refused!(
        with_signature(&signature[..95]),
        Error::Envelope(EnvelopeError::SignatureLength(95)),
        "COSE_Sign1: a signature of 95 bytes, expected 96"
    );
    assert_refused!(
        with_signature(&[&signature[..], &[0]].concat()),
        Error::Envelope(EnvelopeError::SignatureLength(97))
    );
    assert_refused!(with_signature(&[]), Error::Envelope(EnvelopeError::SignatureLength(0)));
}

#[test]
fn a_signature_in_der_is_refused_though_it_is_one() {
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_ASN1_SIGNING, NSM.key.serialized_der()).unwrap();
    let message = signed_bytes(&PROTECTED, &map(&NSM.entries(&fields())));
    let signature = key.sign(&SystemRandom::new(), &message).unwrap();
    assert_refused!(
        with_signature(signature.as_ref()),
        Error::Envelope(EnvelopeError::SignatureLength(len)) if *len == signature.as_ref().len()
    );
}

#[test]
fn a_signature_of_another_key_is_refused() {
    let payload = map(&NSM.entries(&fields()));
    assert_refused!(
        with_signature(&TestRoot::new(now()).signature(&PROTECTED, &payload)),
        Error::Signature,
        "the signature does not verify with the document's certificate"
    );
}

#[test]
fn a_signature_over_something_else_is_refused() {
    let payload = map(&NSM.entries(&fields()));
    let other = map(&NSM.entries(&Fields { nonce: Some(vec![1]), ..fields() }));
    assert_refused!(with_signature(&NSM.signature(&PROTECTED, &other)), Error::Signature);
    // A header that means the same, and is not the one in the document.
    assert_refused!(with_signature(&NSM.signature(&[0xa1, 1, 0x39, 0, 0x22], &payload)), Error::Signature);
    assert_refused!(with_signature(&NSM.signature(&[], &payload)), Error::Signature);
}

#[test]
fn what_is_signed_is_the_sig_structure_of_a_sign1_byte_for_byte() {
    let expected = [&[0x84, 0x6a][..], b"Signature1", &[0x44, 0xa1, 1, 0x38, 0x22], &[0x40], &[0x42, 1, 2]].concat();
    assert_eq!(signed_bytes(&PROTECTED, &[1, 2]), expected);
}

#[test]
fn a_signature_of_zeros_or_with_its_halves_swapped_is_refused() {
    assert_refused!(with_signature(&[0; 96]), Error::Signature);
    assert_refused!(with_signature(&[0xff; 96]), Error::Signature);
    let mut signature = NSM.signature(&PROTECTED, &map(&NSM.entries(&fields())));
    signature.rotate_left(48);
    assert_refused!(with_signature(&signature), Error::Signature);
}
