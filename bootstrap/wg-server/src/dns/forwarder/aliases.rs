//! The targets of aliases that are not on a list.
//!
//! named asks for the target of an alias alone, when that expires before the alias does. The question then does not say which
//! names on the lists led to it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hickory_proto::rr::Name;

use super::Reasons;
use crate::config::ListId;

/// Far more than a list's names have. Limits memory.
const MAX_ALIASES: usize = 4096;
/// named may be asked for the alias at the last moment, and asks for its target some seconds longer (resolver-query-timeout).
const MARGIN: Duration = Duration::from_secs(15);

/// The targets of present aliases.
#[derive(Debug, Default)]
pub(super) struct Aliases {
    targets: HashMap<Name, BTreeMap<ListId, Listed>>,
}

/// A name on a list that leads to a target.
#[derive(Debug)]
struct Listed {
    name: Arc<str>,
    until: Instant,
}

impl Aliases {
    /// The name of each list that leads to this one.
    pub(super) fn reasons(&self, target: &Name, now: Instant) -> Reasons {
        let listed = self.targets.get(target).into_iter().flatten().filter(|(_, listed)| listed.until > now);
        listed.map(|(list, listed)| (list.clone(), Arc::clone(&listed.name))).collect()
    }

    /// Adds a target, or lets it live longer.
    pub(super) fn add(&mut self, target: &Name, reasons: &Reasons, ttl: Duration, now: Instant) -> Result<()> {
        let until = now + ttl + MARGIN;
        if !self.targets.contains_key(target) && self.targets.len() >= MAX_ALIASES {
            self.targets.retain(|_, lists| lists.values().any(|listed| listed.until > now));
            ensure!(self.targets.len() < MAX_ALIASES, "{MAX_ALIASES} aliases at once, expected fewer");
        }
        let lists = self.targets.entry(target.clone()).or_default();
        for (list, name) in reasons {
            let ends_earlier = lists.get(list).is_none_or(|known| known.until < until);
            if ends_earlier {
                lists.insert(list.clone(), Listed { name: Arc::clone(name), until });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn reasons(list: ListId, listed: &str) -> Reasons {
        Reasons::from([(list, listed.into())])
    }

    fn every() -> Reasons {
        reasons(ListId::Every, "alias.example")
    }

    #[test]
    fn a_target_belongs_to_the_listed_name_for_as_long_as_the_alias_lives() {
        let (mut aliases, now) = (Aliases::default(), Instant::now());
        let ttl = Duration::from_secs(60);
        aliases.add(&name("Hidden.example."), &every(), ttl, now).unwrap();
        let at = |aliases: &Aliases, later: Duration| aliases.reasons(&name("hidden.EXAMPLE."), now + later);
        assert_eq!(at(&aliases, ttl + MARGIN - Duration::from_millis(1)), every());
        assert_eq!(at(&aliases, ttl + MARGIN), Reasons::new());
        assert_eq!(aliases.reasons(&name("other.example."), now), Reasons::new());
        // A shorter one does not end the longer one.
        aliases.add(&name("hidden.example."), &every(), Duration::ZERO, now).unwrap();
        assert_eq!(at(&aliases, ttl), every());
    }

    #[test]
    fn a_target_of_names_on_two_lists_belongs_to_both_for_as_long_as_each_alias_lives() {
        let (mut aliases, now) = (Aliases::default(), Instant::now());
        let list = || ListId::Some(crate::config::lists::name("billing"));
        let (short, long) = (Duration::from_secs(10), Duration::from_secs(60));
        aliases.add(&name("hidden.example."), &every(), short, now).unwrap();
        aliases.add(&name("hidden.example."), &reasons(list(), "b.example"), long, now).unwrap();
        let both = [(ListId::Every, "alias.example".into()), (list(), "b.example".into())].into();
        assert_eq!(aliases.reasons(&name("hidden.example."), now), both);
        assert_eq!(aliases.reasons(&name("hidden.example."), now + short + MARGIN), reasons(list(), "b.example"));
    }

    #[test]
    fn no_number_of_aliases_makes_it_grow_without_a_bound() {
        let (mut aliases, now) = (Aliases::default(), Instant::now());
        let ttl = Duration::from_secs(1);
        for number in 0..MAX_ALIASES {
            aliases.add(&name(&format!("{number}.example.")), &every(), ttl, now).unwrap();
        }
        let error = aliases.add(&name("more.example."), &every(), ttl, now).unwrap_err().to_string();
        assert_eq!(error, "4096 aliases at once, expected fewer");
        aliases.add(&name("more.example."), &every(), ttl, now + ttl + MARGIN).unwrap();
        assert_eq!(aliases.targets.len(), 1);
    }
}
