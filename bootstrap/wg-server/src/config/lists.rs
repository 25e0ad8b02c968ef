//! `[[egress.lists]]`: what only some enclaves may reach.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use tunnel::port::Cid;

use super::egress::{self, Allowed};
use super::path::absolute;
use super::{AttestationFiles, Remote};
use crate::dns::AllowList;
use crate::enclave_id::is_enclave;

/// Each list has four sets in the kernel, and each packet that starts a connection passes the rules of all lists.
const MAX_LISTS: usize = 16;
/// The longest name of a list. Names of sets have room for 255 characters (`NFT_NAME_MAXLEN`, linux/netfilter/nf_tables.h).
const MAX_NAME_LEN: usize = 32;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListTable {
    name: String,
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    destinations: Vec<String>,
    #[serde(default)]
    cids: Vec<u32>,
    #[serde(default)]
    measurements_paths: Vec<PathBuf>,
}

/// A list for some enclaves, which may also reach what every enclave may.
#[derive(Clone, Debug)]
pub(crate) struct List {
    pub(crate) name: ListName,
    pub(crate) names: AllowList,
    pub(crate) destinations: Vec<Allowed>,
    /// Empty: any CID.
    pub(crate) cids: BTreeSet<Cid>,
    /// The images, by the files of `attestation.measurements_paths`. Empty: any image. Never empty together with `cids`.
    pub(crate) measurements_paths: Vec<PathBuf>,
}

/// The name of a list: a part of the names of its sets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ListName(Arc<str>);

/// One of the lists.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ListId {
    /// `dns.allow_list_path` and `egress.destinations`, for every enclave.
    Every,
    /// One of `egress.lists`.
    Some(ListName),
}

impl ListName {
    fn parse(text: &str) -> Result<Self> {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
        ensure!(
            (1..=MAX_NAME_LEN).contains(&text.len()) && text.bytes().all(is_plain),
            "egress.lists.name: {text:?}, expected 1 to {MAX_NAME_LEN} lower-case letters, digits, `-` or `_`, like \"billing\""
        );
        Ok(Self(text.into()))
    }
}

impl List {
    /// Whether it is for an enclave with this CID and an image of these measurements files.
    pub(crate) fn is_for(&self, cid: Cid, images: &[&str]) -> bool {
        let is_one_of = |path: &PathBuf| images.iter().any(|image| Path::new(image) == path);
        (self.cids.is_empty() || self.cids.contains(&cid))
            && (self.measurements_paths.is_empty() || self.measurements_paths.iter().any(is_one_of))
    }
}

/// Checks all tables.
pub(super) fn check(tables: Vec<ListTable>) -> Result<Vec<List>> {
    let count = tables.len();
    ensure!(count <= MAX_LISTS, "egress.lists: {count} lists, expected at most {MAX_LISTS}");
    let lists: Vec<List> = tables.into_iter().map(ListTable::check).collect::<Result<_>>()?;
    let mut seen = BTreeSet::new();
    for List { name, .. } in &lists {
        ensure!(seen.insert(name), "egress.lists.name: two lists have the name \"{name}\", expected each name once");
    }
    Ok(lists)
}

/// Refuses lists for enclaves that cannot exist with these other tables.
pub(super) fn ensure_possible(lists: &[List], attestation: &AttestationFiles, remote: Option<&Remote>) -> Result<()> {
    let images = attestation.measurements_paths();
    for List { name, cids, measurements_paths, .. } in lists {
        ensure!(
            remote.is_none() || cids.is_empty(),
            "egress.lists.cids: the list {name} has CIDs, but with [remote] every parent chooses those of its enclaves; expected \
             measurements_paths"
        );
        for path in measurements_paths {
            let known: Vec<String> = images.iter().map(|path| format!("{:?}", path.display().to_string())).collect();
            let known = if known.is_empty() { "none is there".to_owned() } else { known.join(", ") };
            ensure!(
                images.contains(path),
                "egress.lists.measurements_paths: the list {name} is for {}, expected a file of \
                 attestation.measurements_paths: {known}",
                path.display()
            );
        }
    }
    Ok(())
}

impl ListTable {
    fn check(self) -> Result<List> {
        let name = ListName::parse(&self.name)?;
        ensure!(
            !(self.cids.is_empty() && self.measurements_paths.is_empty()),
            "egress.lists.cids: the list {name} is for no enclave, expected cids = [16], or measurements_paths with files of \
             attestation.measurements_paths; what every enclave may reach belongs in egress.destinations and \
             dns.allow_list_path"
        );
        ensure!(
            !(self.names.is_empty() && self.destinations.is_empty()),
            "egress.lists.names: the list {name} allows nothing, expected names like [\"api.example.com\"], or destinations"
        );
        for cid in &self.cids {
            ensure!(
                is_enclave(Cid(*cid)),
                "egress.lists.cids: {cid} in the list {name} is not an enclave's CID, expected 4 to 4294967294, like 16"
            );
        }
        let names = AllowList::of(&self.names).with_context(|| format!("egress.lists.names: the list {name}"))?;
        let destinations = egress::destinations("egress.lists.destinations", "egress.lists.names", &self.destinations)?;
        let paths = self.measurements_paths.into_iter();
        let paths = paths.map(|path| absolute("egress.lists.measurements_paths", path)).collect::<Result<_>>()?;
        let cids = self.cids.into_iter().map(Cid).collect();
        Ok(List { name, names, destinations, cids, measurements_paths: paths })
    }
}

impl fmt::Display for ListName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// For whom it is, for people.
impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, names, destinations, cids, measurements_paths } = self;
        write!(f, "the list {name} has {} names and {} destinations for ", names.len(), destinations.len())?;
        let cids: Vec<String> = cids.iter().map(ToString::to_string).collect();
        let images: Vec<String> = measurements_paths.iter().map(|path| path.display().to_string()).collect();
        match (&cids[..], &images[..]) {
            (_, []) => write!(f, "CID {}", cids.join(", ")),
            ([], _) => write!(f, "the image {}", images.join(" or ")),
            _ => write!(f, "CID {} with the image {}", cids.join(", "), images.join(" or ")),
        }
    }
}

#[cfg(test)]
pub(crate) fn name(text: &str) -> ListName {
    ListName::parse(text).unwrap()
}

#[cfg(test)]
mod tests;
