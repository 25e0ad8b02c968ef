//! The chain from the root to the certificate that signed a document. Each certificate's issuer is the one before it.

use std::fmt;
use std::time::{Duration, SystemTime};

use thiserror::Error;

use crate::certificate::{Certificate, CertificateError};
use crate::moment::Moment;
use crate::root::TrustRoot;

/// A certificate's place in the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// `certificate`, which signed the document.
    Leaf,
    /// An entry of `cabundle`; 0 is the root.
    Cabundle(usize),
}

/// The rule that a document's chain breaks, and the certificate that breaks it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ChainError {
    /// The chain does not start at the trusted root.
    #[error("cabundle[0] is not the trusted root, which is {0}")]
    Root(String),
    /// The certificate is already in the chain, nearer to the root.
    #[error("{0}: duplicate certificate")]
    Repeated(Position),
    /// A certificate that is wrong whatever its chain.
    #[error("{at}")]
    Certificate {
        /// The certificate.
        at: Position,
        /// The cause.
        source: CertificateError,
    },
    /// Reordered, or from another chain.
    #[error("{0}: its issuer's name is not the subject of the certificate before it")]
    Issuer(Position),
    /// Changed, or signed by another issuer of the same name.
    #[error("{0}: not signed by the certificate before it")]
    Signature(Position),
    /// Its validity begins later.
    #[error("{at}: not valid before {}, and the time is {}", Moment(.not_before), Moment(.time))]
    NotYetValid {
        /// The certificate.
        at: Position,
        /// The begin of its validity.
        not_before: SystemTime,
        /// The time of verification.
        time: SystemTime,
    },
    /// Its validity is over.
    #[error("{at}: expired at {}, and the time is {}", Moment(.not_after), Moment(.time))]
    Expired {
        /// The certificate.
        at: Position,
        /// The end of its validity.
        not_after: SystemTime,
        /// The time of verification.
        time: SystemTime,
    },
    /// It issued a certificate and may not.
    #[error("{0}: not a certificate authority")]
    NotAuthority(Position),
    /// A certificate that may sign certificates must not sign documents.
    #[error("certificate: a certificate authority, expected one that may only sign documents")]
    LeafIsAuthority,
    /// Too many certificate authorities below it.
    #[error("{at}: followed by {actual} certificate authorities, expected at most {allowed}")]
    PathLength {
        /// The certificate.
        at: Position,
        /// The path length in the certificate.
        allowed: usize,
        /// The certificate authorities below it.
        actual: usize,
    },
    /// The key is for another purpose.
    #[error("{at}: its key usage lacks {missing}")]
    KeyUsage {
        /// The certificate.
        at: Position,
        /// The missing usage.
        missing: &'static str,
    },
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leaf => write!(f, "certificate"),
            Self::Cabundle(index) => write!(f, "cabundle[{index}]"),
        }
    }
}

/// The time at which a chain must be valid.
pub(crate) struct Clock {
    pub(crate) time: SystemTime,
    /// How much later a certificate's validity may begin.
    pub(crate) tolerance: Duration,
}

/// Verifies a whole chain and returns its leaf.
pub(crate) fn verify(
    certificate: &[u8],
    cabundle: &[&[u8]],
    root: &TrustRoot,
    clock: &Clock,
) -> Result<Certificate, ChainError> {
    let Some((&first, intermediates)) = cabundle.split_first() else {
        return Err(ChainError::Root(root.to_string()));
    };
    if first != root.der() {
        return Err(ChainError::Root(root.to_string()));
    }
    let mut issuer = root.certificate().clone();
    check_validity(&issuer, Position::Cabundle(0), clock)?;
    check_authority(&issuer, Position::Cabundle(0), intermediates.len())?;
    for (index, der) in (1..).zip(intermediates) {
        let at = Position::Cabundle(index);
        if cabundle.iter().take(index).any(|before| before == der) {
            return Err(ChainError::Repeated(at));
        }
        let subject = issued(der, at, &issuer, clock)?;
        check_authority(&subject, at, intermediates.len() - index)?;
        issuer = subject;
    }
    let leaf = issued(certificate, Position::Leaf, &issuer, clock)?;
    check_leaf(&leaf)?;
    Ok(leaf)
}

fn issued(der: &[u8], at: Position, issuer: &Certificate, clock: &Clock) -> Result<Certificate, ChainError> {
    let certificate = Certificate::parse(der).map_err(|source| ChainError::Certificate { at, source })?;
    if !certificate.names_as_issuer(issuer) {
        return Err(ChainError::Issuer(at));
    }
    if !certificate.is_signed_by(issuer) {
        return Err(ChainError::Signature(at));
    }
    check_validity(&certificate, at, clock)?;
    Ok(certificate)
}

fn check_validity(certificate: &Certificate, at: Position, clock: &Clock) -> Result<(), ChainError> {
    let &Clock { time, tolerance } = clock;
    let (not_before, not_after) = (certificate.not_before(), certificate.not_after());
    if not_before.duration_since(time).is_ok_and(|early| early > tolerance) {
        return Err(ChainError::NotYetValid { at, not_before, time });
    }
    if time > not_after {
        return Err(ChainError::Expired { at, not_after, time });
    }
    Ok(())
}

/// Counts every certificate; RFC 5280 skips self-issued ones.
fn check_authority(certificate: &Certificate, at: Position, followers: usize) -> Result<(), ChainError> {
    if !certificate.is_ca() {
        return Err(ChainError::NotAuthority(at));
    }
    if let Some(allowed) = certificate.path_length()
        && followers > allowed
    {
        return Err(ChainError::PathLength { at, allowed, actual: followers });
    }
    if !certificate.may_sign_certificates() {
        return Err(ChainError::KeyUsage { at, missing: "keyCertSign" });
    }
    Ok(())
}

fn check_leaf(leaf: &Certificate) -> Result<(), ChainError> {
    if leaf.is_ca() || leaf.may_sign_certificates() {
        return Err(ChainError::LeafIsAuthority);
    }
    if !leaf.may_sign_documents() {
        return Err(ChainError::KeyUsage { at: Position::Leaf, missing: "digitalSignature" });
    }
    Ok(())
}
