//! The encryption context, to which a ciphertext is bound. It is not secret.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::pairs::Pairs;

/// Names and values. An absent context is an empty one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "Pairs<String>")]
pub(crate) struct EncryptionContext(BTreeMap<String, String>);

impl EncryptionContext {
    pub(crate) fn empty() -> Self {
        Self(BTreeMap::new())
    }

    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Names and values, each after its length, sorted by name. Different contexts have different bytes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for text in self.0.iter().flat_map(|(name, value)| [name, value]) {
            bytes.extend((text.len() as u64).to_be_bytes());
            bytes.extend(text.as_bytes());
        }
        bytes
    }
}

impl From<Pairs<String>> for EncryptionContext {
    fn from(Pairs(pairs): Pairs<String>) -> Self {
        Self(pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(json: &str) -> EncryptionContext {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn the_order_of_names_does_not_matter() {
        let [one, other] = [r#"{"a": "1", "b": "2"}"#, r#"{"b": "2", "a": "1"}"#].map(context);
        assert_eq!(one.to_bytes(), other.to_bytes());
    }

    #[test]
    fn where_a_name_ends_matters() {
        let [one, other] = [r#"{"ab": "c"}"#, r#"{"a": "bc"}"#].map(context);
        assert_ne!(one.to_bytes(), other.to_bytes());
    }

    #[test]
    fn values_are_texts() {
        serde_json::from_str::<EncryptionContext>(r#"{"a": 1}"#).unwrap_err();
    }
}
