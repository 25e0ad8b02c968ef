//! The bodies of `POST /` and `POST /keys`: bytes become a typed request, or an error that names the field.
//!
//! ```json
//! {"transaction_payload": {"value": 0.01, "to": "0x…", "nonce": 0, "type": 2, "chainId": 1, "gas": 21000,
//!                          "maxFeePerGas": 100000000000, "maxPriorityFeePerGas": 3000000000},
//!  "secret_id": "prod/wallet"}
//! ```
//!
//! | field | value |
//! |---|---|
//! | `transaction_payload` | see below |
//! | `secret_id` | name or ARN of the Secrets Manager secret that holds the encrypted key |
//! | `encrypted_key` | or the encrypted key itself, base64 |
//! | `credential` | optional: AWS credentials to fetch and open the key with, `access_key_id`, `secret_access_key`, `token` |
//!
//! The payload's fields are those of eth-account, with `value` in ether (a JSON number or a decimal string; read from its
//! text, never as a float). Whole numbers are JSON integers or `0x` quantities. `type` may be left out as in eth-account:
//! `gasPrice` makes it 0 (with `accessList`: 1), `maxFeePerGas` makes it 2. Without `to` a contract is created from `data`.
//! Unknown fields, fields written twice, nulls and fields that the type does not have are refused.

pub(crate) mod payload;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ethereum::signable::Signable;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::error::RequestError;
use crate::json;
use crate::key::{Credential, KeyReference};

/// The longest body that is read: [`field::MAX_DATA`](crate::field::MAX_DATA) as hex, and as much again for an access list.
pub const MAX_BODY: usize = 512 * 1024;

/// The longest `encrypted_key`, decoded: KMS's `CiphertextBlob` has at most 6,144 bytes.
const MAX_CIPHERTEXT: usize = 6144;

/// The same in base64, with a line end after every few characters.
const MAX_CIPHERTEXT_TEXT: usize = MAX_CIPHERTEXT.div_ceil(3) * 4 * 2;

/// Secrets Manager's limit for `SecretId`.
const MAX_SECRET_ID: usize = 2048;

/// STS gives no maximum for session tokens; those seen are below 2 KiB.
const MAX_CREDENTIAL: usize = 8192;

/// What to sign, and with which key.
#[derive(Debug)]
pub struct SignRequest {
    /// Checked field by field.
    pub subject: Signable,
    /// Which key.
    pub key: KeyReference,
    /// None: the enclave's own.
    pub credential: Option<Credential>,
}

/// A key to be made.
#[derive(Debug)]
pub struct GenerateRequest {
    /// None: the enclave's own.
    pub credential: Option<Credential>,
}

impl SignRequest {
    /// Reads the body of `POST /`.
    ///
    /// # Errors
    /// The first field that is wrong, and what would be right.
    pub fn parse(body: &[u8]) -> Result<Self, RequestError> {
        let [payload, secret_id, encrypted_key, credential] =
            json::fields(utf8(body)?, "", ["transaction_payload", "secret_id", "encrypted_key", "credential"])?;
        let payload = payload.ok_or_else(|| missing("transaction_payload", "an object with the transaction"))?;
        let key = match (secret_id, encrypted_key) {
            (Some(id), None) => KeyReference::SecretId(secret_id_of(id)?),
            (None, Some(ciphertext)) => KeyReference::EncryptedKey(ciphertext_of(ciphertext)?),
            (None, None) => return Err(missing("secret_id", "secret_id or encrypted_key")),
            (Some(_), Some(_)) => {
                return Err(RequestError::new("encrypted_key", "beside secret_id, expected only one of the two"));
            }
        };
        Ok(Self {
            subject: Signable::Transaction(payload::parse(payload.get(), "transaction_payload")?),
            key,
            credential: credential.map(credential_of).transpose()?,
        })
    }
}

impl GenerateRequest {
    /// Reads the body of `POST /keys`: empty, or an object with at most a `credential`.
    ///
    /// # Errors
    /// The first field that is wrong, and what would be right.
    pub fn parse(body: &[u8]) -> Result<Self, RequestError> {
        if body.is_empty() {
            return Ok(Self { credential: None });
        }
        let [credential] = json::fields(utf8(body)?, "", ["credential"])?;
        Ok(Self { credential: credential.map(credential_of).transpose()? })
    }
}

pub(crate) fn utf8(body: &[u8]) -> Result<&str, RequestError> {
    if body.len() > MAX_BODY {
        return Err(RequestError::new("body", format!("{} bytes, expected at most {MAX_BODY}", body.len())));
    }
    std::str::from_utf8(body).map_err(|error| RequestError::new("body", format!("{error}, expected JSON in UTF-8")))
}

fn missing(field: &str, expected: &str) -> RequestError {
    RequestError::new(field, format!("missing, expected {expected}"))
}

fn secret_id_of(raw: &RawValue) -> Result<String, RequestError> {
    let expected =
        || RequestError::new("secret_id", format!("expected a string of 1 to {MAX_SECRET_ID} printable characters"));
    let id = secret_string(raw, MAX_SECRET_ID).ok_or_else(expected)?;
    let is_printable = id.bytes().all(|byte| byte.is_ascii_graphic());
    if id.is_empty() || !is_printable {
        return Err(expected());
    }
    Ok(id.as_str().to_owned())
}

fn ciphertext_of(raw: &RawValue) -> Result<Vec<u8>, RequestError> {
    let expected = || {
        RequestError::new("encrypted_key", format!("expected base64 of 1 to {MAX_CIPHERTEXT} bytes, as KMS gave them"))
    };
    let text = secret_string(raw, MAX_CIPHERTEXT_TEXT).ok_or_else(expected)?;
    // Line ends of all kinds: `base64` writes some after 76 characters, and people send files.
    let characters: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let bytes = STANDARD.decode(characters).map_err(|_not_base64| expected())?;
    if bytes.is_empty() || bytes.len() > MAX_CIPHERTEXT {
        return Err(expected());
    }
    Ok(bytes)
}

fn credential_of(raw: &RawValue) -> Result<Credential, RequestError> {
    let names = ["access_key_id", "secret_access_key", "token"];
    let [id, secret, token] = json::fields(raw.get(), "credential", names)?;
    let part = |name: &str, raw: Option<&RawValue>| {
        let field = json::join("credential", name);
        let expected = format!("expected a string of 1 to {MAX_CREDENTIAL} printable characters");
        let raw = raw.ok_or_else(|| RequestError::new(&field, format!("missing, {expected}")))?;
        let value = secret_string(raw, MAX_CREDENTIAL);
        // Printable: these end up in HTTP headers.
        let value = value.filter(|value| !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic()));
        value.ok_or_else(|| RequestError::new(&field, expected))
    };
    let [id_name, secret_name, token_name] = names;
    Ok(Credential::new(
        part(id_name, id)?.as_str().to_owned(),
        part(secret_name, secret)?,
        token.map(|token| part(token_name, Some(token))).transpose()?,
    ))
}

/// A string of at most `max` bytes. An error would have to show it.
fn secret_string(raw: &RawValue, max: usize) -> Option<Zeroizing<String>> {
    if raw.get().len() > max.saturating_mul(6).saturating_add(2) {
        return None;
    }
    let text: Zeroizing<String> = Zeroizing::new(serde_json::from_str(raw.get()).ok()?);
    (text.len() <= max).then_some(text)
}

#[cfg(test)]
mod tests;
