//! Any bytes are refused, or are exactly the bytes that the message they say would have.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tunnel::control::{ToEnclave, ToGateway};
use tunnel::log::Line;
use tunnel::message::{Message, decode, encode};

fuzz_target!(|bytes: &[u8]| {
    check::<ToEnclave>(bytes);
    check::<ToGateway>(bytes);
    check::<Line>(bytes);
});

fn check<M: Message>(bytes: &[u8]) {
    if let Ok(message) = decode::<M>(bytes) {
        assert_eq!(encode(&message).unwrap(), bytes);
    }
}
