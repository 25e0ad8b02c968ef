//! The supported operations of KMS and their parameters.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::context::EncryptionContext;
use crate::failure::{Failure, Kind};

const SERVICE: &str = "TrentService.";
/// Unsupported: only the configuration changes keys.
const UNSUPPORTED: [&str; 6] =
    ["CreateGrant", "CreateKey", "DisableKey", "EnableKey", "PutKeyPolicy", "ScheduleKeyDeletion"];

/// A supported operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum Operation {
    Decrypt,
    DescribeKey,
    Encrypt,
    GenerateDataKey,
    GenerateRandom,
    GetKeyPolicy,
    ListGrants,
    ReEncrypt,
}

/// Parameters of `Decrypt`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct Decrypt {
    pub(crate) ciphertext_blob: Bytes,
    pub(crate) key_id: Option<String>,
    pub(crate) encryption_context: Option<EncryptionContext>,
    #[serde(rename = "EncryptionAlgorithm")]
    _encryption_algorithm: Option<Symmetric>,
    pub(crate) recipient: Option<RecipientInfo>,
}

/// Parameters of `DescribeKey`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct DescribeKey {
    pub(crate) key_id: String,
}

/// Parameters of `Encrypt`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct Encrypt {
    pub(crate) key_id: String,
    pub(crate) plaintext: Bytes,
    pub(crate) encryption_context: Option<EncryptionContext>,
    #[serde(rename = "EncryptionAlgorithm")]
    _encryption_algorithm: Option<Symmetric>,
}

/// Parameters of `GenerateDataKey`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct GenerateDataKey {
    pub(crate) key_id: String,
    pub(crate) key_spec: Option<KeySpec>,
    pub(crate) number_of_bytes: Option<u32>,
    pub(crate) encryption_context: Option<EncryptionContext>,
    pub(crate) recipient: Option<RecipientInfo>,
}

/// Parameters of `GenerateRandom`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct GenerateRandom {
    pub(crate) number_of_bytes: Option<u32>,
    pub(crate) recipient: Option<RecipientInfo>,
}

/// Parameters of `GetKeyPolicy`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct GetKeyPolicy {
    pub(crate) key_id: String,
    pub(crate) policy_name: Option<String>,
}

/// Parameters of `ListGrants`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct ListGrants {
    pub(crate) key_id: String,
}

/// Parameters of `ReEncrypt`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct ReEncrypt {
    pub(crate) ciphertext_blob: Bytes,
    pub(crate) source_key_id: Option<String>,
    pub(crate) source_encryption_context: Option<EncryptionContext>,
    #[serde(rename = "SourceEncryptionAlgorithm")]
    _source_encryption_algorithm: Option<Symmetric>,
    pub(crate) destination_key_id: String,
    pub(crate) destination_encryption_context: Option<EncryptionContext>,
    #[serde(rename = "DestinationEncryptionAlgorithm")]
    _destination_encryption_algorithm: Option<Symmetric>,
}

/// Requests an answer that only the enclave can decrypt.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct RecipientInfo {
    pub(crate) key_encryption_algorithm: String,
    pub(crate) attestation_document: Bytes,
}

/// The algorithm of all keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum Symmetric {
    #[serde(rename = "SYMMETRIC_DEFAULT")]
    Default,
}

/// The length of a data key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum KeySpec {
    #[serde(rename = "AES_128")]
    Aes128,
    #[serde(rename = "AES_256")]
    Aes256,
}

/// Base64 in JSON; possibly secret.
#[derive(PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) Zeroizing<Vec<u8>>);

impl Operation {
    /// Parses `X-Amz-Target`.
    pub(crate) fn parse(target: &str) -> Result<Self, Failure> {
        let name = target.strip_prefix(SERVICE);
        match name {
            Some("Decrypt") => Ok(Self::Decrypt),
            Some("DescribeKey") => Ok(Self::DescribeKey),
            Some("Encrypt") => Ok(Self::Encrypt),
            Some("GenerateDataKey") => Ok(Self::GenerateDataKey),
            Some("GenerateRandom") => Ok(Self::GenerateRandom),
            Some("GetKeyPolicy") => Ok(Self::GetKeyPolicy),
            Some("ListGrants") => Ok(Self::ListGrants),
            Some("ReEncrypt") => Ok(Self::ReEncrypt),
            Some(name) if UNSUPPORTED.contains(&name) => {
                Err(Failure::new(Kind::UnsupportedOperation, format!("The stand-in for KMS has no {name}.")))
            }
            Some(_) | None => Err(Failure::new(Kind::UnknownOperation, format!("No operation {target:?}."))),
        }
    }

    /// The action's name in policies; of `ReEncrypt`, which has two, that of its source.
    pub(crate) fn action(self) -> &'static str {
        match self {
            Self::Decrypt => "kms:Decrypt",
            Self::DescribeKey => "kms:DescribeKey",
            Self::Encrypt => "kms:Encrypt",
            Self::GenerateDataKey => "kms:GenerateDataKey",
            Self::GenerateRandom => "kms:GenerateRandom",
            Self::GetKeyPolicy => "kms:GetKeyPolicy",
            Self::ListGrants => "kms:ListGrants",
            Self::ReEncrypt => "kms:ReEncryptFrom",
        }
    }
}

/// Parses an operation's parameters.
pub(crate) fn parameters<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    // serde would accept a list in place of an object.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(Failure::new(Kind::Serialization, "The body is not a JSON object."));
    }
    serde_json::from_slice(body).map_err(|error| {
        let kind = if error.is_data() { Kind::Validation } else { Kind::Serialization };
        Failure::new(kind, error.to_string())
    })
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The libraries' errors would quote possible secrets.
        let refused = || D::Error::custom("not a text in Base64");
        let Value::String(text) = Value::deserialize(deserializer)? else {
            return Err(refused());
        };
        let text = Zeroizing::new(text);
        let bytes = STANDARD.decode(text.as_bytes()).ok().ok_or_else(refused)?;
        Ok(Self(Zeroizing::new(bytes)))
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
