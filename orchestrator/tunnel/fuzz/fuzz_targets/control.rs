//! Any bytes are refused, or are a message that survives being sent.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tunnel::control::{ToEnclave, ToGateway, decode, encode};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(message) = decode::<ToEnclave>(bytes) {
        if let Ok(sent) = encode(&message) {
            assert_eq!(decode::<ToEnclave>(&sent[2..]).unwrap(), message);
        }
    }
    if let Ok(message) = decode::<ToGateway>(bytes) {
        if let Ok(sent) = encode(&message) {
            assert_eq!(decode::<ToGateway>(&sent[2..]).unwrap(), message);
        }
    }
});
