//! Any bytes are refused with a short error that names a field, or can be signed so that the signature passes its own check.
#![no_main]

use std::sync::LazyLock;

use ethereum::key::SecretKey;
use ethereum::signable::{Signable, Unsigned};
use ethereum::transaction::{MAX_CHAIN_ID, MAX_NONCE};
use libfuzzer_sys::fuzz_target;
use signer_api::request::{GenerateRequest, SignRequest};

static KEY: LazyLock<SecretKey> = LazyLock::new(|| SecretKey::parse("01".repeat(32).as_bytes()).unwrap());

fuzz_target!(|bytes: &[u8]| {
    if let Err(error) = GenerateRequest::parse(bytes) {
        assert!(!error.field.is_empty() && error.to_string().len() < 2048);
    }
    match SignRequest::parse(bytes) {
        Ok(request) => {
            let subject = request.subject;
            let Signable::Transaction(transaction) = &subject else { panic!("{subject:?}") };
            assert!((1..=MAX_CHAIN_ID).contains(&transaction.chain_id) && transaction.nonce <= MAX_NONCE);
            assert!(transaction.to.is_some() || !transaction.data.is_empty());
            Unsigned::new(&subject).sign(&KEY).unwrap();
        }
        Err(error) => assert!(!error.field.is_empty() && error.to_string().len() < 2048),
    }
});
