//! Whom to believe: AWS, or whoever else a configuration names.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use thiserror::Error;

use crate::certificate::{Certificate, CertificateError};

/// AWS's root for Nitro Enclaves, valid to 2049. AWS publishes its SHA-256, which a test compares:
/// <https://docs.aws.amazon.com/enclaves/latest/user/verify-root.html>.
const AWS: &[u8] = include_bytes!("aws-nitro-enclaves-root.der");

/// The certificate that a document's chain must start from.
#[derive(Clone, Debug)]
pub struct TrustRoot {
    der: Vec<u8>,
    certificate: Certificate,
}

/// Why a certificate cannot be a [`TrustRoot`].
#[derive(Debug, Error)]
pub enum RootError {
    /// Not one certificate in PEM.
    #[error("expected one certificate in PEM")]
    Pem(#[from] der::Error),
    /// PEM of something else.
    #[error("PEM of a {0:?}, expected a \"CERTIFICATE\"")]
    Label(String),
    /// Not as certificates of this kind are.
    #[error("the root's certificate")]
    Certificate(#[from] CertificateError),
    /// Issued by somebody else, or not a certificate authority.
    #[error("not a root: expected a certificate authority's certificate that it signed itself")]
    NotRoot,
}

impl TrustRoot {
    /// AWS's.
    ///
    /// # Panics
    /// Never: a test reads the certificate, which is part of this crate.
    #[must_use]
    pub fn aws() -> Self {
        Self::from_der(AWS).expect("a test reads this very certificate")
    }

    /// Another root than AWS's, for labs: documents that it vouches for prove nothing about Nitro hardware.
    ///
    /// # Errors
    /// Anything but the PEM of one certificate for which [`TrustRoot::from_der`] has no error.
    pub fn from_pem(pem: &str) -> Result<Self, RootError> {
        let (label, document) = der::Document::from_pem(pem)?;
        if label != "CERTIFICATE" {
            return Err(RootError::Label(label.to_owned()));
        }
        Self::from_der(document.as_bytes())
    }

    /// As [`TrustRoot::from_pem`].
    ///
    /// # Errors
    /// Anything but a self-signed certificate of a P-384 certificate authority.
    pub fn from_der(der: &[u8]) -> Result<Self, RootError> {
        let certificate = Certificate::parse(der)?;
        let is_root = certificate.is_ca()
            && certificate.may_sign_certificates()
            && certificate.names_as_issuer(&certificate)
            && certificate.is_signed_by(&certificate);
        if is_root { Ok(Self { der: der.to_vec(), certificate }) } else { Err(RootError::NotRoot) }
    }

    /// Whether it is the one that this crate pins.
    #[must_use]
    pub fn is_aws(&self) -> bool {
        self.der == AWS
    }

    /// SHA-256 of the certificate's DER, in hex, as AWS publishes it of its own.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        const_hex::encode(digest(&SHA256, &self.der))
    }

    pub(crate) fn der(&self) -> &[u8] {
        &self.der
    }

    pub(crate) fn certificate(&self) -> &Certificate {
        &self.certificate
    }
}

impl PartialEq for TrustRoot {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl Eq for TrustRoot {}

impl fmt::Display for TrustRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = if self.is_aws() { "AWS's root" } else { "NOT AWS's root but another" };
        write!(f, "{whose}, SHA-256 {}", self.fingerprint())
    }
}

#[cfg(test)]
mod tests;
