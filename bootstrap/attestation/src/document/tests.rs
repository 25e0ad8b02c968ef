//! Documents under a test root, each of which breaks one rule.

use std::iter::successors;
use std::sync::LazyLock;
use std::time::Duration;

use super::*;
use crate::test_root::{Fields, PROTECTED, TestRoot, array, envelope, map};

mod answer;
mod any_bytes;
mod certificate;
mod chain;
mod encoding;
mod payload;
mod sign1;

/// Asserts which rule a document breaks, and optionally the error's text with all its causes.
macro_rules! assert_refused {
    ($verdict:expr, $pattern:pat $(if $guard:expr)? $(, $text:expr)?) => {{
        let error = $verdict.expect_err("a document that breaks a rule");
        assert!(matches!(&error, $pattern $(if $guard)?), "{error:?}");
        $(assert_eq!($crate::document::tests::says(&error), $text);)?
    }};
}
use assert_refused;

/// Shared by tests of whole documents; tests of certificates create their own.
static NSM: LazyLock<TestRoot> = LazyLock::new(|| TestRoot::new(now()));
static TRUSTED: LazyLock<TrustRoot> = LazyLock::new(|| NSM.trust_root());

/// 2027-01-15, 08:00:00 UTC.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn fields() -> Fields {
    Fields::new(now())
}

/// Verifies a document now, under `root`.
fn verdict(root: &TrustRoot, document: &[u8]) -> Result<Claims, Error> {
    verify(document, root, At::Time(now()))
}

fn says(error: &Error) -> String {
    let causes = successors(Some(error as &dyn std::error::Error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// A valid payload's keys, one of them with another value.
fn entries_with(key: &str, value: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut entries = NSM.entries(&fields());
    let entry = entries.iter_mut().find(|(other, _)| *other == key).unwrap();
    entry.1 = value.to_vec();
    entries
}

/// Verifies a correctly signed document with these keys.
fn verdict_of(entries: &[(&str, Vec<u8>)]) -> Result<Claims, Error> {
    verdict(&TRUSTED, &NSM.sign_payload(&map(entries)))
}

#[test]
fn a_valid_document_gives_the_enclave_s_claims() {
    let (public_key, user_data, nonce) = (Some(vec![1; 1024]), Some(vec![2; 512]), Some(vec![3; 512]));
    let said = Fields { public_key, user_data, nonce, ..fields() };
    let claims = verdict(&TRUSTED, &NSM.sign(&said)).unwrap();
    let expected = Claims {
        module_id: said.module_id,
        timestamp: now(),
        pcrs: said.pcrs,
        public_key: said.public_key,
        user_data: said.user_data,
        nonce: said.nonce,
        not_before: now() - Duration::from_hours(1),
        not_after: now() + Duration::from_hours(2),
    };
    assert_eq!(claims, expected);
}

#[test]
fn no_bytes_and_more_than_an_nsm_sends_are_refused() {
    assert_refused!(verdict(&TRUSTED, &[]), Error::Length(0), "a document of 0 bytes, expected 1 to 12288");
    assert_refused!(verdict(&TRUSTED, &[0; 0x3001]), Error::Length(0x3001));
    assert_refused!(verdict(&TRUSTED, &[0; 0x3000]), Error::Envelope(EnvelopeError::Cbor { .. }));
}
