//! The versions of a secret and their labels: which key is the current one, and how an earlier one is found.
//!
//! | label | of which version |
//! |---|---|
//! | `AWSCURRENT` | the default; AWS moves `AWSPREVIOUS` to the one before it |
//! | `address-0x…` | the one with the key of that address; `address-0x…-2` if the same key was stored once more |
//! | `version-ID` | one without an address, once another has replaced it |
//!
//! Secrets Manager may delete a version without labels. The wallet moves only AWS's own labels, so it loses no key.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use ethereum::address::Address;
use thiserror::Error;

/// AWS's label for the default version.
pub(super) const CURRENT: &str = "AWSCURRENT";
const ADDRESS: &str = "address-";
const VERSION: &str = "version-";

/// A key in a secret, by its address or by its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyName {
    /// Of the Ethereum account.
    Address(Address),
    /// As Secrets Manager names it.
    Version(String),
}

/// Why a text is not a [`KeyName`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{text:?}: {cause}expected a key's address (0x and 40 hex digits) or the 32 to 64 characters of a VersionId")]
pub struct KeyNameError {
    text: String,
    cause: String,
}

/// Why a secret was not changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Conflict {
    /// A key would be replaced, and `replace` was not given.
    #[error(
        "it holds the key {0}; expected --replace {0}, or in an event \"replace\": \"{0}\", before another key takes its place"
    )]
    Occupied(KeyName),
    /// The current key is not the one to replace.
    #[error("it holds the key {present}, and the key to be replaced is {replace}; expected {present}")]
    Another {
        /// What it holds.
        present: KeyName,
        /// What the caller expects it to hold.
        replace: KeyName,
    },
    /// There is nothing to replace.
    #[error("it holds no key, and the key to be replaced is {0}; expected no --replace for the first key")]
    Empty(KeyName),
    /// There is nothing to restore.
    #[error("none of its versions is the key {0}; `aws secretsmanager list-secret-version-ids` lists them")]
    Unknown(KeyName),
}

/// All versions that have a label, as DescribeSecret has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Versions(BTreeMap<String, Vec<String>>);

impl Versions {
    pub(super) fn new(versions: impl IntoIterator<Item = (String, Vec<String>)>) -> Self {
        Self(versions.into_iter().collect())
    }

    /// The current version.
    pub(super) fn current(&self) -> Option<&str> {
        let has_label = |(_, labels): &(&String, &Vec<String>)| labels.iter().any(|label| label == CURRENT);
        self.0.iter().find(has_label).map(|(id, _)| id.as_str())
    }

    /// The current version, if it is the one that the caller names; `None` if there is none and none was named.
    pub(super) fn replaced_by(&self, replace: Option<&KeyName>) -> Result<Option<&str>, Conflict> {
        match (self.current(), replace) {
            (None, None) => Ok(None),
            (None, Some(replace)) => Err(Conflict::Empty(replace.clone())),
            (Some(current), None) => Err(Conflict::Occupied(self.name(current))),
            (Some(current), Some(replace)) if self.is(current, replace) => Ok(Some(current)),
            (Some(current), Some(replace)) => {
                Err(Conflict::Another { present: self.name(current), replace: replace.clone() })
            }
        }
    }

    /// The version that has this key; of several, the one that was stored last.
    pub(super) fn find(&self, key: &KeyName) -> Result<&str, Conflict> {
        let copies =
            |id: &str| self.labels(id).iter().filter_map(|label| address_in(label)).map(|(_, copy)| copy).max();
        let found = self.0.keys().map(String::as_str).filter(|id| self.is(id, key));
        found.max_by_key(|id| copies(id)).ok_or_else(|| Conflict::Unknown(key.clone()))
    }

    /// By its address if that is known.
    pub(super) fn name(&self, id: &str) -> KeyName {
        let address = self.labels(id).iter().find_map(|label| address_in(label));
        address.map_or_else(|| KeyName::Version(id.to_owned()), |(address, _)| KeyName::Address(address))
    }

    /// A label for another version with the key of `address`. None is ever taken from a version that has it.
    pub(super) fn label_for(&self, address: &Address) -> String {
        let labels = self.0.values().flatten().filter_map(|label| address_in(label));
        match labels.filter(|(other, _)| other == address).map(|(_, copy)| copy).max() {
            None => format!("{ADDRESS}{address}"),
            Some(copy) => format!("{ADDRESS}{address}-{}", copy.saturating_add(1)),
        }
    }

    /// The label that keeps a version which has none of its own.
    pub(super) fn label_to_keep(&self, id: &str) -> Option<String> {
        self.own_label(id).is_none().then(|| format!("{VERSION}{id}"))
    }

    /// The label by which a version is found, whichever is the current one.
    pub(super) fn own_label(&self, id: &str) -> Option<&str> {
        let is_own = |label: &&String| address_in(label).is_some() || label.starts_with(VERSION);
        self.labels(id).iter().find(is_own).map(String::as_str)
    }

    fn is(&self, id: &str, key: &KeyName) -> bool {
        match key {
            KeyName::Version(version) => version == id,
            KeyName::Address(address) => {
                self.labels(id).iter().filter_map(|label| address_in(label)).any(|(other, _)| other == *address)
            }
        }
    }

    fn labels(&self, id: &str) -> &[String] {
        self.0.get(id).map_or(&[], Vec::as_slice)
    }
}

/// The address, and the number of this copy of its key.
fn address_in(label: &str) -> Option<(Address, u32)> {
    let text = label.strip_prefix(ADDRESS)?;
    let (address, copy) = match text.split_once('-') {
        Some((address, copy)) => (address, copy.parse().ok()?),
        None => (text, 1),
    };
    Some((address.parse().ok()?, copy))
}

impl FromStr for KeyName {
    type Err = KeyNameError;

    fn from_str(text: &str) -> Result<Self, KeyNameError> {
        let wrong = |cause| KeyNameError { text: text.to_owned(), cause };
        if text.starts_with("0x") {
            let address = text.parse().map_err(|error| wrong(format!("{error}; ")))?;
            return Ok(Self::Address(address));
        }
        // As Secrets Manager takes a ClientRequestToken, which becomes the id.
        let is_id = (32..=64).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        if is_id { Ok(Self::Version(text.to_owned())) } else { Err(wrong(String::new())) }
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Version(id) => f.write_str(id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "0x2c7536E3605D9C16a7a3D7b1898e529396a65c23";
    const SECOND: &str = "0xa5D3241A1591061F2a4bB69CA0215F66520E67cf";

    fn key(text: &str) -> KeyName {
        text.parse().unwrap()
    }

    fn versions(all: &[(&str, &[&str])]) -> Versions {
        Versions::new(all.iter().map(|(id, labels)| ((*id).to_owned(), labels.iter().map(|&l| l.to_owned()).collect())))
    }

    fn id(digit: &str) -> String {
        digit.repeat(32)
    }

    #[test]
    fn a_key_is_replaced_only_by_its_name() {
        let label = format!("address-{FIRST}");
        let (a, b) = (id("a"), id("b"));
        let all = versions(&[(&a, &[&label, CURRENT]), (&b, &["AWSPREVIOUS"])]);
        assert_eq!(all.replaced_by(None), Err(Conflict::Occupied(key(FIRST))));
        for name in [FIRST, &FIRST.to_lowercase(), &a] {
            assert_eq!(all.replaced_by(Some(&key(name))), Ok(Some(a.as_str())), "{name}");
        }
        for name in [SECOND, &b] {
            let conflict = Conflict::Another { present: key(FIRST), replace: key(name) };
            assert_eq!(all.replaced_by(Some(&key(name))), Err(conflict));
        }
    }

    #[test]
    fn an_empty_secret_takes_a_key_and_replaces_none() {
        let empty = Versions::default();
        assert_eq!(empty.replaced_by(None), Ok(None));
        assert_eq!(empty.replaced_by(Some(&key(FIRST))), Err(Conflict::Empty(key(FIRST))));
    }

    #[test]
    fn a_key_without_an_address_goes_by_its_version_and_gets_a_label_that_keeps_it() {
        let a = id("a");
        let all = versions(&[(&a, &[CURRENT, "address-0x00", "address-elsewhere"])]);
        assert_eq!(all.replaced_by(None), Err(Conflict::Occupied(KeyName::Version(a.clone()))));
        assert_eq!(all.label_to_keep(&a), Some(format!("version-{a}")));
        let label = format!("address-{FIRST}");
        assert_eq!(versions(&[(&a, &[&label])]).label_to_keep(&a), None);
        assert_eq!(versions(&[(&a, &[&format!("version-{a}")])]).label_to_keep(&a), None);
    }

    #[test]
    fn a_label_is_never_taken_from_a_version_and_the_last_copy_is_found() {
        let address: Address = FIRST.parse().unwrap();
        let (a, b, c) = (id("a"), id("b"), id("c"));
        assert_eq!(Versions::default().label_for(&address), format!("address-{FIRST}"));
        let [first, second] = ["", "-2"].map(|copy| format!("address-{FIRST}{copy}"));
        let all = versions(&[(&c, &[&first]), (&a, &[&second]), (&b, &[CURRENT])]);
        assert_eq!(all.label_for(&address), format!("address-{FIRST}-3"));
        assert_eq!(all.find(&key(FIRST)), Ok(a.as_str()));
        assert_eq!(all.find(&key(&c)), Ok(c.as_str()));
        assert_eq!(all.find(&key(SECOND)), Err(Conflict::Unknown(key(SECOND))));
    }

    #[test]
    fn what_names_no_key_is_named() {
        for text in
            ["", "0x", "current", "0x2c7536E3605D9C16a7a3D7b1898e529396a65C23", &"a".repeat(31), &"!".repeat(32)]
        {
            let error = text.parse::<KeyName>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{text:?}: ")) && error.contains("expected a key's address"), "{error}");
        }
    }
}
