use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::Recipient;
use crate::seal::{Form, encode, seal, wrap};

const REAL: &[u8] = include_bytes!("../../tests/vectors/ciphertext-for-recipient.ber");
const REAL_KEY: &[u8] = include_bytes!("../../tests/vectors/published-private-key.pkcs8.der");
const REAL_PLAINTEXT: &[u8] = include_bytes!("../../tests/vectors/plaintext.bin");
const FORMS: [Form; 4] = [Form::Definite, Form::Indefinite, Form::Pieces(16), Form::Pieces(5)];

static RECIPIENT: LazyLock<Recipient> = LazyLock::new(|| Recipient::generate().unwrap());

fn opened(recipient: &Recipient, message: &[u8]) -> Result<Vec<u8>, CmsError> {
    recipient.open(message).map(|plaintext| plaintext.expose().to_vec())
}

fn refused(message: &[u8]) -> CmsError {
    opened(&RECIPIENT, message).unwrap_err()
}

fn sealed() -> EnvelopedData {
    seal(RECIPIENT.public_key(), b"0123456789abcdef").unwrap()
}

/// A message with `from` replaced, where the last of it is.
fn changed(from: &[u8], to: &[u8]) -> Vec<u8> {
    let message = encode(&sealed(), Form::Definite);
    let at = message.windows(from.len()).rposition(|window| window == from).unwrap();
    [&message[..at], to, &message[at + from.len()..]].concat()
}

#[test]
fn what_kms_answered_opens() {
    let recipient = Recipient::from_pkcs8(REAL_KEY).unwrap();
    assert_eq!(opened(&recipient, REAL).unwrap(), REAL_PLAINTEXT);
    assert_eq!(encode(&parse(REAL).unwrap(), Form::Indefinite), REAL, "seal writes what KMS writes");
}

#[test]
fn a_message_opens_in_every_form_and_length() {
    for length in [0, 1, 15, 16, 17, 64, 4096] {
        let plaintext: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let message = seal(RECIPIENT.public_key(), &plaintext).unwrap();
        for form in FORMS {
            assert_eq!(opened(&RECIPIENT, &encode(&message, form)).unwrap(), plaintext, "{length} bytes, {form:?}");
        }
    }
}

#[test]
fn a_message_cut_anywhere_is_refused_before_anything_is_decrypted() {
    for message in FORMS.map(|form| encode(&sealed(), form)).iter().map(Vec::as_slice).chain([REAL]) {
        for length in 0..message.len() {
            let error = refused(&message[..length]);
            assert!(matches!(error, CmsError::Malformed { .. }), "{length} of {} bytes: {error:?}", message.len());
        }
    }
}

#[test]
fn no_flipped_bit_makes_it_panic_or_changes_whom_it_is_for() {
    let recipient = Recipient::from_pkcs8(REAL_KEY).unwrap();
    let whom = parse(REAL).unwrap().key_identifier;
    for bit in 0..REAL.len() * 8 {
        let mut message = REAL.to_vec();
        message[bit / 8] ^= 1 << (bit % 8);
        if let Ok(parsed) = parse(&message)
            && parsed.key_identifier != whom
        {
            assert!(matches!(recipient.open(&message).err(), Some(CmsError::OtherRecipient)), "bit {bit}");
        }
    }
    // RSA is slow in debug builds, and the other bits have just been parsed.
    for byte in (0..REAL.len()).step_by(7) {
        let mut message = REAL.to_vec();
        message[byte] ^= 0x10;
        drop(recipient.open(&message));
    }
}

#[test]
fn bytes_behind_anything_are_refused() {
    for form in FORMS {
        let message = encode(&sealed(), form);
        let error = refused(&[&message[..], &[0]].concat());
        assert_eq!(error, CmsError::Malformed { field: "CMS", problem: BerError::Trailing(1) });
    }
    let message = encode(&sealed(), Form::Indefinite);
    let inside = [&message[..message.len() - 2], &[0x05, 0, 0, 0]].concat();
    assert_eq!(refused(&inside), CmsError::Malformed { field: "ContentInfo", problem: BerError::Trailing(2) });
    let attributes = [&message[..message.len() - 6], &[0xa1, 0], &[0; 6][..]].concat();
    assert_eq!(refused(&attributes), CmsError::Malformed { field: "EnvelopedData", problem: BerError::Trailing(2) });
}

/// The elements with open ends wherever they are made of others, and a NULL at the end of the `place`th of those.
fn with_null(elements: &[u8], place: &mut usize) -> Vec<u8> {
    let (mut reader, mut bytes) = (Reader::new(elements), Vec::new());
    while !reader.is_empty() {
        let element = reader.element().unwrap();
        if element.tag == Tag(element.tag.0).constructed() {
            let null: &[u8] = if *place == 0 { &[0x05, 0] } else { &[] };
            *place = place.wrapping_sub(1);
            let inside = with_null(element.content, place);
            bytes.extend([&[element.tag.0, 0x80], &inside[..], null, &[0, 0]].concat());
        } else {
            let length = u16::try_from(element.content.len()).unwrap().to_be_bytes();
            bytes.extend([&[element.tag.0, 0x82], &length[..], element.content].concat());
        }
    }
    bytes
}

#[test]
fn a_field_too_many_is_refused_in_every_structure() {
    let message = encode(&sealed(), Form::Definite);
    let structures = 14;
    for place in 0..structures {
        let error = refused(&with_null(&message, &mut { place }));
        let is_named =
            matches!(error, CmsError::Malformed { problem: BerError::Trailing(_), .. } | CmsError::Recipients(2));
        assert!(is_named, "in structure {place}: {error:?}");
    }
    assert!(opened(&RECIPIENT, &with_null(&message, &mut { structures })).is_ok(), "there are more structures");
}

#[test]
fn another_type_or_algorithm_is_named() {
    let signed_data = b"\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02";
    let pkcs1 = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";
    let aes_128_cbc = b"\x60\x86\x48\x01\x65\x03\x04\x01\x02";
    let sha384 = b"\x60\x86\x48\x01\x65\x03\x04\x02\x02";
    for (from, to, expected) in [
        (ENVELOPED_DATA, signed_data, "contentType is not id-envelopedData"),
        (DATA, signed_data, "encryptedContentInfo's contentType is not id-data"),
        (RSAES_OAEP, pkcs1, "keyEncryptionAlgorithm is not RSAES-OAEP"),
        (MGF1, pkcs1, "maskGenAlgorithm is not MGF1"),
        (SHA256, sha384, "MGF1's hashAlgorithm is not SHA-256"),
        (AES_256_CBC, aes_128_cbc, "contentEncryptionAlgorithm is not AES-256-CBC"),
    ] {
        assert_eq!(refused(&changed(from, to)).to_string(), expected);
    }
    let (first, second) = ([0xa0, 15, 0x30, 13, 0x06, 9].as_slice(), [SHA256, &[0x05, 0]].concat());
    let hash = changed(&[first, &second].concat(), &[first, sha384, &[0x05, 0]].concat());
    assert_eq!(refused(&hash).to_string(), "hashAlgorithm is not SHA-256");
}

#[test]
fn oaep_without_its_parameters_would_mean_sha1_and_is_refused() {
    // The same length, so that nothing around it changes: an unknown element in place of a parameter.
    for (parameter, field) in [(0xa0, "hashAlgorithm"), (0xa1, "maskGenAlgorithm")] {
        let length = if parameter == 0xa0 { 15 } else { 28 };
        let error = refused(&changed(&[parameter, length, 0x30], &[0xa3, length, 0x30]));
        let problem = BerError::Tag { found: 0xa3, expected: parameter };
        assert_eq!(error, CmsError::Malformed { field, problem });
    }
}

#[test]
fn another_version_is_named() {
    let recipient = refused(&changed(&[0x02, 1, 2, 0x80, 32], &[0x02, 1, 0, 0x80, 32]));
    assert_eq!(recipient, CmsError::Version { field: "KeyTransRecipientInfo's version" });
    let outer = refused(&changed(&[0x02, 1, 2, 0x31], &[0x02, 1, 0, 0x31]));
    assert_eq!(outer, CmsError::Version { field: "EnvelopedData's version" });
}

#[test]
fn exactly_one_recipient_named_by_its_hash_is_accepted() {
    let message = encode(&sealed(), Form::Indefinite);
    let start = message.windows(2).position(|window| window == [0x31, 0x82]).unwrap();
    let length = usize::from(u16::from_be_bytes([message[start + 2], message[start + 3]]));
    let (before, after) = (&message[..start], &message[start + 4 + length..]);
    let recipient = &message[start + 4..start + 4 + length];

    assert_eq!(refused(&[before, &[0x31, 0], after].concat()), CmsError::Recipients(0));
    let twice = [before, &[0x31, 0x80], recipient, recipient, &[0, 0], after].concat();
    assert_eq!(refused(&twice), CmsError::Recipients(2));
    assert_eq!(refused(&changed(&[0x02, 1, 2, 0x80, 32], &[0x02, 1, 2, 0x04, 32])), CmsError::RecipientName);
}

#[test]
fn a_message_for_another_key_is_named() {
    let other = Recipient::generate().unwrap();
    let message = seal(other.public_key(), b"not for us").unwrap();
    assert_eq!(refused(&encode(&message, Form::Indefinite)), CmsError::OtherRecipient);
    assert_eq!(refused(REAL), CmsError::OtherRecipient);
}

#[test]
fn a_key_or_padding_that_is_wrong_is_one_error() {
    let other = Recipient::generate().unwrap();
    let good = sealed();
    let foreign_key = EnvelopedData { encrypted_key: wrap(other.public_key(), &[1; 32]).unwrap(), ..good.clone() };
    let not_oaep = EnvelopedData { encrypted_key: vec![1; 256], ..good.clone() };
    let beyond_modulus = EnvelopedData { encrypted_key: vec![0xff; 256], ..good.clone() };
    let short_key = EnvelopedData { encrypted_key: wrap(RECIPIENT.public_key(), &[1; 16]).unwrap(), ..good.clone() };
    let no_key = EnvelopedData { encrypted_key: wrap(RECIPIENT.public_key(), &[]).unwrap(), ..good.clone() };
    // Without its last block, what ends the content is `f`, which is no padding.
    let bad_padding = EnvelopedData { encrypted_content: good.encrypted_content[..16].to_vec(), ..good };
    for message in [foreign_key, not_oaep, beyond_modulus, short_key, no_key, bad_padding] {
        assert_eq!(refused(&encode(&message, Form::Indefinite)), CmsError::Undecryptable);
    }
}

/// One in 256 random keys leaves what looks like padding: that must not pass for a plaintext.
#[test]
fn the_key_that_stands_in_for_a_bad_one_never_opens_a_message() {
    let mut message = sealed();
    message.encrypted_key = wrap(RECIPIENT.public_key(), &[1; 16]).unwrap();
    let bytes = encode(&message, Form::Definite);
    for _ in 0..2_000 {
        assert_eq!(refused(&bytes), CmsError::Undecryptable);
    }
}

#[test]
fn lengths_that_cannot_be_are_named() {
    let good = sealed();
    let encoded = |message: &EnvelopedData| encode(message, Form::Pieces(7));
    let mut message = good.clone();
    message.encrypted_key.pop();
    assert_eq!(refused(&encoded(&message)), CmsError::EncryptedKey { found: 255, expected: 256 });
    message = good.clone();
    message.encrypted_content.pop();
    assert_eq!(refused(&encoded(&message)), CmsError::EncryptedContent(31));
    message.encrypted_content.clear();
    assert_eq!(refused(&encoded(&message)), CmsError::EncryptedContent(0));
    message.encrypted_content = vec![0; MAX_LEN];
    assert!(matches!(refused(&encoded(&message)), CmsError::TooLong(_)));
    let problem = BerError::Size { found: 31, expected: 32 };
    let short = changed(&[0x02, 1, 2, 0x80, 32], &[0x02, 1, 2, 0x80, 31]);
    assert_eq!(refused(&short), CmsError::Malformed { field: "subjectKeyIdentifier", problem });
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        drop(parse(&bytes));
    }

    #[test]
    fn a_message_with_changes_anywhere_is_refused_or_says_the_same_however_it_is_written(
        changes in proptest::collection::vec((0..REAL.len(), any::<u8>(), 0_u8..3), 1..6),
    ) {
        let mut bytes = REAL.to_vec();
        for (at, byte, kind) in changes {
            let at = at.min(bytes.len() - 1);
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        if let Ok(message) = parse(&bytes) {
            prop_assert_eq!(parse(&encode(&message, Form::Definite)).unwrap(), message);
        }
    }

    #[test]
    fn what_is_written_is_what_is_read(
        key_identifier: [u8; 32],
        encrypted_key in proptest::collection::vec(any::<u8>(), 0..300),
        initialisation_vector: [u8; 16],
        blocks in proptest::collection::vec(any::<[u8; 16]>(), 1..40),
        piece in 0_usize..100,
    ) {
        let encrypted_content = blocks.concat();
        let message = EnvelopedData { key_identifier, encrypted_key, initialisation_vector, encrypted_content };
        for form in [Form::Definite, Form::Indefinite, Form::Pieces(piece)] {
            prop_assert_eq!(parse(&encode(&message, form)).unwrap(), message.clone());
        }
    }
}
