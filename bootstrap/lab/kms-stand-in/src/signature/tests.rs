use hyper::header::HeaderName;

use super::*;
use crate::policy::Caller;
use crate::test_client::{Client, ID, REGION, SECRET};

const BODY: &[u8] = br#"{"KeyId": "alias/wallet"}"#;

/// The time of all requests.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn client() -> Client {
    Client { time: now(), ..Client::new() }
}

fn sign(client: &Client) -> Parts {
    client.sign("TrentService.DescribeKey", BODY)
}

fn access_key(token: Option<&str>) -> AccessKey {
    AccessKey {
        id: ID.to_owned(),
        secret: SECRET.to_owned().into(),
        session_token: token.map(|token| token.to_owned().into()),
        expires: None,
        caller: Caller { arn: "arn:aws:iam::111122223333:role/enclave".parse().unwrap(), iam_actions: Vec::new() },
    }
}

fn verify_with<'k>(request: &Parts, key: &'k AccessKey, time: SystemTime) -> Result<&'k AccessKey, Failure> {
    verify(request, BODY, std::slice::from_ref(key), REGION, time)
}

/// The error for a request.
fn refusal(request: &Parts) -> Failure {
    verify_with(request, &access_key(None), now()).unwrap_err()
}

fn set(request: &mut Parts, name: &'static str, value: &str) {
    request.headers.insert(HeaderName::from_static(name), value.parse().unwrap());
}

fn replace(request: &mut Parts, from: &str, to: &str) {
    let header = text(&request.headers, "authorization").to_owned();
    assert!(header.contains(from), "{header}");
    set(request, "authorization", &header.replacen(from, to, 1));
}

#[test]
fn what_the_sdk_signs_is_accepted() {
    verify_with(&sign(&client()), &access_key(None), now()).unwrap();
}

#[test]
fn a_session_s_token_belongs_to_the_request() {
    let session = access_key(Some("TEST ONLY token"));
    let request = |token| sign(&Client { token, ..client() });
    verify_with(&request(Some("TEST ONLY token")), &session, now()).unwrap();
    for (token, key) in [(Some("another"), &session), (None, &session), (Some("TEST ONLY token"), &access_key(None))] {
        assert_eq!(verify_with(&request(token), key, now()).unwrap_err().kind, Kind::UnrecognizedClient, "{token:?}");
    }
}

#[test]
fn an_unknown_access_key_is_unrecognized() {
    let request = sign(&Client { id: "AKIAOTHER", ..client() });
    assert_eq!(refusal(&request).kind, Kind::UnrecognizedClient);
}

#[test]
fn another_secret_makes_another_signature() {
    let request = sign(&Client { secret: "TEST ONLY other", ..client() });
    let refusal = refusal(&request);
    assert_eq!(refusal.kind, Kind::InvalidSignature);
    assert!(refusal.message.contains("does not match"), "{refusal:?}");
}

#[test]
fn another_body_has_another_signature() {
    let (request, key) = (sign(&client()), access_key(None));
    let refusal = verify(&request, b"{}", &[key], REGION, now()).unwrap_err();
    assert!(refusal.message.contains("does not match"), "{refusal:?}");
}

#[test]
fn signed_headers_cannot_change() {
    for (name, value) in [
        ("x-amz-target", "TrentService.Decrypt"),
        ("host", "kms.us-east-1.amazonaws.com"),
        ("x-amz-date", "20270115T080001Z"),
        ("content-type", "text/plain"),
    ] {
        let mut request = sign(&client());
        assert_ne!(text(&request.headers, name), value);
        set(&mut request, name, value);
        let refusal = refusal(&request);
        assert!(refusal.message.contains("does not match"), "{name}: {refusal:?}");
    }
    for (method, uri) in [("PUT", "/"), ("POST", "/other"), ("POST", "/?a=b")] {
        let mut request = sign(&client());
        request.method = method.parse().unwrap();
        request.uri = uri.parse().unwrap();
        assert!(refusal(&request).message.contains("does not match"), "{method} {uri}");
    }
}

#[test]
fn a_request_of_more_than_five_minutes_ago_or_ahead_is_refused() {
    let (request, key) = (sign(&client()), access_key(None));
    let second = Duration::from_secs(1);
    for time in [now() + SKEW, now() - SKEW] {
        verify_with(&request, &key, time).unwrap();
    }
    for (time, part) in [(now() + SKEW + second, "expired"), (now() - SKEW - second, "not yet current")] {
        let refusal = verify_with(&request, &key, time).unwrap_err();
        assert_eq!(refusal.kind, Kind::InvalidSignature);
        assert!(refusal.message.contains(part), "{refusal:?}");
    }
}

#[test]
fn a_session_that_expired_is_refused_by_that_name() {
    for (expires, is_good) in [(now() + Duration::from_secs(1), true), (now(), false)] {
        let key = AccessKey { expires: Some(expires), ..access_key(None) };
        let kind = verify_with(&sign(&client()), &key, now()).map(|_| ()).map_err(|failure| failure.kind);
        assert_eq!(kind, if is_good { Ok(()) } else { Err(Kind::ExpiredToken) });
    }
}

#[test]
fn a_signature_for_another_place_is_refused() {
    for client in [Client { region: "us-east-1", ..client() }, Client { service: "sts", ..client() }] {
        let refusal = refusal(&sign(&client));
        assert!(refusal.message.starts_with("Credential should be scoped to"), "{refusal:?}");
    }
    let mut request = sign(&client());
    replace(&mut request, "/20270115/", "/20270114/");
    assert!(refusal(&request).message.starts_with("Credential should be scoped to"));
}

#[test]
fn host_and_amazon_s_headers_have_to_be_signed() {
    for name in ["host;", "x-amz-date;", ";x-amz-user-agent"] {
        let mut request = sign(&client());
        replace(&mut request, name, "");
        let refusal = refusal(&request);
        assert!(refusal.message.contains("must be a 'SignedHeader'"), "{name}: {refusal:?}");
    }
    let mut request = sign(&client());
    set(&mut request, "x-amz-more", "1");
    assert!(refusal(&request).message.contains("'x-amz-more' must be"));
}

#[test]
fn signed_headers_are_there_and_in_order() {
    let mut request = sign(&client());
    request.headers.remove("content-type");
    assert!(refusal(&request).message.contains("'content-type' is a 'SignedHeader', and"));
    for (from, to) in [("content-type;host", "host;content-type"), ("host;", "host;host;")] {
        let mut request = sign(&client());
        replace(&mut request, from, to);
        assert!(refusal(&request).message.contains("alphabetical"), "{to}");
    }
}

#[test]
fn no_signature_is_a_missing_token() {
    let mut request = sign(&client());
    request.headers.remove(AUTHORIZATION);
    assert_eq!(refusal(&request).kind, Kind::MissingAuthenticationToken);
}

#[test]
fn a_header_of_another_form_is_incomplete() {
    for (from, to) in [
        ("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"),
        ("AWS4-HMAC-SHA256 ", "AWS4-HMAC-SHA256"),
        ("Credential=", "credential="),
        ("SignedHeaders=", ""),
        (", Signature=", ", Signature"),
        ("AKIATESTONLY/20270115/eu-central-1/kms/aws4_request", "AKIATESTONLY"),
        (", Signature=", ", More=1, Signature="),
    ] {
        let mut request = sign(&client());
        replace(&mut request, from, to);
        assert_eq!(refusal(&request).kind, Kind::IncompleteSignature, "{from} -> {to}");
    }
}

#[test]
fn a_date_of_another_form_is_incomplete() {
    for date in
        ["", "2027-01-15T08:00:00Z", "20270115T080000", "20271315T080000Z", "20270115T0800é0Z", "20270115T+80000Z"]
    {
        let mut request = sign(&client());
        request.headers.insert(DATE, hyper::header::HeaderValue::from_bytes(date.as_bytes()).unwrap());
        assert_eq!(refusal(&request).kind, Kind::IncompleteSignature, "{date}");
    }
}
