//! All lists of names: that of the file, for every enclave, and those of `egress.lists`.
//!
//! named answers the names of all of them, because it cannot answer enclaves differently: its cache is shared. Which list a
//! name is on decides in which sets of the firewall its addresses are.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::allow_list::{AllowList, Name};
use crate::config::{Config, List, ListId};

/// The lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AllowLists {
    each: BTreeMap<ListId, AllowList>,
    all: AllowList,
}

impl AllowLists {
    /// Reads the file.
    pub(crate) fn load(config: &Config) -> Result<Self> {
        let every = AllowList::load(&config.dns.allow_list_path).context("dns.allow_list_path")?;
        Ok(Self::new(every, &config.egress.lists))
    }

    pub(crate) fn new(every: AllowList, lists: &[List]) -> Self {
        let named = lists.iter().map(|list| (ListId::Some(list.name.clone()), list.names.clone()));
        let each: BTreeMap<ListId, AllowList> = std::iter::once((ListId::Every, every)).chain(named).collect();
        let mut all = AllowList::default();
        each.values().for_each(|list| all.extend(list));
        Self { each, all }
    }

    /// What is on any of them.
    pub(crate) fn all(&self) -> &AllowList {
        &self.all
    }

    /// Those that allow this name.
    pub(crate) fn of<'a>(&'a self, name: &'a Name) -> impl Iterator<Item = &'a ListId> {
        self.each.iter().filter(|(_, list)| list.allows(name)).map(|(id, _)| id)
    }

    /// Whether a list, if there still is one, has this name.
    pub(crate) fn has(&self, id: &ListId, name: &str) -> bool {
        self.each.get(id).is_some_and(|list| Name::parse(name).is_ok_and(|name| list.allows(&name)))
    }

    /// The number of names on the list for every enclave.
    pub(crate) fn len_for_every(&self) -> usize {
        self.each.get(&ListId::Every).map_or(0, AllowList::len)
    }

    /// Warnings about probable mistakes, one sentence each.
    pub(crate) fn warnings(&self, config: &Config) -> Vec<String> {
        let path = &config.dns.allow_list_path;
        let mut warnings = self.each.get(&ListId::Every).map(|list| list.warnings(path)).unwrap_or_default();
        if self.all.is_empty() {
            let path = path.display();
            warnings.push(format!(
                "{path}: the list is empty, so every name is denied; expected one name a line, like `aws.com`"
            ));
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAB: &str = include_str!("../../tests/parent.toml");

    /// The lists of `tests/parent.toml` with two more.
    fn lists(every: &str) -> (AllowLists, Config) {
        let more = "[[egress.lists]]
            name = \"a\"
            names = [\"aws.com\", \"*.wild.example\"]
            cids = [16]
            [[egress.lists]]
            name = \"b\"
            names = [\"*.wild.example\", \"b.example\"]
            cids = [17]";
        let config = Config::parse(&LAB.replacen("[dns]", &format!("{more}\n[dns]"), 1)).unwrap();
        (AllowLists::new(AllowList::parse(every).unwrap(), &config.egress.lists), config)
    }

    fn id(name: &str) -> ListId {
        ListId::Some(crate::config::lists::name(name))
    }

    #[test]
    fn a_name_is_on_each_list_that_allows_it_and_named_answers_all_of_them() {
        let (lists, _) = lists("aws.com\nevery.example\n");
        let of = |name: &str| lists.of(&Name::parse(name).unwrap()).cloned().collect::<Vec<_>>();
        assert_eq!(of("aws.com"), [ListId::Every, id("a")]);
        assert_eq!(of("x.wild.example"), [id("a"), id("b")]);
        assert_eq!(of("every.example"), [ListId::Every]);
        assert_eq!(of("wild.example"), []);
        for (name, is_answered) in
            [("aws.com", true), ("x.wild.example", true), ("b.example", true), ("c.example", false)]
        {
            assert_eq!(lists.all().allows(&Name::parse(name).unwrap()), is_answered, "{name}");
        }
        assert_eq!((lists.len_for_every(), lists.all().len()), (2, 4));
    }

    #[test]
    fn a_list_that_is_gone_has_no_names() {
        let (lists, _) = lists("");
        assert!(lists.has(&id("b"), "b.example") && !lists.has(&id("b"), "aws.com"));
        assert!(!lists.has(&id("gone"), "b.example") && !lists.has(&ListId::Every, "b.example"));
    }

    #[test]
    fn an_empty_list_is_a_warning_unless_others_have_names() {
        let (_, mut config) = lists("");
        let (empty, right) = (AllowList::parse("# nothing\n").unwrap(), AllowList::parse("aws.com").unwrap());
        assert_eq!(AllowLists::new(empty.clone(), &config.egress.lists).warnings(&config), [""; 0]);
        config.egress.lists.clear();
        let [warning] = &AllowLists::new(empty, &[]).warnings(&config)[..] else { panic!("no warning") };
        let expected = "/etc/wg-server/dns-allow-list.txt: the list is empty, so every name is denied";
        assert!(warning.starts_with(expected), "{warning}");
        assert_eq!(AllowLists::new(right, &[]).warnings(&config), [""; 0]);
    }
}
