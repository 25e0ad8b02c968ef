//! Signature version 4, as AWS checks it
//! (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>).

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use hyper::Request;
use hyper::body::Bytes;

/// Whether `secret` signed the request.
pub(crate) fn is_right(request: &Request<Bytes>, secret: &str) -> bool {
    let header = |name: &str| request.headers().get(name).map_or("", |value| value.to_str().unwrap());
    let authorization = header("authorization").strip_prefix("AWS4-HMAC-SHA256 ").unwrap();
    let field = |name: &str| {
        let mut fields = authorization.split(", ").filter_map(|field| field.strip_prefix(name));
        fields.next().unwrap().to_owned()
    };
    let (credential, signed, signature) = (field("Credential="), field("SignedHeaders="), field("Signature="));
    for name in ["host", "x-amz-date", "x-amz-target"] {
        assert!(signed.split(';').any(|signed| signed == name), "{name} is not signed");
    }
    let headers: String = signed.split(';').map(|name| format!("{name}:{}\n", header(name).trim())).collect();
    let (method, path, body) =
        (request.method(), request.uri().path(), const_hex::encode(digest(&SHA256, request.body())));
    let canonical = format!("{method}\n{path}\n\n{headers}\n{signed}\n{body}");

    let scope: Vec<&str> = credential.split('/').skip(1).collect();
    let (date, hash) = (header("x-amz-date"), const_hex::encode(digest(&SHA256, canonical.as_bytes())));
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{}\n{hash}", scope.join("/"));
    let key = scope.iter().fold(format!("AWS4{secret}").into_bytes(), |key, part| mac(&key, part));
    signature == const_hex::encode(mac(&key, &text))
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    sign(&Key::new(HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}
