//! Arbitrary bytes give an error with a text, or claims within AWS's limits at any time within the certificate's
//! validity. The real documents in `tests` are a good seed corpus.
#![no_main]

use std::sync::LazyLock;

use attestation::{At, TrustRoot, decode, verify};
use libfuzzer_sys::fuzz_target;

static AWS: LazyLock<TrustRoot> = LazyLock::new(TrustRoot::aws);

fuzz_target!(|bytes: &[u8]| {
    match decode(bytes) {
        Ok(document) => assert!(!document.is_empty() && document.len() <= bytes.len()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let claims = match verify(bytes, &AWS, At::Document) {
        Ok(claims) => claims,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert!((0..16).all(|index| claims.pcrs.contains_key(&index)));
    assert!(claims.pcrs.keys().all(|index| *index < 32));
    assert!(!claims.module_id.is_empty());
    assert!(claims.public_key.as_ref().is_none_or(|key| (1..=1024).contains(&key.len())));
    assert!([&claims.user_data, &claims.nonce].into_iter().flatten().all(|bytes| bytes.len() <= 512));
    for time in [claims.not_before, claims.timestamp, claims.not_after] {
        assert_eq!(verify(bytes, &AWS, At::Time(time)).unwrap(), claims);
    }
});
