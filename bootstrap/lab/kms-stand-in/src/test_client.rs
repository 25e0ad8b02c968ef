//! Signs requests with AWS's SDK for Rust, for tests.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use hyper::Request;
use hyper::http::request::Parts;

pub(crate) const REGION: &str = "eu-central-1";
pub(crate) const ID: &str = "AKIATESTONLY";
pub(crate) const SECRET: &str = "TEST ONLY secret";
const HOST: &str = "kms.eu-central-1.amazonaws.com";

/// The credentials, the scope and the time of requests.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) id: &'static str,
    pub(crate) secret: &'static str,
    pub(crate) token: Option<&'static str>,
    pub(crate) region: &'static str,
    pub(crate) service: &'static str,
    pub(crate) time: SystemTime,
}

impl Client {
    pub(crate) fn new() -> Self {
        Self { id: ID, secret: SECRET, token: None, region: REGION, service: "kms", time: SystemTime::now() }
    }

    /// Signs a request; returns it without its body.
    pub(crate) fn sign(&self, target: &str, body: &[u8]) -> Parts {
        self.sign_with(target, "application/x-amz-json-1.1", "POST", "/", body)
    }

    pub(crate) fn sign_with(&self, target: &str, content_type: &str, method: &str, path: &str, body: &[u8]) -> Parts {
        let headers = [
            ("host", HOST),
            ("content-type", content_type),
            ("x-amz-target", target),
            ("x-amz-user-agent", "several   words  "),
        ];
        let identity = Credentials::new(self.id, self.secret, self.token.map(str::to_owned), None, "test").into();
        let parameters = SigningParams::builder()
            .identity(&identity)
            .region(self.region)
            .name(self.service)
            .time(self.time)
            .settings(SigningSettings::default())
            .build()
            .unwrap()
            .into();
        let uri = format!("https://{HOST}{path}");
        let signable = SignableRequest::new(method, &uri, headers.into_iter(), SignableBody::Bytes(body)).unwrap();
        let (added, _) = sign(signable, &parameters).unwrap().into_parts().0.into_parts();
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        for header in added {
            request = request.header(header.name(), header.value());
        }
        request.body(()).unwrap().into_parts().0
    }
}
