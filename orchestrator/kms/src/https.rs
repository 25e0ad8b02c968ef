//! HTTPS to AWS: which servers are trusted, and what a failed exchange means.
//!
//! TLS 1.3 and 1.2 are both spoken: AWS requires 1.2 and recommends 1.3
//! (<https://docs.aws.amazon.com/kms/latest/developerguide/data-protection.html>), which leaves open that an endpoint has
//! no 1.3. What this side offers of 1.2 is what 1.3 has: ephemeral ECDHE keys and authenticated ciphers, nothing else.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
pub use aws_smithy_runtime_api::client::dns::{DnsFuture, ResolveDns, ResolveDnsError};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use thiserror::Error;

use crate::refusal::{Refusal, Verdict, judge};
use crate::retry::Attempt;
use crate::roots::Roots;

type BoxError = Box<dyn StdError + Send + Sync>;

/// Opens connections to AWS and keeps them for the next request; clones share them.
#[derive(Clone, Debug)]
pub struct Https {
    client: SharedHttpClient,
}

/// TLS could not be prepared.
#[derive(Debug, Error)]
#[error("prepare TLS")]
pub struct HttpsError(#[source] BoxError);

/// Why a request to AWS failed.
#[derive(Debug, Error)]
pub enum CallError {
    /// AWS refused.
    #[error("{0}")]
    Refused(Refusal),
    /// AWS is overloaded or broken.
    #[error("AWS cannot answer now: HTTP {status} {code}")]
    Unavailable {
        /// The HTTP status.
        status: u16,
        /// AWS's name for it, if it has one.
        code: String,
    },
    /// No connection, or one that broke.
    #[error("reach AWS")]
    Unreachable(#[source] BoxError),
    /// The server's certificate is not trusted, or it has no TLS version or cipher in common.
    #[error("the server's TLS certificate is not trusted")]
    Tls(#[source] rustls::Error),
    /// No response in time.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// Not AWS's protocol. The parser's message could show a part of a response with a secret.
    #[error("unexpected response, expected JSON as AWS documents it")]
    Malformed,
    /// The request was never sent.
    #[error("prepare the request")]
    Request(#[source] BoxError),
    /// The deadline passed before a response.
    #[error("gave up after {attempts} attempts")]
    GaveUp {
        /// How often it was tried.
        attempts: u32,
        /// Why the last attempt failed.
        #[source]
        last: Box<Self>,
    },
}

impl Https {
    /// Trusts only servers with certificates from `roots`. The library's own resolver is libc's, which needs threads and
    /// files that a sandbox may not have.
    ///
    /// # Errors
    /// What the library says of the roots, which have been read before.
    pub fn new(roots: &Roots, resolver: impl ResolveDns + Clone + 'static) -> Result<Self, HttpsError> {
        let context = TlsContext::builder().with_trust_store(trust(roots)).build();
        let context = context.map_err(|error| HttpsError(error.into()))?;
        let provider = Provider::Rustls(CryptoMode::AwsLc);
        let client = Builder::new().tls_provider(provider).tls_context(context).build_with_resolver(resolver);
        Ok(Self { client })
    }

    pub(crate) fn client(&self) -> SharedHttpClient {
        self.client.clone()
    }
}

impl CallError {
    pub(crate) fn of<E>(error: SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        let status = error.raw_response().map_or(0, |response| response.status().as_u16());
        // The SDK also calls it a service's error when it cannot read what a service says to be fine.
        if let Some(meta) = error.as_service_error().map(ProvideErrorMetadata::meta).filter(|_| status >= 300) {
            let (code, message) = (meta.code().unwrap_or_default(), meta.message().unwrap_or_default());
            return match judge(status, code) {
                Verdict::Passing => Self::Unavailable { status, code: code.to_owned() },
                Verdict::Final(reason) => Self::Refused(Refusal::new(reason, status, code, message)),
            };
        }
        let is_request = matches!(error, SdkError::ConstructionFailure(_));
        let source = match error.into_source() {
            Ok(source) => source,
            Err(error) => error.into(),
        };
        match tls_error(&*source) {
            Some(error) => Self::Tls(error),
            None if is_request => Self::Request(source),
            None if status >= 500 => Self::Unavailable { status, code: String::new() },
            None if status != 0 => Self::Malformed,
            None => Self::Unreachable(source),
        }
    }
}

impl Attempt for CallError {
    fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Unreachable(_) | Self::TimedOut(_))
    }

    fn timed_out(after: Duration) -> Self {
        Self::TimedOut(after)
    }

    fn gave_up(attempts: u32, last: Self) -> Self {
        Self::GaveUp { attempts, last: Box::new(last) }
    }
}

/// Not the library's default, which trusts the operating system's roots too.
fn trust(roots: &Roots) -> TrustStore {
    TrustStore::empty().with_pem_certificate(roots.pem())
}

/// What TLS says at the bottom of it all. An `io::Error` does not show the error that it wraps as its source.
fn tls_error(error: &(dyn StdError + 'static)) -> Option<rustls::Error> {
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return Some(error.clone());
    }
    let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    wrapped.and_then(|wrapped| tls_error(wrapped)).or_else(|| error.source().and_then(tls_error))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The library has no other way to ask.
    #[test]
    fn the_operating_systems_roots_are_not_believed() {
        let believes_system = "enable_native_roots: true";
        assert!(format!("{:?}", TrustStore::default()).contains(believes_system), "the library has changed");
        assert!(!format!("{:?}", trust(&Roots::amazon())).contains(believes_system));
    }
}
