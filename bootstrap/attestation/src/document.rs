//! A whole document: from bytes to what may be believed of them.

use std::time::{Duration, SystemTime};

use thiserror::Error;

use crate::chain::{self, ChainError, Clock};
use crate::claims::Claims;
use crate::envelope::{Envelope, EnvelopeError};
use crate::moment::Moment;
use crate::payload::{Payload, PayloadError};
use crate::policy::{Policy, Violation};
use crate::root::TrustRoot;

/// The longest document in bytes: what the NSM driver takes in an answer (drivers/misc/nsm.c, `NSM_RESPONSE_MAX_SIZE`).
const MAX_LEN: usize = 0x3000;

/// How far the verifier's clock may be behind the hypervisor's.
///
/// A module's certificate begins 0 to 3 s before its first document, so a verifier whose clock is a few seconds behind would find each
/// new enclave's certificate to be of the future. It lengthens no certificate's life: the end has no tolerance. That a document is
/// fresh is what a nonce says, whatever the clocks.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(5);

/// When the certificates must be valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// When the document says that it was made: for documents that were kept. It proves nothing about today.
    Document,
    /// A moment of the caller's choice, usually now. Certificates may begin up to [`CLOCK_TOLERANCE`] later.
    Time(SystemTime),
}

/// What the verifier asked the enclave to put into its document. `None`: not asked, anything is right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expected<'a> {
    /// Makes the document one that cannot be older than the nonce.
    pub nonce: Option<&'a [u8]>,
    /// As the verifier can compute it.
    pub user_data: Option<&'a [u8]>,
    /// As the verifier knows it.
    pub public_key: Option<&'a [u8]>,
}

/// Which rule a document breaks.
#[derive(Debug, Error)]
pub enum Error {
    /// More than any NSM can say, or nothing.
    #[error("a document of {0} bytes, expected 1 to {MAX_LEN}")]
    Length(usize),
    /// What is around the payload.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// What the document says.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// Who says it.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The hypervisor signs with a certificate that is valid at that time.
    #[error(
        "payload: timestamp {}, and the document's certificate is valid from {} to {}",
        Moment(.timestamp), Moment(.not_before), Moment(.not_after)
    )]
    Timestamp {
        /// The document's.
        timestamp: SystemTime,
        /// The leaf's.
        not_before: SystemTime,
        /// The leaf's.
        not_after: SystemTime,
    },
    /// The document was changed, or somebody else signed it.
    #[error("the signature is not one of the document's certificate over the document")]
    Signature,
    /// The document is genuine, and of another enclave than those that are allowed.
    #[error(transparent)]
    Policy(#[from] Violation),
    /// The document is genuine, and not the answer to what was asked.
    #[error("{field} is {}, expected {}", hex(.actual.as_deref()), hex(Some(.expected)))]
    Unexpected {
        /// `nonce`, `user_data` or `public_key`.
        field: &'static str,
        /// The document's.
        actual: Option<Vec<u8>>,
        /// The verifier's.
        expected: Vec<u8>,
    },
}

/// Verifies that a document is genuine, that it is what `policy` allows, and that it says what was `expected`.
///
/// # Errors
/// The first rule that the document breaks.
pub fn attest(
    document: &[u8],
    root: &TrustRoot,
    policy: &Policy,
    expected: &Expected<'_>,
    at: At,
) -> Result<Claims, Error> {
    let claims = verify(document, root, at)?;
    policy.check(&claims)?;
    expected.check(&claims)?;
    Ok(claims)
}

/// Verifies that a document is genuine: made by a hypervisor for which `root` vouches. Which enclave it speaks of is for
/// the caller to judge; [`attest`] does both.
///
/// # Errors
/// The first rule that the document breaks.
pub fn verify(document: &[u8], root: &TrustRoot, at: At) -> Result<Claims, Error> {
    if document.is_empty() || document.len() > MAX_LEN {
        return Err(Error::Length(document.len()));
    }
    let envelope = Envelope::parse(document)?;
    let payload = Payload::parse(envelope.payload)?;
    let (time, tolerance) = match at {
        // Both are the hypervisor's clock.
        At::Document => (payload.timestamp, Duration::ZERO),
        At::Time(time) => (time, CLOCK_TOLERANCE),
    };
    let leaf = chain::verify(payload.certificate, &payload.cabundle, root, &Clock { time, tolerance })?;
    if !envelope.is_signed_by(leaf.public_key()) {
        return Err(Error::Signature);
    }
    let Payload { timestamp, .. } = payload;
    if !leaf.is_valid_at(timestamp) {
        let (not_before, not_after) = (leaf.not_before(), leaf.not_after());
        return Err(Error::Timestamp { timestamp, not_before, not_after });
    }
    Ok(Claims {
        module_id: payload.module_id.to_owned(),
        timestamp,
        pcrs: payload.pcrs,
        public_key: payload.public_key.map(<[u8]>::to_vec),
        user_data: payload.user_data.map(<[u8]>::to_vec),
        nonce: payload.nonce.map(<[u8]>::to_vec),
        not_before: leaf.not_before(),
        not_after: leaf.not_after(),
    })
}

impl Expected<'_> {
    fn check(&self, claims: &Claims) -> Result<(), Error> {
        let fields = [
            ("nonce", self.nonce, &claims.nonce),
            ("user_data", self.user_data, &claims.user_data),
            ("public_key", self.public_key, &claims.public_key),
        ];
        for (field, expected, actual) in fields {
            if let Some(expected) = expected
                && actual.as_deref() != Some(expected)
            {
                return Err(Error::Unexpected { field, actual: actual.clone(), expected: expected.to_vec() });
            }
        }
        Ok(())
    }
}

fn hex(bytes: Option<&[u8]>) -> String {
    match bytes {
        None => "absent".to_owned(),
        Some([]) => "empty".to_owned(),
        Some(bytes) => const_hex::encode(bytes),
    }
}

#[cfg(test)]
mod tests;
