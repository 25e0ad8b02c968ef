//! Any eight bytes are refused, or are exactly the bytes that the header they say would have.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tunnel::via::Via;

fuzz_target!(|bytes: [u8; Via::LEN]| {
    if let Ok(via) = Via::decode(bytes) {
        assert_eq!(via.encode(), bytes);
    }
});
