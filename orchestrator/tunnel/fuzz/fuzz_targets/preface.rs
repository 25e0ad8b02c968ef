//! Any eight bytes are refused, or are exactly the bytes that the preface they say would have.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tunnel::preface::Preface;

fuzz_target!(|bytes: [u8; Preface::LEN]| {
    if let Ok(preface) = Preface::decode(bytes) {
        assert_eq!(preface.encode(), bytes);
    }
});
