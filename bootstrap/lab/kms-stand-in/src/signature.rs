//! Verifies AWS Signature Version 4, as far as KMS's clients use it:
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>.

use std::time::{Duration, SystemTime};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, HOST};
use hyper::http::request::Parts;

use crate::access_key::AccessKey;
use crate::failure::{Failure, Kind};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const SERVICE: &str = "kms";
const TERMINATOR: &str = "aws4_request";
const DATE: &str = "x-amz-date";
const TOKEN: &str = "x-amz-security-token";
/// The allowed difference between the client's clock and ours.
const SKEW: Duration = Duration::from_mins(5);

/// A parsed `Authorization` header.
#[derive(Debug, PartialEq, Eq)]
struct Authorization<'a> {
    access_key_id: &'a str,
    /// Day, region, service and `aws4_request`.
    scope: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
}

/// Verifies a request's signature and returns the caller.
pub(crate) fn verify<'k>(
    request: &Parts,
    body: &[u8],
    access_keys: &'k [AccessKey],
    region: &str,
    now: SystemTime,
) -> Result<&'k AccessKey, Failure> {
    let header = request
        .headers
        .get(AUTHORIZATION)
        .ok_or_else(|| Failure::new(Kind::MissingAuthenticationToken, "Missing Authentication Token"))?;
    let authorization = header.to_str().ok().and_then(Authorization::parse).ok_or_else(|| {
        Failure::new(Kind::IncompleteSignature, format!("Authorization header is not one of {ALGORITHM}."))
    })?;
    let access_key = access_keys.iter().find(|key| key.id == authorization.access_key_id);
    let access_key = access_key.ok_or_else(|| unrecognized("no such access key"))?;
    check_token(&request.headers, access_key)?;

    let date = text(&request.headers, DATE);
    let time = parse_time(date).ok_or_else(|| {
        Failure::new(Kind::IncompleteSignature, "Date must be in ISO-8601 'basic format', as X-Amz-Date.")
    })?;
    let day = date.get(..8).expect("parse_time took a date that begins with eight digits");
    if authorization.scope != [day, region, SERVICE, TERMINATOR].join("/") {
        let message = format!(
            "Credential should be scoped to {day}/{region}/{SERVICE}/{TERMINATOR}, not {}.",
            authorization.scope
        );
        return Err(Failure::new(Kind::InvalidSignature, message));
    }
    if time + SKEW < now {
        return Err(Failure::new(Kind::InvalidSignature, format!("Signature expired: {date} is too long ago.")));
    }
    if time > now + SKEW {
        let message = format!("Signature not yet current: {date} is still later than now.");
        return Err(Failure::new(Kind::InvalidSignature, message));
    }
    check_signed_headers(&request.headers, authorization.signed_headers)?;

    let canonical = canonical_request(request, body, authorization.signed_headers);
    let to_sign =
        format!("{ALGORITHM}\n{date}\n{}\n{}", authorization.scope, const_hex::encode(digest(&SHA256, &canonical)));
    let expected = const_hex::encode(sign(access_key, [day, region, SERVICE, TERMINATOR], &to_sign));
    if verify_slices_are_equal(expected.as_bytes(), authorization.signature.as_bytes()).is_err() {
        let message = "The request signature we calculated does not match the signature you provided. \
                       Check your AWS Secret Access Key and signing method.";
        return Err(Failure::new(Kind::InvalidSignature, message));
    }
    if access_key.expires.is_some_and(|expires| expires <= now) {
        return Err(Failure::new(Kind::ExpiredToken, "The security token included in the request is expired"));
    }
    Ok(access_key)
}

impl<'a> Authorization<'a> {
    fn parse(header: &'a str) -> Option<Self> {
        let rest = header.strip_prefix(ALGORITHM)?.strip_prefix(' ')?;
        let parts: Vec<_> = rest.split(',').map(str::trim).collect();
        let [credential, signed_headers, signature] = parts[..] else {
            return None;
        };
        let (access_key_id, scope) = credential.strip_prefix("Credential=")?.split_once('/')?;
        Some(Self {
            access_key_id,
            scope,
            signed_headers: signed_headers.strip_prefix("SignedHeaders=")?,
            signature: signature.strip_prefix("Signature=")?,
        })
    }
}

fn unrecognized(reason: &str) -> Failure {
    Failure::new(Kind::UnrecognizedClient, "The security token included in the request is invalid.").because(reason)
}

fn check_token(headers: &HeaderMap, access_key: &AccessKey) -> Result<(), Failure> {
    let presented = headers.get(TOKEN).map(|value| value.as_bytes());
    match (presented, access_key.session_token.as_ref()) {
        (None, None) => Ok(()),
        (Some(presented), Some(token)) if verify_slices_are_equal(presented, token.expose().as_bytes()).is_ok() => {
            Ok(())
        }
        (Some(_), Some(_)) => Err(unrecognized("the session token is not the access key's")),
        (Some(_), None) => Err(unrecognized("a session token, expected none with this access key")),
        (None, Some(_)) => Err(unrecognized("no session token, expected one with this access key")),
    }
}

/// Host, date and operation must be signed, or an attacker could change them.
fn check_signed_headers(headers: &HeaderMap, signed: &str) -> Result<(), Failure> {
    let signed: Vec<_> = signed.split(';').collect();
    let incomplete = |message: String| Err(Failure::new(Kind::InvalidSignature, message));
    if !signed.is_sorted_by(|one, other| one < other) {
        return incomplete("SignedHeaders are not in alphabetical order.".to_owned());
    }
    for name in headers.keys().map(hyper::header::HeaderName::as_str) {
        if (name == HOST || name.starts_with("x-amz-")) && !signed.contains(&name) {
            return incomplete(format!("'{name}' must be a 'SignedHeader' in the AWS Authorization."));
        }
    }
    for name in signed {
        if !headers.contains_key(name) {
            return incomplete(format!("'{name}' is a 'SignedHeader', and the request has no such header."));
        }
    }
    Ok(())
}

/// KMS's clients use path `/` and no query.
fn canonical_request(request: &Parts, body: &[u8], signed_headers: &str) -> Vec<u8> {
    let mut canonical =
        format!("{}\n{}\n{}\n", request.method, request.uri.path(), request.uri.query().unwrap_or_default());
    for name in signed_headers.split(';') {
        let values: Vec<_> = request.headers.get_all(name).iter().map(|value| squeeze(value.as_bytes())).collect();
        canonical.push_str(&format!("{name}:{}\n", values.join(",")));
    }
    canonical.push_str(&format!("\n{signed_headers}\n{}", const_hex::encode(digest(&SHA256, body))));
    canonical.into_bytes()
}

/// Trims spaces, and replaces several by one.
fn squeeze(value: &[u8]) -> String {
    String::from_utf8_lossy(value).split(' ').filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

fn sign(access_key: &AccessKey, scope: [&str; 4], text: &str) -> hmac::Tag {
    let start = zeroize::Zeroizing::new(format!("AWS4{}", access_key.secret.expose()));
    let first = hmac::Key::new(HMAC_SHA256, start.as_bytes());
    let key =
        scope.iter().fold(first, |key, part| hmac::Key::new(HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref()));
    hmac::sign(&key, text.as_bytes())
}

/// `20150830T123600Z`
fn parse_time(text: &str) -> Option<SystemTime> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let is_number = |text: &str, len| text.len() == len && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(date, 8) || !is_number(time, 6) {
        return None;
    }
    let number = |text: &str| text.parse::<u8>().ok();
    let year = date.get(..4)?.parse().ok()?;
    let [month, day] = [number(date.get(4..6)?)?, number(date.get(6..)?)?];
    let [hour, minute, second] = [number(time.get(..2)?)?, number(time.get(2..4)?)?, number(time.get(4..)?)?];
    Some(der::DateTime::new(year, month, day, hour, minute, second).ok()?.to_system_time())
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
