//! Any bytes are refused, or are a message that is written back as it was. A header alone bounds what is allocated.
#![no_main]

use home::message::{Header, MAX_DOCUMENT, Message};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((header, body)) = bytes.split_first_chunk() else { return };
    let Ok(header) = Header::decode(*header) else { return };
    assert!(header.body_len() <= MAX_DOCUMENT);
    if let Ok(message) = Message::decode(header, body.to_vec()) {
        assert_eq!(message.encode().expect("what was read can be sent"), bytes);
    }
});
