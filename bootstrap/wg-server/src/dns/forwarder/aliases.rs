//! The targets of aliases that are not on the list.
//!
//! named asks for the target of an alias alone, when that expires before the alias does. The question then does not say which
//! name on the list led to it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hickory_proto::rr::Name;

/// Far more than a list's names have. Limits memory.
const MAX_ALIASES: usize = 4096;
/// named may be asked for the alias at the last moment, and asks for its target some seconds longer (resolver-query-timeout).
const MARGIN: Duration = Duration::from_secs(15);

/// The targets of present aliases.
#[derive(Debug, Default)]
pub(super) struct Aliases {
    targets: HashMap<Name, Target>,
}

#[derive(Debug)]
struct Target {
    listed: Arc<str>,
    until: Instant,
}

impl Aliases {
    /// The name on the list that leads to this one.
    pub(super) fn listed(&self, name: &Name, now: Instant) -> Option<Arc<str>> {
        let target = self.targets.get(name).filter(|target| target.until > now)?;
        Some(Arc::clone(&target.listed))
    }

    /// Adds a target, or lets it live longer.
    pub(super) fn add(&mut self, name: &Name, listed: &Arc<str>, ttl: Duration, now: Instant) -> Result<()> {
        let until = now + ttl + MARGIN;
        if let Some(known) = self.targets.get_mut(name) {
            known.until = known.until.max(until);
            return Ok(());
        }
        if self.targets.len() >= MAX_ALIASES {
            self.targets.retain(|_, target| target.until > now);
        }
        ensure!(self.targets.len() < MAX_ALIASES, "{MAX_ALIASES} aliases at once, expected fewer");
        self.targets.insert(name.clone(), Target { listed: Arc::clone(listed), until });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    #[test]
    fn a_target_belongs_to_the_listed_name_for_as_long_as_the_alias_lives() {
        let (mut aliases, now) = (Aliases::default(), Instant::now());
        let (ttl, listed) = (Duration::from_secs(60), Arc::from("alias.example"));
        aliases.add(&name("Hidden.example."), &listed, ttl, now).unwrap();
        let at = |aliases: &Aliases, later: Duration| aliases.listed(&name("hidden.EXAMPLE."), now + later);
        assert_eq!(at(&aliases, ttl + MARGIN - Duration::from_millis(1)).as_deref(), Some("alias.example"));
        assert_eq!(at(&aliases, ttl + MARGIN), None);
        assert_eq!(aliases.listed(&name("other.example."), now), None);
        // A shorter one does not end the longer one.
        aliases.add(&name("hidden.example."), &listed, Duration::ZERO, now).unwrap();
        assert!(at(&aliases, ttl).is_some());
    }

    #[test]
    fn no_number_of_aliases_makes_it_grow_without_a_bound() {
        let (mut aliases, now) = (Aliases::default(), Instant::now());
        let listed = Arc::from("alias.example");
        let ttl = Duration::from_secs(1);
        for number in 0..MAX_ALIASES {
            aliases.add(&name(&format!("{number}.example.")), &listed, ttl, now).unwrap();
        }
        let error = aliases.add(&name("more.example."), &listed, ttl, now).unwrap_err().to_string();
        assert_eq!(error, "4096 aliases at once, expected fewer");
        aliases.add(&name("more.example."), &listed, ttl, now + ttl + MARGIN).unwrap();
        assert_eq!(aliases.targets.len(), 1);
    }
}
