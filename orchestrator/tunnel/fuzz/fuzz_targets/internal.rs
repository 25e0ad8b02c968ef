//! Any bytes are refused, or are exactly the bytes that the message they say would have.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tunnel::internal::{FromSigner, ToRelay, ToSigner};
use tunnel::message::{Message, decode, encode};

fuzz_target!(|bytes: &[u8]| {
    check::<ToRelay>(bytes);
    check::<FromSigner>(bytes);
    check::<ToSigner>(bytes);
});

fn check<M: Message>(bytes: &[u8]) {
    if let Ok(message) = decode::<M>(bytes) {
        assert_eq!(encode(&message).unwrap(), bytes);
    }
}
