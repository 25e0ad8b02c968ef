//! How the payload is written: lengths definite or not, any order, nothing cut and nothing behind.

use super::*;
use crate::test_root::{bytes, cbor, null};

fn with_payload(payload: &[u8]) -> Result<Claims, Error> {
    verdict(&TRUSTED, &NSM.sign_payload(payload))
}

/// The same map, until a break: for less than 24 entries.
fn indefinite(map: &[u8]) -> Vec<u8> {
    let head = if map[0] >> 5 == 4 { 0x9f } else { 0xbf };
    [&[head], &map[1..], &[0xff]].concat()
}

#[test]
fn maps_and_arrays_are_of_definite_length_or_end_with_a_break() {
    let definite = NSM.entries(&fields());
    let expected = verdict_of(&definite).unwrap();
    assert_eq!(with_payload(&indefinite(&map(&definite))).unwrap(), expected);
    for key in ["pcrs", "cabundle"] {
        let (_, value) = definite.iter().find(|(other, _)| *other == key).unwrap();
        assert_eq!(verdict_of(&entries_with(key, &indefinite(value))).unwrap(), expected, "{key}");
    }
}

#[test]
fn keys_come_in_any_order() {
    let mut entries = NSM.entries(&fields());
    let expected = verdict_of(&entries).unwrap();
    for _ in 0..entries.len() {
        entries.rotate_left(1);
        assert_eq!(verdict_of(&entries).unwrap(), expected);
    }
    entries.reverse();
    assert_eq!(verdict_of(&entries).unwrap(), expected);
}

#[test]
fn a_payload_cut_anywhere_is_refused_as_no_cbor() {
    let definite = map(&NSM.entries(&fields()));
    for whole in [indefinite(&definite), definite] {
        for len in 0..whole.len() {
            // Refused before the signature is verified.
            let document = envelope(&PROTECTED, &whole[..len], &[0; 96]);
            assert_refused!(verdict(&TRUSTED, &document), Error::Payload(PayloadError::Cbor { .. }));
        }
    }
}

#[test]
fn bytes_behind_the_payload_s_map_are_refused() {
    let definite = map(&NSM.entries(&fields()));
    for whole in [indefinite(&definite), definite] {
        assert_refused!(
            with_payload(&[&whole[..], &[0xff, 0]].concat()),
            Error::Payload(PayloadError::Trailing(2)),
            "payload: 2 trailing bytes, expected none"
        );
    }
}

#[test]
fn a_map_that_counts_its_entries_wrongly_is_refused() {
    let mut payload = map(&NSM.entries(&fields()));
    payload[0] -= 1;
    // Without the nonce, which is null.
    assert_refused!(with_payload(&payload), Error::Payload(PayloadError::Trailing(7)));
    payload[0] += 2;
    assert_refused!(with_payload(&payload), Error::Payload(PayloadError::Cbor { key: "map", .. }));
    let endless = [&[0xbb][..], &[0xff; 8], &payload[1..]].concat();
    assert_refused!(with_payload(&endless), Error::Payload(PayloadError::Cbor { key: "map", .. }));
}

#[test]
fn an_array_or_a_map_of_registers_that_counts_wrongly_is_refused() {
    for (key, huge) in [("pcrs", 0xbb), ("cabundle", 0x9b)] {
        let entries = NSM.entries(&fields());
        let (_, value) = entries.iter().find(|(other, _)| *other == key).unwrap();
        let endless = [&[huge][..], &[0xff; 8], &value[1..]].concat();
        assert_refused!(verdict_of(&entries_with(key, &endless)), Error::Payload(PayloadError::Cbor { key: named, .. }) if *named == key);
    }
}

#[test]
fn a_payload_that_is_no_map_is_refused() {
    for payload in [&[][..], &null(), &cbor("payload"), &bytes(&[0xa0]), &array([].into_iter())] {
        assert_refused!(with_payload(payload), Error::Payload(PayloadError::Cbor { key: "map", .. }));
    }
    assert_refused!(with_payload(&[0xa0]), Error::Payload(PayloadError::Missing("digest")));
}

#[test]
fn a_key_that_is_no_text_is_refused() {
    for key in [cbor(1), bytes(b"nonce"), null()] {
        let mut payload = map(&NSM.entries(&fields()));
        payload[0] += 1;
        payload.extend(key);
        payload.extend(cbor(1));
        assert_refused!(
            with_payload(&payload),
            Error::Payload(PayloadError::Cbor { key: "map", expected: "key of text", .. })
        );
    }
}
