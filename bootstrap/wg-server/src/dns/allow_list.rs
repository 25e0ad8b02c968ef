//! The names that enclaves may look up.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

/// The name of the policy zone. In the zone every name on the list stands in front of it.
pub(super) const POLICY_ZONE: &str = "wg-policy";
/// The longest name in text, without the last dot (RFC 1035, section 2.3.4), less the name of the policy zone.
const MAX_NAME_LEN: usize = 253 - POLICY_ZONE.len() - 1;
const MAX_LABEL_LEN: usize = 63;
/// Far more than anybody maintains by hand. Limits named's memory.
pub(crate) const MAX_NAMES: usize = 10_000;

/// A domain name in lower case, without the last dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name(String);

/// Whether the list allows a name itself, and the names below it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) itself: bool,
    pub(crate) below: bool,
}

/// The list. Names that are not on it are denied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AllowList {
    entries: BTreeMap<Name, Entry>,
    doubled: Vec<Doubled>,
}

/// An entry that is on the list twice.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Doubled {
    entry: String,
    lines: [u32; 2],
}

impl Name {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let like = "expected a name like `aws.com` or `*.aws.com`";
        ensure!(name.parse::<std::net::IpAddr>().is_err(), "{text:?} is an address, {like}");
        ensure!(name.len() <= MAX_NAME_LEN, "{} characters, expected at most {MAX_NAME_LEN}", name.len());
        for label in name.split('.') {
            ensure!(!label.is_empty(), "{text:?} has an empty label, {like}");
            ensure!(label.len() <= MAX_LABEL_LEN, "{label:?} is too long, expected at most {MAX_LABEL_LEN} characters");
            if !label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
                bail!(
                    "{text:?} contains characters other than letters, digits, `-`, `_` and dots, {like} (write others in punycode)"
                );
            }
        }
        Ok(Self(name))
    }

    /// The name without its first label.
    pub(crate) fn parent(&self) -> Option<Self> {
        self.0.split_once('.').map(|(_, parent)| Self(parent.to_owned()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl AllowList {
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    /// Parses one name a line. `#` starts a comment. Errors name the line.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        // Some editors write a byte order mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let (mut list, mut lines) = (Self::default(), BTreeMap::new());
        for (line, number) in text.lines().zip(1_u32..) {
            let entry = line.split_once('#').map_or(line, |(entry, _comment)| entry).trim();
            if entry.is_empty() {
                continue;
            }
            ensure!(list.entries.len() < MAX_NAMES, "line {number}: expected at most {MAX_NAMES} names");
            let added = parse_entry(entry).with_context(|| format!("line {number}"))?;
            if let Some(first) = lines.get(&added) {
                list.doubled.push(Doubled { entry: entry.to_owned(), lines: [*first, number] });
                continue;
            }
            list.add(&added);
            lines.insert(added, number);
        }
        Ok(list)
    }

    /// Parses entries of a list without comments. Errors name the entry.
    pub(crate) fn of(entries: &[String]) -> Result<Self> {
        let mut list = Self::default();
        for entry in entries {
            let added = parse_entry(entry)?;
            ensure!(list.add(&added), "{entry:?} is there twice, expected each name once");
        }
        Ok(list)
    }

    /// Whether the entry is new.
    fn add(&mut self, (name, is_below): &(Name, bool)) -> bool {
        let known = self.entries.entry(name.clone()).or_default();
        !std::mem::replace(if *is_below { &mut known.below } else { &mut known.itself }, true)
    }

    /// Adds what another list allows.
    pub(super) fn extend(&mut self, other: &Self) {
        for (name, Entry { itself, below }) in other.entries() {
            let known = self.entries.entry(name.clone()).or_default();
            *known = Entry { itself: known.itself || itself, below: known.below || below };
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Warnings about entries that are there twice, one sentence each.
    pub(super) fn warnings(&self, path: &Path) -> Vec<String> {
        let doubled = self.doubled.iter().map(|Doubled { entry, lines: [first, second] }| {
            format!("{}: line {second}: {entry} is already on line {first}; expected each name once", path.display())
        });
        doubled.collect()
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (&Name, Entry)> {
        self.entries.iter().map(|(name, entry)| (name, *entry))
    }

    /// As [`Self::of`] reads them.
    pub(crate) fn to_texts(&self) -> Vec<String> {
        let each = self.entries.iter().flat_map(|(name, entry)| {
            let itself = entry.itself.then(|| name.to_string());
            itself.into_iter().chain(entry.below.then(|| format!("*.{name}")))
        });
        each.collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.values().map(|entry| usize::from(entry.itself) + usize::from(entry.below)).sum()
    }

    /// Whether the list allows this name.
    pub(crate) fn allows(&self, name: &Name) -> bool {
        self.entries.get(name).is_some_and(|entry| entry.itself) || self.allows_below_an_ancestor_of(name)
    }

    /// Whether the list allows names directly below this one that are not on the list themselves.
    pub(crate) fn allows_below(&self, name: &Name) -> bool {
        self.entries.get(name).is_some_and(|entry| entry.below) || self.allows_below_an_ancestor_of(name)
    }

    fn allows_below_an_ancestor_of(&self, name: &Name) -> bool {
        std::iter::successors(name.parent(), Name::parent)
            .any(|ancestor| self.entries.get(&ancestor).is_some_and(|entry| entry.below))
    }
}

/// A name, and whether the entry stands for the names below it.
fn parse_entry(entry: &str) -> Result<(Name, bool)> {
    ensure!(entry != "*", "`*` would allow every name; expected the names that are needed, like `aws.com`");
    Ok(match entry.strip_prefix("*.") {
        Some(name) => (Name::parse(name)?, true),
        None => (Name::parse(entry)?, false),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> AllowList {
        AllowList::parse(text).unwrap()
    }

    fn error(text: &str) -> String {
        format!("{:#}", AllowList::parse(text).unwrap_err())
    }

    #[test]
    fn a_name_allows_itself_and_nothing_else() {
        let list = list("# names\n\nAWS.com.  # the one\n");
        assert!(list.allows(&Name::parse("aws.com").unwrap()));
        for name in ["com", "x.aws.com", "notaws.com", "aws.com.evil.test"] {
            assert!(!list.allows(&Name::parse(name).unwrap()), "{name}");
        }
    }

    #[test]
    fn a_wildcard_allows_everything_below_and_not_the_name_itself() {
        let list = list("*.aws.com\n");
        assert!(list.allows(&Name::parse("a.b.aws.com").unwrap()));
        assert!(!list.allows(&Name::parse("aws.com").unwrap()));
    }

    #[test]
    fn a_name_that_is_there_twice_is_a_warning_with_both_lines() {
        let doubled = list("aws.com\n*.aws.com\n\nAWS.COM.\n");
        assert_eq!(doubled.len(), 2);
        let expected = "list.txt: line 4: AWS.COM. is already on line 1; expected each name once";
        assert_eq!(doubled.warnings(Path::new("list.txt")), [expected]);
    }

    #[test]
    fn a_byte_order_mark_is_not_a_part_of_the_first_name() {
        assert_eq!(list("\u{feff}aws.com\r\n"), list("aws.com\n"));
    }

    #[test]
    fn a_bad_line_is_named_by_its_number() {
        assert!(error("aws.com\n198.51.100.1\n").starts_with("line 2: \"198.51.100.1\" is an address"));
        assert!(error("a..b\n").starts_with("line 1: \"a..b\" has an empty label"));
        assert!(error("\n\n*\n").starts_with("line 3: `*` would allow every name"));
        assert!(error("a.*.b\n").starts_with("line 1: \"a.*.b\" contains characters other"));
        assert!(error("b\u{fc}cher.example\n").contains("punycode"));
        assert!(error("aws.com CNAME .\n").starts_with("line 1: "));
        assert!(error("\"; }; zone \"x\n").starts_with("line 1: "));
        assert!(error(&"a".repeat(64)).starts_with("line 1: \"aaaa"));
    }
}
