//! Verifies a whole document: from its bytes to its claims.

use std::time::{Duration, SystemTime};

use thiserror::Error;

use crate::chain::{self, ChainError, Clock};
use crate::claims::Claims;
use crate::envelope::{Envelope, EnvelopeError};
use crate::moment::Moment;
use crate::payload::{Payload, PayloadError};
use crate::policy::{Policy, Violation};
use crate::root::TrustRoot;

/// The longest document in bytes: the NSM driver's limit for a response (drivers/misc/nsm.c, `NSM_RESPONSE_MAX_SIZE`).
const MAX_LEN: usize = 0x3000;

/// How far the verifier's clock may be behind the hypervisor's.
///
/// A module's certificate becomes valid 0 to 3 s before its first document. A verifier whose clock is a few seconds
/// behind would refuse each new enclave. The end of the validity has no tolerance. A nonce proves that a document is
/// fresh, whatever the clocks.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(5);

/// The time at which the certificates must be valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// The document's own timestamp: for archived documents. It proves nothing about the present.
    Document,
    /// A given time, usually now. Certificates may become valid up to [`CLOCK_TOLERANCE`] later.
    Time(SystemTime),
}

/// What the verifier asked the enclave to put into its document. `None` accepts anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expected<'a> {
    /// Proves that the document is not older than the nonce.
    pub nonce: Option<&'a [u8]>,
    /// Computed by the verifier.
    pub user_data: Option<&'a [u8]>,
    /// Known to the verifier.
    pub public_key: Option<&'a [u8]>,
}

/// The rule that a document breaks.
#[derive(Debug, Error)]
pub enum Error {
    /// Empty, or longer than any NSM's response.
    #[error("a document of {0} bytes, expected 1 to {MAX_LEN}")]
    Length(usize),
    /// The COSE_Sign1 around the payload.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// The payload.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// The certificates.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The hypervisor signs with a certificate that is valid at the document's time.
    #[error(
        "payload: timestamp {}, and the document's certificate is valid from {} to {}",
        Moment(.timestamp), Moment(.not_before), Moment(.not_after)
    )]
    Timestamp {
        /// The document's.
        timestamp: SystemTime,
        /// The signing certificate's.
        not_before: SystemTime,
        /// The signing certificate's.
        not_after: SystemTime,
    },
    /// The document was changed, or signed with another key.
    #[error("the signature does not verify with the document's certificate")]
    Signature,
    /// The document is genuine, but the policy does not allow its enclave.
    #[error(transparent)]
    Policy(#[from] Violation),
    /// The document is genuine, but does not answer the request.
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

/// Verifies that a document is genuine, that `policy` allows its enclave, and that its fields are as `expected`.
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

/// Verifies that a document is genuine: signed by a hypervisor whose chain leads to `root`. The caller must check which
/// enclave it is from; [`attest`] does both.
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
        // Both times come from the hypervisor's clock.
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
