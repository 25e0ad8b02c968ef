//! AWS Nitro attestation documents: bytes in, verified claims out.
//!
//! [`attest`] is the one way: a document is what AWS's rules say it is, its chain leads to the [`TrustRoot`], and its
//! measurements are what the [`Policy`] allows; or the error names the rule that it breaks. The rules are those of
//! <https://github.com/aws/aws-nitro-enclaves-nsm-api/blob/main/docs/attestation_process.md>.

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has failed, as it should")
)]

mod certificate;
mod chain;
mod claims;
mod document;
mod encoding;
mod envelope;
mod measurements;
mod moment;
mod payload;
mod pcr;
mod policy;
mod printable;
mod report;
mod root;

#[cfg(any(test, feature = "test-root"))]
pub mod test_root;

pub use certificate::CertificateError;
pub use chain::{ChainError, Position};
pub use claims::Claims;
pub use document::{At, CLOCK_TOLERANCE, Error, Expected, attest, verify};
pub use encoding::{EncodingError, decode};
pub use envelope::EnvelopeError;
pub use measurements::{Measurements, MeasurementsError};
pub use payload::PayloadError;
pub use pcr::{Pcr, PcrError, Register, RegisterError};
pub use policy::{Policy, PolicyError, Violation};
pub use printable::Printable;
pub use report::ClaimsReport;
pub use root::{RootError, TrustRoot};
