//! For which enclaves each list is, by their addresses. Values without I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::{Value, json};

use super::ruleset;
use crate::config::ListName;

/// The enclaves' addresses of each list. A list without any is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Members(BTreeMap<ListName, BTreeSet<IpAddr>>);

/// The name of the set for one IP version.
pub(super) fn set_name(list: &ListName, is_ipv4: bool) -> String {
    format!("enclaves_{list}_ipv{}", if is_ipv4 { 4 } else { 6 })
}

impl Members {
    /// The list is for the enclave with this address.
    pub(crate) fn insert(&mut self, list: &ListName, address: IpAddr) {
        self.0.entry(list.clone()).or_default().insert(address);
    }

    /// Those of `self` that are in `other` too.
    pub(super) fn and(&self, other: &Self) -> Self {
        let both = |(list, addresses): (&ListName, &BTreeSet<IpAddr>)| {
            let both: BTreeSet<IpAddr> = addresses.intersection(other.0.get(list)?).copied().collect();
            (!both.is_empty()).then(|| (list.clone(), both))
        };
        Self(self.0.iter().filter_map(both).collect())
    }

    /// The lists for the enclave with this address.
    pub(crate) fn lists(&self, address: IpAddr) -> BTreeSet<ListName> {
        let lists = self.0.iter().filter(|(_, addresses)| addresses.contains(&address));
        lists.map(|(list, _)| list.clone()).collect()
    }

    fn of(&self, list: &ListName, is_ipv4: bool) -> BTreeSet<IpAddr> {
        let addresses = self.0.get(list).into_iter().flatten().copied();
        addresses.filter(|address| address.is_ipv4() == is_ipv4).collect()
    }

    /// The statements that put them into the empty sets of these lists.
    pub(super) fn statements(&self, lists: &[ListName]) -> Vec<Value> {
        sets(lists).filter_map(|(list, is_ipv4)| addition(list, is_ipv4, &self.of(list, is_ipv4))).collect()
    }

    /// The sets of these lists, and what they should have. Leaves those out that have it, by what is known.
    pub(super) fn changes(&self, known: Option<&Self>, lists: &[ListName]) -> Vec<(String, BTreeSet<IpAddr>)> {
        let change = |(list, is_ipv4)| {
            let wanted = self.of(list, is_ipv4);
            let is_there = known.is_some_and(|known| known.of(list, is_ipv4) == wanted);
            (!is_there).then(|| (set_name(list, is_ipv4), wanted))
        };
        sets(lists).filter_map(change).collect()
    }

    /// Whether nft's listing has exactly these.
    pub(super) fn are_in(&self, table: &Value, lists: &[ListName]) -> bool {
        sets(lists).all(|(list, is_ipv4)| listed(table, &set_name(list, is_ipv4)) == Some(self.of(list, is_ipv4)))
    }
}

fn sets(lists: &[ListName]) -> impl Iterator<Item = (&ListName, bool)> {
    lists.iter().flat_map(|list| [(list, true), (list, false)])
}

fn addition(list: &ListName, is_ipv4: bool, addresses: &BTreeSet<IpAddr>) -> Option<Value> {
    let (table, set) = (ruleset::TABLE, set_name(list, is_ipv4));
    let statement = json!({"add": {"element": {"family": "inet", "table": table, "name": set, "elem": addresses}}});
    (!addresses.is_empty()).then_some(statement)
}

/// `None`: the set is missing, or has an element that is more than an address.
fn listed(table: &Value, name: &str) -> Option<BTreeSet<IpAddr>> {
    let mut sets = table.get("nftables")?.as_array()?.iter().filter_map(|object| object.get("set"));
    let set = sets.find(|set| set.get("name").and_then(Value::as_str) == Some(name))?;
    let elements = set.get("elem").and_then(Value::as_array).into_iter().flatten();
    elements.map(|element| element.as_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::lists::name;

    fn members(of: &[(&str, &str)]) -> Members {
        let mut members = Members::default();
        of.iter().for_each(|(list, address)| members.insert(&name(list), address.parse().unwrap()));
        members
    }

    #[test]
    fn what_both_have_is_left_and_a_list_without_enclaves_is_none() {
        let before = members(&[("a", "203.0.113.2"), ("a", "203.0.113.3"), ("b", "203.0.113.2")]);
        let after = members(&[("a", "203.0.113.3"), ("b", "203.0.113.3"), ("c", "203.0.113.3")]);
        assert_eq!(before.and(&after), members(&[("a", "203.0.113.3")]));
        assert_eq!(before.lists("203.0.113.2".parse().unwrap()), [name("a"), name("b")].into());
        assert_eq!(before.lists("203.0.113.4".parse().unwrap()), BTreeSet::new());
    }

    #[test]
    fn only_sets_that_change_are_written() {
        let before = members(&[("a", "203.0.113.2"), ("a", "fd3b::2"), ("b", "203.0.113.2")]);
        let after = members(&[("a", "203.0.113.3"), ("a", "fd3b::2")]);
        let lists = [name("a"), name("b")];
        let third = BTreeSet::from(["203.0.113.3".parse().unwrap()]);
        let expected = [("enclaves_a_ipv4".to_owned(), third), ("enclaves_b_ipv4".to_owned(), BTreeSet::new())];
        assert_eq!(after.changes(Some(&before), &lists), expected);
        assert_eq!(before.changes(Some(&before), &lists), []);
        assert_eq!(before.changes(None, &lists).len(), 4, "all, where nothing is known");
    }

    #[test]
    fn a_listing_has_exactly_them_or_not() {
        let wanted = members(&[("a", "203.0.113.2")]);
        let listing = |elements: Value| {
            let set = |name: &str, elements| json!({"set": {"name": name, "elem": elements}});
            json!({"nftables": [set("enclaves_a_ipv4", elements), {"set": {"name": "enclaves_a_ipv6"}}]})
        };
        let is_in = |elements| wanted.are_in(&listing(elements), &[name("a")]);
        assert!(is_in(json!(["203.0.113.2"])));
        for other in [json!([]), json!(["203.0.113.2", "203.0.113.3"]), json!([{"elem": {"val": "203.0.113.2"}}])] {
            assert!(!is_in(other.clone()), "{other}");
        }
        assert!(!wanted.are_in(&json!({"nftables": []}), &[name("a")]), "no set");
    }
}
