use super::*;

const GOOD: &str = r#"{
  "Code": "Success", "LastUpdated": "2026-04-26T16:39:16Z", "Type": "AWS-HMAC",
  "AccessKeyId": "ASIAEXAMPLE0EXAMPLE0", "SecretAccessKey": "not+a+secret/but/an+example/of/forty/chars",
  "Token": "example+session+token==", "Expiration": "2026-05-17T15:09:54Z"
}"#;

fn parsed(from: &str, to: &str) -> Result<Credentials, ImdsError> {
    assert!(GOOD.contains(from));
    parse("signer", GOOD.replacen(from, to, 1).as_bytes())
}

#[test]
fn what_the_service_documents_is_read() {
    let credentials = parsed("", "").unwrap();
    assert_eq!(credentials.expiry(), Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_779_030_594)));
    assert_eq!(credentials.role(), Some("signer"));
    let exposed = credentials.expose();
    assert_eq!(exposed.access_key_id(), "ASIAEXAMPLE0EXAMPLE0");
    assert_eq!(exposed.session_token(), Some("example+session+token=="));
}

#[test]
fn everything_else_is_named_and_no_secret_is_in_the_name() {
    let error = |from, to| parsed(from, to).unwrap_err();
    assert!(matches!(error("{", "["), ImdsError::Json { .. }));
    assert!(matches!(error("\"Success\"", "7"), ImdsError::Json { .. }));
    assert!(matches!(error("Success", "Failed"), ImdsError::Code(code) if code == "Failed"));
    assert!(matches!(error("2026-05-17T15:09:54Z", "tomorrow"), ImdsError::Expiration));
    assert!(matches!(error("Expiration", "Expires"), ImdsError::Expiration));
    assert!(matches!(error("SecretAccessKey", "Secret"), ImdsError::Credentials(CredentialsError::SecretAccessKey)));
    assert!(matches!(error("\"Token\"", "\"Tok\""), ImdsError::Credentials(CredentialsError::SessionToken)));
    let quoting = error("\"Expiration\": \"2026-05-17T15:09:54Z\"", "\"Token\": 7");
    assert!(!format!("{quoting} {quoting:?}").contains("example"), "{quoting:?}");
}

#[test]
fn a_role_is_one_name_that_iam_allows() {
    assert_eq!(role(b"signer-role_1+=,.@\n"), Some("signer-role_1+=,.@"));
    for bad in [&b""[..], b"\n", b"a\nb", b"../token", b"a/b", b"..", b"a b", b"a?b", b"a%2e", &[b'a'; 65], &[0xff]] {
        assert_eq!(role(bad), None, "{bad:?}");
    }
}

#[test]
fn credentials_are_renewed_before_they_expire() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    let at = |expiry| standing(Some(expiry), now);
    assert_eq!(standing(None, now), Standing::Fresh);
    assert_eq!(at(now + REFRESH_BEFORE_EXPIRY + Duration::from_secs(1)), Standing::Fresh);
    assert_eq!(at(now + REFRESH_BEFORE_EXPIRY), Standing::Due);
    assert_eq!(at(now + Duration::from_secs(1)), Standing::Due);
    assert_eq!(at(now), Standing::Expired);
    assert_eq!(at(now - Duration::from_secs(1)), Standing::Expired);
}
