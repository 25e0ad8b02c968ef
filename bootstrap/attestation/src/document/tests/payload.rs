//! The payload: nine keys, each once, each of its type and within its limits.

use super::*;
use crate::test_root::{bytes, cbor, null, pcrs};

/// The keys with limits for their bytes.
const LIMITED: [(&str, [usize; 2]); 4] =
    [("certificate", [1, 1024]), ("public_key", [1, 1024]), ("user_data", [0, 512]), ("nonce", [0, 512])];

fn with(key: &str, value: &[u8]) -> Result<Claims, Error> {
    verdict_of(&entries_with(key, value))
}

fn with_pcrs<'a>(registers: impl Iterator<Item = (u64, &'a [u8])>) -> Result<Claims, Error> {
    with("pcrs", &pcrs(registers))
}

fn sixteen<'a>() -> impl Iterator<Item = (u64, &'a [u8])> {
    (0..16).map(|index| (index, &[7; 48][..]))
}

#[test]
fn six_keys_are_required() {
    for missing in ["module_id", "digest", "timestamp", "pcrs", "certificate", "cabundle"] {
        let mut entries = NSM.entries(&fields());
        entries.retain(|(key, _)| *key != missing);
        assert_refused!(
            verdict_of(&entries),
            Error::Payload(PayloadError::Missing(key)) if *key == missing,
            format!("payload: {missing} is missing")
        );
    }
}

#[test]
fn three_keys_may_be_missing_or_null() {
    for optional in ["public_key", "user_data", "nonce"] {
        let mut entries = entries_with(optional, &null());
        let claims = verdict_of(&entries).unwrap();
        assert_eq!((claims.public_key, claims.user_data, claims.nonce), (None, None, None));
        entries.retain(|(key, _)| *key != optional);
        verdict_of(&entries).unwrap();
    }
}

#[test]
fn a_key_with_a_value_of_another_type_is_refused() {
    let (null, number, text, byte) = (null(), cbor(1), cbor("SHA384"), bytes(&[1]));
    let chunked = [&[0x5f][..], &byte, &[0xff]].concat();
    let chunked_text = [&[0x7f][..], &text, &[0xff]].concat();
    for (key, values) in [
        ("module_id", vec![&byte, &number, &null, &chunked_text]),
        ("digest", vec![&byte, &number, &null, &chunked_text]),
        ("timestamp", vec![&text, &byte, &null]),
        ("pcrs", vec![&text, &byte, &number, &null]),
        ("certificate", vec![&text, &number, &null, &chunked]),
        ("cabundle", vec![&text, &byte, &number, &null]),
        ("public_key", vec![&text, &number, &chunked]),
        ("user_data", vec![&text, &number, &chunked]),
        ("nonce", vec![&text, &number, &chunked]),
    ] {
        for value in values {
            assert_refused!(with(key, value), Error::Payload(PayloadError::Cbor { key: named, .. }) if *named == key);
        }
    }
}

#[test]
fn a_key_that_is_empty_where_it_must_not_be_is_refused() {
    assert_refused!(
        with("module_id", &cbor("")),
        Error::Payload(PayloadError::ModuleId),
        "payload: module_id is empty"
    );
    assert_refused!(with("digest", &cbor("")), Error::Payload(PayloadError::Digest(digest)) if digest.is_empty());
    assert_refused!(with("pcrs", &[0xa0]), Error::Payload(PayloadError::MissingPcr(0)));
    assert_refused!(
        with("cabundle", &[0x80]),
        Error::Payload(PayloadError::CabundleCount(0)),
        "payload: cabundle of none, expected 1 to 8 certificates"
    );
    assert_refused!(with("cabundle", &[0x9f, 0xff]), Error::Payload(PayloadError::CabundleCount(0)));
}

#[test]
fn bytes_beyond_a_key_s_limits_are_refused() {
    for (key, [least, most]) in LIMITED {
        for len in [most + 1, most + 100].into_iter().chain(least.checked_sub(1)) {
            assert_refused!(
                with(key, &bytes(&vec![1; len])),
                Error::Payload(PayloadError::Length { key: named, len: actual, .. }) if (*named, *actual) == (key, len),
                format!("payload: {key} of {len} bytes, expected {least} to {most}")
            );
        }
    }
}

#[test]
fn bytes_at_a_key_s_limits_are_right() {
    for (key, limits) in LIMITED.into_iter().filter(|(key, _)| *key != "certificate") {
        for len in limits {
            with(key, &bytes(&vec![1; len])).unwrap();
        }
    }
    // Long enough for the payload, and no certificate.
    for len in [1, 1024] {
        assert_refused!(with("certificate", &bytes(&vec![1; len])), Error::Chain(ChainError::Certificate { .. }));
    }
}

#[test]
fn an_entry_of_cabundle_beyond_its_limits_is_refused() {
    let root = NSM.cabundle[0].clone();
    for len in [0, 1025] {
        let bundle = [root.clone(), vec![0x30; len]];
        assert_refused!(
            with("cabundle", &array(bundle.iter().map(Vec::as_slice))),
            Error::Payload(PayloadError::Length { key: "cabundle", .. }),
            format!("payload: cabundle of {len} bytes, expected 1 to 1024")
        );
    }
}

#[test]
fn a_cabundle_of_more_than_eight_is_refused() {
    let nine = array([&[0x30][..]; 9].into_iter());
    assert_refused!(
        with("cabundle", &nine),
        Error::Payload(PayloadError::CabundleCount(9)),
        "payload: cabundle of more, expected 1 to 8 certificates"
    );
}

#[test]
fn a_duplicate_key_is_refused_whatever_its_second_value() {
    for (key, value) in NSM.entries(&fields()) {
        let mut entries = NSM.entries(&fields());
        entries.push((key, value));
        assert_refused!(
            verdict_of(&entries),
            Error::Payload(PayloadError::DuplicateKey(named)) if *named == key,
            format!("payload: duplicate key {key}")
        );
    }
    for optional in ["public_key", "user_data", "nonce"] {
        let mut entries = entries_with(optional, &bytes(&[1]));
        entries.push((optional, null()));
        assert_refused!(verdict_of(&entries), Error::Payload(PayloadError::DuplicateKey(_)));
    }
}

#[test]
fn an_unknown_key_is_refused() {
    for key in ["Nonce", "nonce ", "", "pcr", "user_data\0"] {
        let mut entries = NSM.entries(&fields());
        entries.push((key, cbor(1)));
        assert_refused!(verdict_of(&entries), Error::Payload(PayloadError::UnknownKey(named)) if named == key);
    }
    let mut entries = NSM.entries(&fields());
    entries.push(("version", cbor(1)));
    assert_refused!(
        verdict_of(&entries),
        Error::Payload(PayloadError::UnknownKey(_)),
        "payload: unknown key \"version\", expected the nine of AWS's specification"
    );
}

#[test]
fn another_digest_than_sha384_is_refused() {
    for digest in ["SHA256", "SHA512", "sha384", "SHA-384", "SHA384 "] {
        assert_refused!(with("digest", &cbor(digest)), Error::Payload(PayloadError::Digest(named)) if named == digest);
    }
    assert_refused!(
        with("digest", &cbor("SHA256")),
        Error::Payload(PayloadError::Digest(_)),
        "payload: digest \"SHA256\", expected \"SHA384\""
    );
}

#[test]
fn a_timestamp_of_zero_is_refused() {
    assert_refused!(
        with("timestamp", &cbor(0)),
        Error::Payload(PayloadError::Timestamp(0)),
        "payload: timestamp 0, expected milliseconds since 1970"
    );
}

#[test]
fn a_timestamp_that_is_not_an_unsigned_number_of_64_bits_is_refused() {
    // -1, 1.5, 2^64 as a bignum, an hour as tagged date.
    for value in [&[0x20][..], &[0xf9, 0x3e, 0], &[0xc2, 0x49, 1, 0, 0, 0, 0, 0, 0, 0, 0], &[0xc1, 0x19, 0x0e, 0x10]] {
        assert_refused!(with("timestamp", value), Error::Payload(PayloadError::Cbor { key: "timestamp", .. }));
    }
}

#[test]
fn sixteen_registers_are_required_and_sixteen_more_allowed() {
    with_pcrs(sixteen()).unwrap();
    for missing in 0..16 {
        assert_refused!(
            with_pcrs(sixteen().filter(|(index, _)| *index != u64::from(missing))),
            Error::Payload(PayloadError::MissingPcr(index)) if *index == missing,
            format!("payload: pcrs[{missing}] is missing")
        );
    }
    let all = with_pcrs((0..32).map(|index| (index, &[7; 48][..]))).unwrap();
    assert_eq!(all.pcrs.len(), 32);
}

#[test]
fn a_register_of_another_length_than_48_is_refused() {
    // AWS's rules know 32 and 64 as well, for digests that no NSM has.
    for len in [0, 32, 47, 49, 64] {
        for index in [0, 15, 31] {
            let value = vec![7; len];
            let others = sixteen().filter(|(other, _)| *other != index);
            assert_refused!(
                with_pcrs(others.chain([(index, value.as_slice())])),
                Error::Payload(PayloadError::PcrLength { .. }),
                format!("payload: pcrs[{index}] of {len} bytes, expected 48")
            );
        }
    }
}

#[test]
fn a_register_with_a_number_beyond_31_is_refused() {
    for index in [32, 255, 256, 1 << 32, u64::MAX] {
        assert_refused!(
            with_pcrs(sixteen().chain([(index, &[7; 48][..])])),
            Error::Payload(PayloadError::PcrIndex(named)) if *named == index,
            format!("payload: pcrs[{index}], expected 0 to 31")
        );
    }
}

#[test]
fn a_duplicate_register_is_refused() {
    for index in [0, 15] {
        assert_refused!(
            with_pcrs(sixteen().chain([(index, &[7; 48][..])])),
            Error::Payload(PayloadError::DuplicatePcr(named)) if u64::from(*named) == index,
            format!("payload: duplicate pcrs[{index}]")
        );
    }
    // The same number, spelled with a byte more.
    let mut value = pcrs(sixteen());
    value[0] += 1;
    value.extend([0x18, 0x03]);
    value.extend(bytes(&[8; 48]));
    assert_refused!(with("pcrs", &value), Error::Payload(PayloadError::DuplicatePcr(3)));
}

#[test]
fn a_register_with_another_type_of_number_or_value_is_refused() {
    for entry in [
        [cbor("16"), bytes(&[7; 48])].concat(),
        [cbor(-1), bytes(&[7; 48])].concat(),
        [bytes(&[16]), bytes(&[7; 48])].concat(),
        [cbor(16), cbor("7".repeat(48))].concat(),
        [cbor(16), null()].concat(),
    ] {
        let mut value = pcrs(sixteen());
        value[0] += 1;
        value.extend(entry);
        assert_refused!(with("pcrs", &value), Error::Payload(PayloadError::Cbor { key: "pcrs", .. }));
    }
}
