//! The encryption context: public names and values that a ciphertext is bound to.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use thiserror::Error;

/// The entry that names the ledger. The signer adds it to `kms.encryption_context` by itself.
pub const LEDGER: &str = "ledger";

/// At least one name with its value. The enclave's measured `kms.encryption_context` must be the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct EncryptionContext(BTreeMap<String, String>);

/// Why there is no [`EncryptionContext`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ContextError {
    /// No `=`.
    #[error("encryption context {0:?}, expected NAME=VALUE")]
    Form(String),
    /// Empty, or reserved by AWS.
    #[error("encryption context {0:?}, expected a name that is not empty and does not start with aws:")]
    Name(String),
    /// A name with two values.
    #[error("encryption context: {0:?} is given twice, expected once")]
    Twice(String),
    /// No entry.
    #[error(
        "no encryption context, expected what the enclave's kms.encryption_context says, such as purpose=ethereum-signer"
    )]
    Empty,
    /// Not OWNER/BUCKET.
    #[error(
        "ledger {0:?}, expected OWNER/BUCKET, such as 111122223333/example-ledger: the account and the bucket of [signer.ledger]"
    )]
    Ledger(String),
    /// For environment variables.
    #[error("encryption context, expected JSON such as {{\"purpose\": \"ethereum-signer\"}}: {0}")]
    Json(String),
}

/// What names a ledger: `OWNER/BUCKET`, as in the enclave's `[signer.ledger]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerName(String);

/// `NAME=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry(String, String);

impl EncryptionContext {
    /// Each name once.
    ///
    /// # Errors
    /// None at all, and a name that is there twice.
    pub fn new(entries: impl IntoIterator<Item = Entry>) -> Result<Self, ContextError> {
        let mut context = BTreeMap::new();
        for Entry(name, value) in entries {
            if context.contains_key(&name) {
                return Err(ContextError::Twice(name));
            }
            context.insert(name, value);
        }
        if context.is_empty() { Err(ContextError::Empty) } else { Ok(Self(context)) }
    }

    /// Reads an object of strings.
    ///
    /// # Errors
    /// As [`EncryptionContext::new`], and anything else.
    pub fn from_json(json: &str) -> Result<Self, ContextError> {
        let map: BTreeMap<String, String> =
            serde_json::from_str(json).map_err(|error| ContextError::Json(error.to_string()))?;
        Self::new(map.into_iter().map(|(name, value)| Entry::new(name, value)).collect::<Result<Vec<_>, _>>()?)
    }

    /// In order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl EncryptionContext {
    /// The ledger to which it binds, `OWNER/BUCKET`.
    #[must_use]
    pub fn ledger(&self) -> Option<&str> {
        self.0.get(LEDGER).map(String::as_str)
    }

    /// The same, bound to a ledger.
    #[must_use]
    pub fn with_ledger(mut self, ledger: &LedgerName) -> Self {
        self.0.insert(LEDGER.to_owned(), ledger.0.clone());
        self
    }
}

impl FromStr for LedgerName {
    type Err = ContextError;

    fn from_str(text: &str) -> Result<Self, ContextError> {
        let is_bucket = |name: &str| {
            (3..=63).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte))
        };
        let is_account = |owner: &str| owner.len() == 12 && owner.bytes().all(|byte| byte.is_ascii_digit());
        match text.split_once('/') {
            Some((owner, bucket)) if is_account(owner) && is_bucket(bucket) => Ok(Self(text.to_owned())),
            Some(_) | None => Err(ContextError::Ledger(text.to_owned())),
        }
    }
}

impl fmt::Display for LedgerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Entry {
    fn new(name: String, value: String) -> Result<Self, ContextError> {
        if name.is_empty() || name.starts_with("aws:") { Err(ContextError::Name(name)) } else { Ok(Self(name, value)) }
    }
}

impl FromStr for Entry {
    type Err = ContextError;

    fn from_str(text: &str) -> Result<Self, ContextError> {
        let (name, value) = text.split_once('=').ok_or_else(|| ContextError::Form(text.to_owned()))?;
        Self::new(name.to_owned(), value.to_owned())
    }
}

impl fmt::Display for EncryptionContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries: Vec<_> = self.iter().map(|(name, value)| format!("{name}={value}")).collect();
        f.write_str(&entries.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_and_json_say_the_same() {
        let entries = ["purpose=a=b", "x="].map(|text| text.parse::<Entry>().unwrap());
        let context = EncryptionContext::new(entries).unwrap();
        assert_eq!(context.to_string(), "purpose=a=b, x=");
        assert_eq!(EncryptionContext::from_json(r#"{"x": "", "purpose": "a=b"}"#), Ok(context));
    }

    #[test]
    fn what_is_no_context_is_named() {
        assert_eq!("purpose".parse::<Entry>(), Err(ContextError::Form("purpose".to_owned())));
        for name in ["", "aws:x"] {
            assert_eq!(format!("{name}=1").parse::<Entry>(), Err(ContextError::Name(name.to_owned())));
            let json = format!(r#"{{"{name}": "1"}}"#);
            assert_eq!(EncryptionContext::from_json(&json), Err(ContextError::Name(name.to_owned())));
        }
        let twice = ["a=1", "a=1"].map(|text| text.parse::<Entry>().unwrap());
        assert_eq!(EncryptionContext::new(twice), Err(ContextError::Twice("a".to_owned())));
        assert_eq!(EncryptionContext::new([]), Err(ContextError::Empty));
        assert_eq!(EncryptionContext::from_json("{}"), Err(ContextError::Empty));
        assert!(matches!(EncryptionContext::from_json(r#"{"a": 1}"#), Err(ContextError::Json(_))));
    }
}
