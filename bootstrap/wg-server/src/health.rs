//! What wg-server has repaired, and what it cannot repair, for the log and for the status.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// What wg-server owns on its host and repairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// The table `inet wg_server`.
    Firewall,
    /// The WireGuard interface itself, its key and its port.
    Interface,
    /// The interface's MTU and whether it is up.
    Link,
    /// The gateway's addresses.
    Address,
    /// The routes to the networks of these addresses.
    Route,
    /// The forwarding sysctls.
    Forwarding,
    /// The kernel's peers.
    Peer,
    /// The name server.
    Named,
}

/// Who reports problems. Each topic's list is replaced as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Topic {
    Firewall,
    ForeignFirewall,
    LegacyFirewall,
    Interface,
    Peers,
    Forwarding,
    Ipv6,
    Connections,
    Egress,
    Watch,
}

/// How often a kind was repaired, and when last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Repairs {
    pub(crate) count: u64,
    pub(crate) last: Option<SystemTime>,
}

/// Shared by the tasks that repair and the status, which shows it.
#[derive(Debug, Default)]
pub(crate) struct Health {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    repairs: BTreeMap<Kind, Repairs>,
    problems: BTreeMap<Topic, Vec<String>>,
}

impl Kind {
    pub(crate) const ALL: [Self; 8] = [
        Self::Firewall,
        Self::Interface,
        Self::Link,
        Self::Address,
        Self::Route,
        Self::Forwarding,
        Self::Peer,
        Self::Named,
    ];

    /// For the status.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Firewall => "firewall",
            Self::Interface => "interface",
            Self::Link => "link",
            Self::Address => "address",
            Self::Route => "route",
            Self::Forwarding => "forwarding",
            Self::Peer => "peer",
            Self::Named => "named",
        }
    }
}

impl Health {
    /// Counts and logs a repair.
    pub(crate) fn repaired(&self, kind: Kind, found: &str, done: &str) {
        let count = {
            let mut inner = self.lock();
            let repairs = inner.repairs.entry(kind).or_default();
            repairs.count += 1;
            repairs.last = Some(SystemTime::now());
            repairs.count
        };
        tracing::warn!(kind = kind.name(), found, done, count, "repaired what something else on this host changed");
    }

    /// Sets the problems of a topic, each one sentence that ends with what to do. Logs only changes.
    pub(crate) fn set_problems(&self, topic: Topic, problems: Vec<String>) {
        let former = {
            let mut inner = self.lock();
            inner.problems.insert(topic, problems.clone()).unwrap_or_default()
        };
        for problem in problems.iter().filter(|problem| !former.contains(problem)) {
            tracing::warn!(?topic, "problem: {problem}");
        }
        for problem in former.iter().filter(|problem| !problems.contains(problem)) {
            tracing::info!(?topic, "no longer a problem: {problem}");
        }
    }

    /// Sets the only problem of a topic, or none.
    pub(crate) fn set_problem(&self, topic: Topic, problem: Option<String>) {
        self.set_problems(topic, problem.into_iter().collect());
    }

    /// All kinds, including those never repaired.
    pub(crate) fn repairs(&self) -> BTreeMap<Kind, Repairs> {
        let inner = self.lock();
        Kind::ALL.into_iter().map(|kind| (kind, inner.repairs.get(&kind).copied().unwrap_or_default())).collect()
    }

    /// All present problems.
    pub(crate) fn problems(&self) -> Vec<String> {
        self.lock().problems.values().flatten().cloned().collect()
    }

    /// Those of some topics.
    pub(crate) fn problems_of(&self, topics: &[Topic]) -> Vec<String> {
        let inner = self.lock();
        topics.iter().filter_map(|topic| inner.problems.get(topic)).flatten().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repair_is_counted_under_its_kind_and_dated() {
        let health = Health::default();
        health.repaired(Kind::Firewall, "no table", "the table");
        health.repaired(Kind::Firewall, "no table", "the table");
        let repairs = health.repairs();
        assert_eq!(repairs[&Kind::Firewall].count, 2);
        assert!(repairs[&Kind::Firewall].last.is_some());
        assert_eq!(repairs[&Kind::Peer], Repairs::default());
        assert_eq!(repairs.len(), Kind::ALL.len());
    }

    #[test]
    fn a_topic_s_problems_are_replaced_and_the_others_stay() {
        let health = Health::default();
        health.set_problem(Topic::Firewall, Some("a".to_owned()));
        health.set_problem(Topic::Ipv6, Some("b".to_owned()));
        health.set_problem(Topic::Firewall, Some("c".to_owned()));
        assert_eq!(health.problems(), ["c", "b"]);
        assert_eq!(health.problems_of(&[Topic::Ipv6, Topic::Peers]), ["b"]);
        health.set_problem(Topic::Firewall, None);
        assert_eq!(health.problems(), ["b"]);
    }
}
