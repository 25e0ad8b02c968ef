//! Verifies AWS Nitro attestation documents.
//!
//! [`attest`] is the one entry point. It checks a document by AWS's rules, its certificate chain up to the
//! [`TrustRoot`], and its measurements against the [`Policy`]. The error names the rule that the document breaks. The
//! rules are those of <https://github.com/aws/aws-nitro-enclaves-nsm-api/blob/main/docs/attestation_process.md>.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic fails the test"))]

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
pub use report::{ClaimsReport, rfc3339};
pub use root::{RootError, TrustRoot};
