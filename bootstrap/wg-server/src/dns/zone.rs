//! BIND's response-policy zone, which decides about a question by its name.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::allow_list::{AllowList, Name};

/// The policy zone's text.
///
/// In a policy zone, as in any zone, `*` does not match below a name that exists in the zone: with only `aws.com` and `*`,
/// `x.aws.com` and even `evil.com` would match no rule and be answered. So every ancestor of a name on the list has its own
/// rule, and another for the names below it.
pub(super) fn policy(list: &AllowList) -> String {
    let mut zone = empty();
    rule(&mut zone, "*", false);
    let listed = list.entries().map(|(name, _)| name);
    let nodes: BTreeSet<Name> =
        listed.flat_map(|name| std::iter::successors(Some(name.clone()), Name::parent)).collect();
    for name in nodes {
        rule(&mut zone, &name.to_string(), list.allows(&name));
        rule(&mut zone, &format!("*.{name}"), list.allows_below(&name));
    }
    zone
}

/// A zone with only the records that named requires.
pub(super) fn empty() -> String {
    "$TTL 60\n@ SOA localhost. root.localhost. 1 3600 600 86400 60\n@ NS localhost.\n".to_owned()
}

/// The root zone that makes named answer REFUSED. Its name server needs an address to be valid.
pub(super) fn refused_root() -> String {
    empty() + "localhost. A 127.0.0.1\n"
}

fn rule(zone: &mut String, name: &str, is_allowed: bool) {
    let action = if is_allowed { "rpz-passthru." } else { "." };
    // Writing to a string cannot fail.
    let _infallible = writeln!(zone, "{name} CNAME {action}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(list: &str) -> Vec<String> {
        let zone = policy(&AllowList::parse(list).unwrap());
        zone.lines()
            .skip(3)
            .map(|line| line.replace(" CNAME rpz-passthru.", " yes").replace(" CNAME .", " no"))
            .collect()
    }

    #[test]
    fn an_empty_list_denies_everything() {
        assert_eq!(rules(""), ["* no"]);
    }

    #[test]
    fn every_name_above_an_allowed_one_has_its_own_verdict() {
        let expected = ["* no", "aws.com yes", "*.aws.com no", "com no", "*.com no"];
        assert_eq!(rules("aws.com"), expected);
    }

    #[test]
    fn a_wildcard_reaches_past_names_that_are_listed_below_it() {
        let expected = [
            "* no",
            "a.b.aws.com yes",
            "*.a.b.aws.com yes",
            "aws.com no",
            "*.aws.com yes",
            "b.aws.com yes",
            "*.b.aws.com yes",
            "com no",
            "*.com no",
        ];
        assert_eq!(rules("*.aws.com\na.b.aws.com"), expected);
    }
}
