//! Any bytes are calls of JSON-RPC that can be answered in JSON, or refused with a short error; what is to be signed in
//! them can be signed so that the signature passes its own check.
#![no_main]

use std::sync::LazyLock;

use ethereum::key::SecretKey;
use ethereum::signable::Unsigned;
use ethereum::signature::UnsignedTransaction;
use ethereum::transaction::{MAX_CHAIN_ID, MAX_NONCE};
use libfuzzer_sys::fuzz_target;
use signer_api::rpc::signed::SignedJson;
use signer_api::rpc::{Body, Call, Id, MAX_BATCH, RpcError, Signing, TransactionCall, answer, is_rpc};

static KEY: LazyLock<SecretKey> = LazyLock::new(|| SecretKey::parse("01".repeat(32).as_bytes()).unwrap());

fuzz_target!(|bytes: &[u8]| {
    let _is_rpc = is_rpc(bytes);
    match Body::parse(bytes) {
        Ok(Body::Single(text)) => read(text),
        Ok(Body::Batch(calls)) => {
            assert!((1..=MAX_BATCH).contains(&calls.len()));
            calls.into_iter().for_each(|call| read(call.get()));
        }
        Err(error) => refused(Id::NULL, &error),
    }
});

fn read(text: &str) {
    let call = match Call::parse(text) {
        Ok(call) => call,
        Err(malformed) => return refused(malformed.id, &malformed.error),
    };
    let id = call.id.unwrap_or(Id::NULL);
    is_json(&answer::result(id, call.params.as_json()));
    match Signing::of_method(&call.method, call.params) {
        None => {}
        Some(Ok(signing)) => drop(Unsigned::new(&signing.subject).sign(&KEY).unwrap()),
        Some(Err(error)) => return refused(id, &error.into()),
    }
    match TransactionCall::read(call.params).and_then(|call| call.transaction(Some(1))) {
        Ok(transaction) => {
            assert!((1..=MAX_CHAIN_ID).contains(&transaction.chain_id) && transaction.nonce <= MAX_NONCE);
            assert!(transaction.to.is_some() || !transaction.data.is_empty());
            let signed = UnsignedTransaction::new(&transaction).sign(&KEY).unwrap();
            SignedJson::new(&transaction, &signed).unwrap();
        }
        Err(error) => refused(id, &error.into()),
    }
}

fn refused(id: Id<'_>, error: &RpcError) {
    let answer = answer::error(id, error);
    assert!(error.code < -32000 && answer.len() < 8192);
    is_json(&answer);
}

/// Deeper than serde_json's own limit, parameters are skipped and never built.
fn is_json(text: &str) {
    serde_json::from_str::<serde::de::IgnoredAny>(text).unwrap();
}
