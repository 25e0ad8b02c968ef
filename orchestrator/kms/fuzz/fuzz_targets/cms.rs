//! Any bytes are refused, or are a message that says the same however it is written.
#![no_main]

use kms::cms::parse;
use kms::seal::{Form, encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(message) = parse(bytes) {
        for form in [Form::Definite, Form::Indefinite, Form::Pieces(64)] {
            // Pieces take more room than the message that was read.
            if encode(&message, form).len() <= kms::cms::MAX_LEN {
                assert_eq!(parse(&encode(&message, form)).unwrap(), message);
            }
        }
    }
});
