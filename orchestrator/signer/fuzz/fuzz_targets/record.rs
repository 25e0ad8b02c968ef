//! Any bytes in the ledger are no record without the key; whatever is sealed is read back.
#![no_main]

use aws_lc_rs::hmac::{HMAC_SHA256, Key};
use ethereum::address::Address;
use libfuzzer_sys::fuzz_target;
use signer::ledger::{LeaseRecord, NonceRecord, RecordError};

fuzz_target!(|content: &[u8]| {
    let key = Key::new(HMAC_SHA256, b"a key");
    // No input has the code of a key that it does not know.
    assert!(matches!(NonceRecord::open(content, &key), Err(RecordError::Unauthenticated | RecordError::TooLong)));
    let own = Address([7; 20]);
    if let Ok(lease) = LeaseRecord::open(content, &key, own) {
        assert_ne!(lease.key, own);
        assert_eq!(LeaseRecord::open(&lease.seal(&key), &key, own), Ok(lease));
    }
});
