//! The trust root: AWS's, or another one that a configuration names.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use thiserror::Error;

use crate::certificate::{Certificate, CertificateError};

/// AWS's root for Nitro Enclaves, valid to 2049. AWS publishes its SHA-256, which a test compares:
/// <https://docs.aws.amazon.com/enclaves/latest/user/verify-root.html>.
const AWS: &[u8] = include_bytes!("aws-nitro-enclaves-root.der");

/// The root certificate of a document's chain.
#[derive(Clone, Debug)]
pub struct TrustRoot {
    der: Vec<u8>,
    certificate: Certificate,
}

/// Why a certificate cannot be a [`TrustRoot`].
#[derive(Debug, Error)]
pub enum RootError {
    /// Not PEM, or more than one certificate.
    #[error("expected one certificate in PEM")]
    Pem(#[from] der::Error),
    /// PEM with another label.
    #[error("PEM of a {0:?}, expected a \"CERTIFICATE\"")]
    Label(String),
    /// Not a well-formed certificate.
    #[error("the root's certificate")]
    Certificate(#[from] CertificateError),
    /// Not self-signed, or not a certificate authority.
    #[error("not a root, expected a certificate authority's self-signed certificate")]
    NotRoot,
}

impl TrustRoot {
    /// AWS's root.
    ///
    /// # Panics
    /// Never: a test parses the certificate in this crate.
    #[must_use]
    pub fn aws() -> Self {
        Self::from_der(AWS).expect("a test parses this certificate")
    }

    /// Parses another root than AWS's, for labs. Documents under it prove nothing about Nitro hardware.
    ///
    /// # Errors
    /// If the text is not one certificate in PEM, or the errors of [`TrustRoot::from_der`].
    pub fn from_pem(pem: &str) -> Result<Self, RootError> {
        let (label, document) = der::Document::from_pem(pem)?;
        if label != "CERTIFICATE" {
            return Err(RootError::Label(label.to_owned()));
        }
        Self::from_der(document.as_bytes())
    }

    /// Like [`TrustRoot::from_pem`].
    ///
    /// # Errors
    /// If it is not a self-signed certificate of a P-384 certificate authority.
    pub fn from_der(der: &[u8]) -> Result<Self, RootError> {
        let certificate = Certificate::parse(der)?;
        let is_root = certificate.is_ca()
            && certificate.may_sign_certificates()
            && certificate.names_as_issuer(&certificate)
            && certificate.is_signed_by(&certificate);
        if is_root { Ok(Self { der: der.to_vec(), certificate }) } else { Err(RootError::NotRoot) }
    }

    /// Whether it is AWS's root.
    #[must_use]
    pub fn is_aws(&self) -> bool {
        self.der == AWS
    }

    /// SHA-256 of the certificate's DER, in hex; AWS publishes it for its root.
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
