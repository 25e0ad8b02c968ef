use std::time::Duration;

use attestation::Measurements;
use attestation::test_root::{Fields, TestRoot};
use binding::tunnel::Binding;
use tunnel::control::PublicKey;
use tunnel::port::Cid;

use super::*;

const PRODUCTION: &[u8] = include_bytes!("../../../attestation/tests/nitro-2024-08.cbor");
const DEBUG: &[u8] = include_bytes!("../../../attestation/tests/nitro-2022-10-debug.cbor");

fn text(document: &[u8], policy: Option<&Policy>, at: At) -> String {
    judge(document, &TrustRoot::aws(), policy, at).to_string()
}

fn image_of(document: &[u8]) -> Measurements {
    let claims = attestation::verify(document, &TrustRoot::aws(), At::Document).unwrap();
    Measurements::new(claims.pcrs[&0], claims.pcrs[&1], claims.pcrs[&2])
}

#[test]
fn a_document_of_years_ago_is_genuine_at_its_own_time() {
    let text = text(PRODUCTION, None, At::Document);
    for line in [
        "module: i-084e1dd2f1b2c529b-enc0190fecc5b166251\n",
        "created: 2024-08-07T06:43:12.231Z\n",
        "signing certificate valid: 2024-08-07T06:38:06Z to 2024-08-07T09:38:09Z\n",
        "PCR0: 5fec1b7372742584",
        "user data: (none)\n",
        "trust root: AWS's root, SHA-256 641a0321a3e244ef",
        "verdict: genuine; --measurements compares it with an image\n",
    ] {
        assert!(text.contains(line), "{line:?} in {text}");
    }
    assert!(!text.contains("PCR15"), "zero registers say nothing: {text}");
}

#[test]
fn a_document_of_years_ago_is_refused_now_and_nothing_that_it_says_is_shown() {
    let report = judge(PRODUCTION, &TrustRoot::aws(), None, At::Time(SystemTime::now()));
    assert!(!report.is_genuine());
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!((&json["verdict"], &json["claims"]), (&"refused".into(), &serde_json::Value::Null));
    let error = report.into_result().unwrap_err().to_string();
    assert!(
        error.contains(": expired at ") && error.ends_with("`--at` to verify the document at another time"),
        "{error}"
    );
}

#[test]
fn a_document_is_compared_with_the_images_that_are_named() {
    let mut right = Policy::new();
    right.allow_image("right.json", image_of(PRODUCTION));
    assert!(text(PRODUCTION, Some(&right), At::Document).contains("verdict: genuine, and of the image"));
    let mut other = Policy::new();
    let pcr2 = attestation::Pcr([1; 48]);
    other.allow_image("other.json", Measurements { pcr2, ..image_of(PRODUCTION) });
    let refused = judge(PRODUCTION, &TrustRoot::aws(), Some(&other), At::Document);
    assert!(refused.is_genuine(), "its claims are shown");
    let error = refused.into_result().unwrap_err().to_string();
    assert!(error.contains("expected 0101") && error.contains("(other.json)"), "{error}");
}

#[test]
fn a_document_of_debug_mode_is_refused_whether_an_image_is_named_or_not() {
    let mut any = Policy::new();
    any.allow_image("zeros", image_of(DEBUG));
    for policy in [None, Some(&any)] {
        let text = text(DEBUG, policy, At::Document);
        assert!(text.contains("PCR0: zero, as in debug mode\n") && text.contains("verdict: refused: PCR0"), "{text}");
    }
}

#[test]
fn another_root_than_aws_s_is_said_and_what_the_document_binds_is_shown() {
    let now = SystemTime::now();
    let root = TestRoot::new(now);
    let binding = Binding {
        public_key: PublicKey([1; 32]),
        kem_key: [2; 32],
        tls_key: None,
        config: [3; 32],
        gateway: PublicKey([4; 32]),
        cid: Cid(16),
    };
    let document = root.sign(&Fields { user_data: Some(binding.encode().to_vec()), ..Fields::new(now) });
    let report = judge(&document, &root.trust_root(), None, At::Time(now));
    let text = report.to_string();
    for part in ["NOT AWS's root but another", "  CID: 16\n", "  TLS key: (none)\n", &PublicKey([1; 32]).to_string()] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["trust_root_is_aws"], false);
    assert_eq!(json["claims"]["binding"]["cid"], 16);
    let error = judge(&document, &TrustRoot::aws(), None, At::Time(now)).into_result().unwrap_err().to_string();
    assert!(error.contains("not the trusted root"), "{error}");
}

#[test]
fn a_time_is_rfc_3339_or_seconds_or_the_document_s() {
    let seven = SystemTime::UNIX_EPOCH + Duration::from_secs(1_723_014_000);
    for text in ["2024-08-07T07:00:00Z", "2024-08-07T09:00:00+02:00"] {
        assert_eq!(text.parse(), Ok(Time(At::Time(seven))), "{text}");
    }
    assert_eq!("document".parse(), Ok(Time(At::Document)));
    assert_eq!("1723014000".parse(), Ok(Time(At::Time(seven))));
    for text in ["", "now", "2024-08-07", "20240807", "-5", "1723014000231", "1723014000.5"] {
        let error = text.parse::<Time>().unwrap_err();
        let expected =
            "expected a time like \"2026-01-31T12:00:00Z\", seconds since 1970 like 1769860800, or \"document\"";
        assert!(error.ends_with(expected), "{text}: {error}");
    }
}

#[test]
fn a_register_that_is_named_has_to_have_its_value() {
    let claims = attestation::verify(PRODUCTION, &TrustRoot::aws(), At::Document).unwrap();
    let register = |index, value| Register { index, value };
    let right = policy(&[], &[register(0, claims.pcrs[&0])]).unwrap();
    assert!(text(PRODUCTION, right.as_ref(), At::Document).contains("verdict: genuine, and of the image"));
    let wrong = policy(&[], &[register(0, claims.pcrs[&0]), register(16, claims.pcrs[&0])]).unwrap();
    let refused = text(PRODUCTION, wrong.as_ref(), At::Document);
    assert!(refused.contains("verdict: refused: PCR16 "), "{refused}");
    let alone = policy(&[], &[register(2, claims.pcrs[&2])]).unwrap_err().to_string();
    assert!(alone.contains("any image would match; expected one of these, or --measurements FILE"), "{alone}");
}
