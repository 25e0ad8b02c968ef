//! From the certificate that signed a document to the root, strictly: each certificate's issuer is the one before it.

use std::fmt;
use std::time::{Duration, SystemTime};

use thiserror::Error;

use crate::certificate::{Certificate, CertificateError};
use crate::moment::Moment;
use crate::root::TrustRoot;

/// Where in the document a certificate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// `certificate`, which signed the document.
    Leaf,
    /// An entry of `cabundle`; 0 is the root.
    Cabundle(usize),
}

/// Which rule of a document's chain is broken, and by which certificate.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ChainError {
    /// The document's chain starts elsewhere than the trusted one.
    #[error("cabundle[0] is not the trusted root, which is {0}")]
    Root(String),
    /// A chain that goes in circles.
    #[error("{0}: there already, nearer to the root")]
    Repeated(Position),
    /// A certificate that is wrong by itself.
    #[error("{at}")]
    Certificate {
        /// Which.
        at: Position,
        /// What is wrong with it.
        source: CertificateError,
    },
    /// Reordered, or of another chain.
    #[error("{0}: its issuer's name is not that of the certificate before it")]
    Issuer(Position),
    /// Changed, or signed by somebody else of the same name.
    #[error("{0}: not signed by the certificate before it")]
    Signature(Position),
    /// Made for later.
    #[error("{at}: valid from {} on, and the time is {}", Moment(.not_before), Moment(.time))]
    NotYetValid {
        /// Which.
        at: Position,
        /// From when on it is valid.
        not_before: SystemTime,
        /// When it had to be.
        time: SystemTime,
    },
    /// Too old.
    #[error("{at}: expired at {}, and the time is {}", Moment(.not_after), Moment(.time))]
    Expired {
        /// Which.
        at: Position,
        /// Until when it was valid.
        not_after: SystemTime,
        /// When it had to be.
        time: SystemTime,
    },
    /// A certificate that may not issue others, and did.
    #[error("{0}: not a certificate authority")]
    NotAuthority(Position),
    /// A certificate authority, or one whose key may sign certificates, does not sign documents.
    #[error("certificate: a certificate authority, expected one that may only sign documents")]
    LeafIsAuthority,
    /// The certificate authority may not have that many under it.
    #[error("{at}: followed by {actual} certificate authorities, and allows {allowed}")]
    PathLength {
        /// Which.
        at: Position,
        /// How many it allows.
        allowed: usize,
        /// How many there are.
        actual: usize,
    },
    /// The key is for something else.
    #[error("{at}: its key usage lacks {missing}")]
    KeyUsage {
        /// Which.
        at: Position,
        /// What it should be for.
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

/// When a chain has to be valid.
pub(crate) struct Clock {
    pub(crate) time: SystemTime,
    /// How much later a certificate may begin.
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

/// RFC 5280 does not count certificates that name themselves as issuer; here everything counts.
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
