//! An X.509 certificate (RFC 5280), limited to what AWS's chains use.

use std::time::SystemTime;

use aws_lc_rs::signature::{ECDSA_P384_SHA384_ASN1, UnparsedPublicKey};
use der::asn1::{BitString, ObjectIdentifier};
use der::oid::AssociatedOid;
use der::{Decode, Reader, SliceReader};
use thiserror::Error;
use x509_cert::TbsCertificate;
use x509_cert::certificate::Version;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage};
use x509_cert::name::Name;
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::time::Time;

/// ecdsa-with-SHA384 (RFC 5758, section 3.2), always without parameters.
const ECDSA_WITH_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");
/// id-ecPublicKey (RFC 5480, section 2.1.1).
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// secp384r1 (RFC 5480, section 2.1.1.1).
const SECP384R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
/// 4, then two coordinates of 48 bytes: an uncompressed point (RFC 5480, section 2.2).
const POINT_LEN: usize = 97;
const UNCOMPRESSED: u8 = 4;

/// A well-formed certificate: version 3, a P-384 key, signed with ecdsa-with-SHA384, no unknown critical extension,
/// consistent basic constraints. Its signature is not verified yet.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    signed_bytes: Vec<u8>,
    signature: Vec<u8>,
    issuer: Name,
    subject: Name,
    not_before: SystemTime,
    not_after: SystemTime,
    public_key: Vec<u8>,
    /// `None` means "not a CA".
    basic_constraints: Option<BasicConstraints>,
    key_usage: Option<KeyUsage>,
}

/// A rule that a certificate breaks, whatever its chain.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CertificateError {
    /// Not DER, or not a certificate.
    #[error("expected an X.509 certificate in DER")]
    Der(#[from] der::Error),
    /// Extensions came with version 3.
    #[error("not version 3")]
    Version,
    /// The algorithm, in one of the two places where a certificate names it.
    #[error("signed with algorithm {0}, expected ecdsa-with-SHA384")]
    SignatureAlgorithm(ObjectIdentifier),
    /// The algorithm's parameters.
    #[error("ecdsa-with-SHA384 with parameters, expected none")]
    SignatureParameters,
    /// Not P-384.
    #[error("the public key is not an uncompressed point of P-384")]
    PublicKey,
    /// The same extension twice.
    #[error("duplicate extension {0}")]
    DuplicateExtension(ObjectIdentifier),
    /// It may change what the certificate means.
    #[error("unknown critical extension {0}")]
    CriticalExtension(ObjectIdentifier),
    /// A verifier without this extension would take the authority's certificate for a leaf.
    #[error("the basic constraints of a certificate authority are not critical, expected critical")]
    NotCritical,
    /// Only certificate authorities have one.
    #[error("a path length, expected none: not a certificate authority")]
    PathLength,
    /// An extension that cannot be parsed.
    #[error("extension {oid}")]
    Extension {
        /// The extension.
        oid: ObjectIdentifier,
        /// The cause.
        source: der::Error,
    },
}

impl Certificate {
    /// Reads all of `der`.
    pub(crate) fn parse(der: &[u8]) -> Result<Self, CertificateError> {
        let mut reader = SliceReader::new(der)?;
        let (signed_bytes, algorithm, signature) = reader.sequence(|reader| {
            let parts = (reader.tlv_bytes()?, AlgorithmIdentifierOwned::decode(reader)?, BitString::decode(reader)?);
            der::Result::Ok(parts)
        })?;
        reader.finish()?;
        let tbs = TbsCertificate::from_der(signed_bytes)?;
        if tbs.version() != Version::V3 {
            return Err(CertificateError::Version);
        }
        check_algorithm(&algorithm)?;
        check_algorithm(tbs.signature())?;
        let signature = signature.as_bytes().ok_or_else(|| der::Error::from(der::Tag::BitString.value_error()))?;
        let extensions = tbs.extensions().map_or(&[][..], Vec::as_slice);
        check_extensions(extensions)?;
        let basic_constraints = extension(extensions)?;
        check_basic_constraints(basic_constraints.as_ref(), extensions)?;
        Ok(Self {
            signed_bytes: signed_bytes.to_vec(),
            signature: signature.to_vec(),
            issuer: tbs.issuer().clone(),
            subject: tbs.subject().clone(),
            not_before: moment(tbs.validity().not_before),
            not_after: moment(tbs.validity().not_after),
            public_key: point(tbs.subject_public_key_info())?,
            basic_constraints,
            key_usage: extension(extensions)?,
        })
    }

    /// An uncompressed point of P-384.
    pub(crate) fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    pub(crate) fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// The last valid second.
    pub(crate) fn not_after(&self) -> SystemTime {
        self.not_after
    }

    pub(crate) fn is_valid_at(&self, time: SystemTime) -> bool {
        (self.not_before..=self.not_after).contains(&time)
    }

    pub(crate) fn names_as_issuer(&self, issuer: &Self) -> bool {
        self.issuer == issuer.subject
    }

    pub(crate) fn is_signed_by(&self, issuer: &Self) -> bool {
        let key = UnparsedPublicKey::new(&ECDSA_P384_SHA384_ASN1, &issuer.public_key);
        key.verify(&self.signed_bytes, &self.signature).is_ok()
    }

    pub(crate) fn is_ca(&self) -> bool {
        self.basic_constraints.as_ref().is_some_and(|constraints| constraints.ca)
    }

    /// How many CAs may follow; `None`: any number.
    pub(crate) fn path_length(&self) -> Option<usize> {
        self.basic_constraints.as_ref().and_then(|constraints| constraints.path_len_constraint).map(usize::from)
    }

    pub(crate) fn may_sign_certificates(&self) -> bool {
        self.key_usage.is_some_and(|usage| usage.key_cert_sign())
    }

    pub(crate) fn may_sign_documents(&self) -> bool {
        self.key_usage.is_some_and(|usage| usage.digital_signature())
    }
}

fn check_algorithm(algorithm: &AlgorithmIdentifierOwned) -> Result<(), CertificateError> {
    if algorithm.oid != ECDSA_WITH_SHA384 {
        return Err(CertificateError::SignatureAlgorithm(algorithm.oid));
    }
    if algorithm.parameters.is_some() {
        return Err(CertificateError::SignatureParameters);
    }
    Ok(())
}

fn check_extensions(extensions: &[Extension]) -> Result<(), CertificateError> {
    for (index, extension) in extensions.iter().enumerate() {
        if extensions.iter().take(index).any(|other| other.extn_id == extension.extn_id) {
            return Err(CertificateError::DuplicateExtension(extension.extn_id));
        }
        if extension.critical && ![BasicConstraints::OID, KeyUsage::OID].contains(&extension.extn_id) {
            return Err(CertificateError::CriticalExtension(extension.extn_id));
        }
    }
    Ok(())
}

/// RFC 5280, section 4.2.1.9.
fn check_basic_constraints(
    constraints: Option<&BasicConstraints>,
    extensions: &[Extension],
) -> Result<(), CertificateError> {
    let is_ca = constraints.is_some_and(|constraints| constraints.ca);
    if is_ca && !extensions.iter().any(|extension| extension.extn_id == BasicConstraints::OID && extension.critical) {
        return Err(CertificateError::NotCritical);
    }
    if !is_ca && constraints.is_some_and(|constraints| constraints.path_len_constraint.is_some()) {
        return Err(CertificateError::PathLength);
    }
    Ok(())
}

fn extension<'a, T>(extensions: &'a [Extension]) -> Result<Option<T>, CertificateError>
where
    T: AssociatedOid + Decode<'a, Error = der::Error>,
{
    let found = extensions.iter().find(|extension| extension.extn_id == T::OID);
    let parsed = found.map(|extension| T::from_der(extension.extn_value.as_bytes())).transpose();
    parsed.map_err(|source| CertificateError::Extension { oid: T::OID, source })
}

fn moment(time: Time) -> SystemTime {
    SystemTime::UNIX_EPOCH + time.to_unix_duration()
}

fn point(info: &SubjectPublicKeyInfoOwned) -> Result<Vec<u8>, CertificateError> {
    let curve = info.algorithm.parameters.as_ref().and_then(|parameters| parameters.decode_as().ok());
    let point = info.subject_public_key.as_bytes().ok_or(CertificateError::PublicKey)?;
    let is_right = info.algorithm.oid == EC_PUBLIC_KEY
        && curve == Some(SECP384R1)
        && point.len() == POINT_LEN
        && point.first() == Some(&UNCOMPRESSED);
    if is_right { Ok(point.to_vec()) } else { Err(CertificateError::PublicKey) }
}
