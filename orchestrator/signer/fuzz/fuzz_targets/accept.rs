//! Any bytes in `Accept` are a preference that is the same in capitals, beside empty elements, and none for what is not named.
#![no_main]

use std::iter::once;

use libfuzzer_sys::fuzz_target;
use signer::service::accept::prefers_cbor;

fuzz_target!(|field: &[u8]| {
    let prefers = prefers_cbor(once(field));
    assert_eq!(prefers, prefers_cbor(once(field.to_ascii_uppercase().as_slice())));
    assert_eq!(prefers, prefers_cbor([b"".as_slice(), b" , ", field, b","].into_iter()));
    let lower_case = field.to_ascii_lowercase();
    let names = |form: &[u8]| lower_case.windows(form.len()).any(|part| part == form);
    assert!(!prefers || names(b"application/cbor") || names(b"application/json"));
});
