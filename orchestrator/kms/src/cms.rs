//! `CiphertextForRecipient`: a CMS EnvelopedData (RFC 5652, section 6) to one RSA key, in DER or BER.
//!
//! ```text
//! ContentInfo SEQUENCE
//!   contentType             OBJECT IDENTIFIER  id-envelopedData
//!   content             [0] EnvelopedData SEQUENCE
//!     version               INTEGER            2
//!     recipientInfos        SET of one KeyTransRecipientInfo SEQUENCE
//!       version             INTEGER            2
//!       rid             [0] OCTET STRING       SHA-256 of the key's SubjectPublicKeyInfo
//!       keyEncryption...    SEQUENCE           RSAES-OAEP, SHA-256, MGF1 with SHA-256, all written out
//!       encryptedKey        OCTET STRING
//!     encryptedContentInfo  SEQUENCE
//!       contentType         OBJECT IDENTIFIER  id-data
//!       contentEncrypt...   SEQUENCE           AES-256-CBC with its initialisation vector
//!       encryptedContent[0] OCTET STRING       padded as PKCS #7 says
//! ```
//!
//! KMS writes lengths that are not known beforehand and octet strings in pieces; both may occur anywhere. Nothing else
//! that CMS allows is accepted: no other recipients, algorithms, certificates or attributes.
//!
//! The structure is not secret, so its errors are specific. All errors that depend on a key are one,
//! [`CmsError::Undecryptable`]: it must not disclose to the sender which step failed.

use thiserror::Error;

use self::ber::{Reader, Tag};

pub use self::ber::BerError;

pub(crate) mod ber;

/// The longest message in bytes: KMS encrypts at most 4096 bytes of plaintext, and the rest is below 600.
pub const MAX_LEN: usize = 8192;
/// AES's block length.
pub(crate) const BLOCK_LEN: usize = 16;

/// id-envelopedData, 1.2.840.113549.1.7.3 (RFC 5652, section 6.1).
pub(crate) const ENVELOPED_DATA: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x07\x03";
/// id-data, 1.2.840.113549.1.7.1 (RFC 5652, section 4).
pub(crate) const DATA: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01";
/// id-RSAES-OAEP, 1.2.840.113549.1.1.7 (RFC 8017, appendix A.2.1).
pub(crate) const RSAES_OAEP: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x07";
/// id-mgf1, 1.2.840.113549.1.1.8 (RFC 8017, appendix A.2.1).
pub(crate) const MGF1: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x08";
/// id-sha256, 2.16.840.1.101.3.4.2.1 (RFC 8017, appendix B.1).
pub(crate) const SHA256: &[u8] = b"\x60\x86\x48\x01\x65\x03\x04\x02\x01";
/// id-aes256-CBC, 2.16.840.1.101.3.4.1.42 (RFC 3565, section 4.1).
pub(crate) const AES_256_CBC: &[u8] = b"\x60\x86\x48\x01\x65\x03\x04\x01\x2a";

/// The fields that differ from message to message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvelopedData {
    /// SHA-256 of the SubjectPublicKeyInfo of the key that opens it.
    pub key_identifier: [u8; 32],
    /// The content's key, encrypted to that key.
    pub encrypted_key: Vec<u8>,
    /// AES-CBC's first block.
    pub initialisation_vector: [u8; BLOCK_LEN],
    /// The content in whole blocks, at least one.
    pub encrypted_content: Vec<u8>,
}

/// Why a message cannot be decrypted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CmsError {
    /// Longer than [`MAX_LEN`].
    #[error("{0} bytes of CMS, expected at most {MAX_LEN}")]
    TooLong(usize),
    /// A field that is missing, truncated or followed by something unexpected.
    #[error("{field}")]
    Malformed {
        /// The field.
        field: &'static str,
        /// The cause.
        #[source]
        problem: BerError,
    },
    /// Another type or algorithm than the only one that KMS uses.
    #[error("{field} is not {expected}")]
    ObjectIdentifier {
        /// The field.
        field: &'static str,
        /// The expected type or algorithm.
        expected: &'static str,
    },
    /// Another version of CMS's structures.
    #[error("{field} is not 2")]
    Version {
        /// The field.
        field: &'static str,
    },
    /// None, or several.
    #[error("{0} recipients, expected one")]
    Recipients(usize),
    /// Not an RSA key named by its hash.
    #[error("the recipient is not named by subjectKeyIdentifier")]
    RecipientName,
    /// Encrypted for another key.
    #[error("the recipient is another key than this enclave's")]
    OtherRecipient,
    /// Not the length of this enclave's RSA modulus.
    #[error("encryptedKey is {found} bytes long, expected {expected}")]
    EncryptedKey {
        /// Its length.
        found: usize,
        /// The modulus's length.
        expected: usize,
    },
    /// Empty, or not a whole number of blocks.
    #[error("encryptedContent is {0} bytes long, expected blocks of {BLOCK_LEN}")]
    EncryptedContent(usize),
    /// Wrong key or wrong padding, of the content or of its key.
    #[error("the message does not decrypt")]
    Undecryptable,
}

/// Reads all of `bytes`, and decrypts nothing.
///
/// # Errors
/// All of [`CmsError`] that needs no key: everything but `OtherRecipient`, `EncryptedKey` and `Undecryptable`.
pub fn parse(bytes: &[u8]) -> Result<EnvelopedData, CmsError> {
    if bytes.len() > MAX_LEN {
        return Err(CmsError::TooLong(bytes.len()));
    }
    let mut outside = Fields::new("CMS", bytes);
    let mut content_info = outside.sequence("ContentInfo")?;
    outside.finish()?;
    content_info.object_identifier("contentType", ENVELOPED_DATA, "id-envelopedData")?;
    let mut content = content_info.nested("content", Tag::context(0).constructed())?;
    content_info.finish()?;
    let mut enveloped_data = content.sequence("EnvelopedData")?;
    content.finish()?;

    enveloped_data.version("EnvelopedData's version")?;
    let mut recipients = enveloped_data.nested("recipientInfos", Tag::SET)?;
    let (key_identifier, encrypted_key) = recipient(&mut recipients)?;
    let (initialisation_vector, encrypted_content) = content_of(&mut enveloped_data)?;
    enveloped_data.finish()?;
    Ok(EnvelopedData { key_identifier, encrypted_key, initialisation_vector, encrypted_content })
}

fn recipient(recipients: &mut Fields<'_>) -> Result<([u8; 32], Vec<u8>), CmsError> {
    let count = recipients.count()?;
    if count != 1 {
        return Err(CmsError::Recipients(count));
    }
    let mut recipient = recipients.sequence("KeyTransRecipientInfo")?;
    recipient.version("KeyTransRecipientInfo's version")?;
    let key_identifier = recipient.key_identifier()?;
    oaep_with_sha256(recipient.sequence("keyEncryptionAlgorithm")?)?;
    let encrypted_key = recipient.octets("encryptedKey", Tag::OCTET_STRING)?;
    recipient.finish()?;
    Ok((key_identifier, encrypted_key))
}

fn content_of(enveloped_data: &mut Fields<'_>) -> Result<([u8; BLOCK_LEN], Vec<u8>), CmsError> {
    let mut info = enveloped_data.sequence("encryptedContentInfo")?;
    info.object_identifier("encryptedContentInfo's contentType", DATA, "id-data")?;
    let mut algorithm = info.sequence("contentEncryptionAlgorithm")?;
    algorithm.object_identifier("contentEncryptionAlgorithm", AES_256_CBC, "AES-256-CBC")?;
    let vector = algorithm.octets("initialisation vector", Tag::OCTET_STRING)?;
    let vector = sized("initialisation vector", &vector)?;
    algorithm.finish()?;
    let content = info.octets("encryptedContent", Tag::context(0))?;
    info.finish()?;
    if content.is_empty() || !content.len().is_multiple_of(BLOCK_LEN) {
        return Err(CmsError::EncryptedContent(content.len()));
    }
    Ok((vector, content))
}

/// RFC 8017, appendix A.2.1. An omitted field means SHA-1, so only the label may be omitted, which is then empty.
fn oaep_with_sha256(mut algorithm: Fields<'_>) -> Result<(), CmsError> {
    algorithm.object_identifier("keyEncryptionAlgorithm", RSAES_OAEP, "RSAES-OAEP")?;
    let mut parameters = algorithm.sequence("RSAES-OAEP-params")?;
    algorithm.finish()?;

    let mut hash = parameters.nested("hashAlgorithm", Tag::context(0).constructed())?;
    sha256("hashAlgorithm", hash.sequence("hashAlgorithm")?)?;
    hash.finish()?;

    let mut mask = parameters.nested("maskGenAlgorithm", Tag::context(1).constructed())?;
    parameters.finish()?;
    let mut generator = mask.sequence("maskGenAlgorithm")?;
    mask.finish()?;
    generator.object_identifier("maskGenAlgorithm", MGF1, "MGF1")?;
    sha256("MGF1's hashAlgorithm", generator.sequence("MGF1's hashAlgorithm")?)?;
    generator.finish()
}

/// With the parameters NULL or without, as RFC 8017, appendix B.1 asks.
fn sha256(field: &'static str, mut algorithm: Fields<'_>) -> Result<(), CmsError> {
    algorithm.object_identifier(field, SHA256, "SHA-256")?;
    if !algorithm.reader.is_empty() {
        algorithm.nested(field, Tag::NULL)?.finish()?;
    }
    algorithm.finish()
}

fn sized<const LEN: usize>(field: &'static str, bytes: &[u8]) -> Result<[u8; LEN], CmsError> {
    let problem = BerError::Size { found: bytes.len(), expected: LEN };
    bytes.try_into().map_err(|_not_as_long| CmsError::Malformed { field, problem })
}

/// The fields of a structure, by their names.
struct Fields<'a> {
    structure: &'static str,
    reader: Reader<'a>,
}

impl<'a> Fields<'a> {
    fn new(structure: &'static str, bytes: &'a [u8]) -> Self {
        Self { structure, reader: Reader::new(bytes) }
    }

    fn nested(&mut self, field: &'static str, tag: Tag) -> Result<Self, CmsError> {
        let content = self.reader.expect(tag).map_err(|problem| CmsError::Malformed { field, problem })?;
        Ok(Self::new(field, content))
    }

    fn sequence(&mut self, field: &'static str) -> Result<Self, CmsError> {
        self.nested(field, Tag::SEQUENCE)
    }

    fn octets(&mut self, field: &'static str, tag: Tag) -> Result<Vec<u8>, CmsError> {
        self.reader.octets(tag).map_err(|problem| CmsError::Malformed { field, problem })
    }

    fn object_identifier(
        &mut self,
        field: &'static str,
        identifier: &[u8],
        expected: &'static str,
    ) -> Result<(), CmsError> {
        let found = self.nested(field, Tag::OBJECT_IDENTIFIER)?;
        if found.reader.is(identifier) { Ok(()) } else { Err(CmsError::ObjectIdentifier { field, expected }) }
    }

    fn version(&mut self, field: &'static str) -> Result<(), CmsError> {
        let version = self.nested(field, Tag::INTEGER)?;
        if version.reader.is(&[2]) { Ok(()) } else { Err(CmsError::Version { field }) }
    }

    fn key_identifier(&mut self) -> Result<[u8; 32], CmsError> {
        let field = "subjectKeyIdentifier";
        let identifier = match self.reader.octets(Tag::context(0)) {
            Err(BerError::Tag { .. }) => return Err(CmsError::RecipientName),
            octets => octets.map_err(|problem| CmsError::Malformed { field, problem })?,
        };
        sized(field, &identifier)
    }

    /// How many elements are left.
    fn count(&self) -> Result<usize, CmsError> {
        let (mut reader, mut count) = (self.reader, 0);
        while !reader.is_empty() {
            reader.element().map_err(|problem| CmsError::Malformed { field: self.structure, problem })?;
            count += 1;
        }
        Ok(count)
    }

    fn finish(self) -> Result<(), CmsError> {
        self.reader.finish().map_err(|problem| CmsError::Malformed { field: self.structure, problem })
    }
}

#[cfg(test)]
mod tests;
