//! The firewall: our own nftables tables. Each is replaced in one transaction, watched, and removed at the end.

mod foreign;
mod gate;
mod generation;
mod legacy;
mod logging;
mod members;
mod nft;
mod opened;
mod packet;
mod rule;
mod ruleset;
mod sets;
mod table;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::config::ListId;

pub(crate) use gate::Gate;
pub(crate) use members::Members;
use nft::Nft;
pub(crate) use ruleset::{LOG_GROUP, Plan};
pub(crate) use sets::{Resolved, Sets};
use table::Table;

/// All rules are read again after a pause of this many times as long as reading took: some hosts have many that change often.
const FOREIGN_SHARE: u32 = 5;
/// Legacy iptables does not report changes.
const LEGACY_EVERY: Duration = Duration::from_secs(15);

/// The tables in the kernel. Never changes the rules of others.
#[derive(Debug)]
pub(crate) struct Firewall {
    nft: Nft,
    table: Table,
    /// To port 53.
    gate: Gate,
    /// To the enclaves.
    entrance: Gate,
    sets: Sets,
    /// Whether refused packets are also named.
    is_logged: bool,
    /// The ruleset's generation, without elements, when the tables were last seen to be in place.
    seen: Option<u32>,
    plan: Plan,
    foreign: Foreign,
    legacy_not_before: Instant,
}

/// When other tables were last read.
#[derive(Debug)]
struct Foreign {
    seen: Option<u32>,
    not_before: Instant,
}

/// What was found instead of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Nothing(&'static str),
    Changed(&'static str),
}

impl Firewall {
    /// As [`Firewall::apply_behind`] an open gate.
    #[cfg(test)]
    pub(crate) async fn apply(nft_path: &Path, plan: &Plan, is_listed: impl Fn(&ListId, &str) -> bool) -> Result<Self> {
        Self::apply_behind(plan.entrance(nft_path)?, nft_path, plan, is_listed).await
    }

    /// Sets the table, and replaces one that a killed wg-server left. The addresses in its sets stay open if `is_listed` holds for
    /// the names that they belong to. The gate to the enclaves is closed or open already.
    pub(crate) async fn apply_behind(
        entrance: Gate,
        nft_path: &Path,
        plan: &Plan,
        is_listed: impl Fn(&ListId, &str) -> bool,
    ) -> Result<Self> {
        let nft = Nft::new(nft_path.to_owned());
        let doing = "set the firewall table inet wg_server";
        let is_logged = logging::is_possible(&nft).await.context(doing)?;
        let mut table = Table::new(ruleset::TABLE, ruleset::as_json(&plan.replacement(is_logged))?);
        let left = nft.table(ruleset::TABLE).await.context(doing)?;
        let sets = Sets::adopt(plan.lists(), left.as_ref(), is_listed)?;
        let mut left = sets.lock().await;
        let elements = left.elements();
        let seen = table.put(&nft, left.statements(&elements)).await.context(doing)?;
        let seen = seen.map(|generation| left.without_elements(generation));
        left.add_rest(&elements).context(doing)?;
        drop(left);
        let gate = Gate::to_port_53(nft_path.to_owned(), plan.interface())?;
        let foreign = Foreign { seen: None, not_before: Instant::now() };
        let legacy_not_before = Instant::now();
        Ok(Self { nft, table, gate, entrance, sets, is_logged, seen, plan: plan.clone(), foreign, legacy_not_before })
    }

    /// Restores tables that changed. Returns what was found instead.
    pub(crate) async fn restore(&mut self) -> Result<Vec<Found>> {
        // No answer adds elements meanwhile.
        let mut sets = self.sets.lock().await;
        let generation = sets.generation()?;
        if self.seen == Some(generation) {
            return Ok(Vec::new());
        }
        // Until the tables are verified, assume that they changed.
        self.seen = None;
        // The first one comes first: without it, no enclave reaches the gate.
        let elements = sets.elements();
        let statements = || sets.statements(&elements);
        let table = self.table.restore(&self.nft, |table| sets.are_in(table), statements).await?;
        let put = table.as_ref().and_then(|(_, generation)| *generation).map(|it| sets.without_elements(it));
        if table.is_some() {
            sets.add_rest(&elements)?;
        }
        let gates = [self.gate.restore().await?, self.entrance.restore().await?];
        self.seen = match (&table, &gates) {
            (None, [None, None]) => Some(generation),
            (Some(_), [None, None]) => put,
            // The next check reads them again.
            (_, [Some(_), _] | [_, Some(_)]) => None,
        };
        Ok(table.map(|(found, _)| found).into_iter().chain(gates.into_iter().flatten()).collect())
    }

    /// The sets of addresses that enclaves may reach.
    pub(crate) fn sets(&self) -> Sets {
        self.sets.clone()
    }

    /// The gate to port 53 for enclaves.
    pub(crate) fn gate(&self) -> Gate {
        self.gate.clone()
    }

    /// Finds other tables that drop the enclaves' packets, one sentence each. `None` if no table has changed since the last call.
    pub(crate) async fn foreign(&mut self) -> Result<Option<Vec<String>>> {
        let (generation, started) = (self.sets.lock().await.generation()?, Instant::now());
        if self.foreign.seen == Some(generation) || started < self.foreign.not_before {
            return Ok(None);
        }
        let listing = self.nft.ruleset().await.context("read the other tables of the firewall");
        let took: Duration = started.elapsed();
        let seen = listing.is_ok().then_some(generation);
        self.foreign = Foreign { seen, not_before: Instant::now() + took * FOREIGN_SHARE };
        let listing = listing?;
        Ok(Some(foreign::problems(&listing, self.plan.interface(), &self.plan.packets())))
    }

    /// The same for legacy iptables. `None` if it was read a moment ago.
    pub(crate) async fn legacy(&mut self) -> Option<Vec<String>> {
        if Instant::now() < self.legacy_not_before {
            return None;
        }
        let problems = legacy::Host::real().problems(self.plan.interface(), &self.plan.packets()).await;
        self.legacy_not_before = Instant::now() + LEGACY_EVERY;
        Some(problems)
    }

    /// A reader of the counters, independent of the firewall's owner.
    pub(crate) fn drops(&self) -> Drops {
        Drops { nft: self.nft.clone(), is_logged: self.is_logged }
    }

    /// Removes the table.
    pub(crate) async fn remove(&self) -> Result<()> {
        let removal = ruleset::as_json(&ruleset::removal())?;
        let removed = self.nft.apply(&removal).await.context("remove the firewall table inet wg_server");
        // Without the table, no port is forwarded.
        removed.and(self.entrance.open().await)
    }
}

/// The table's counters.
#[derive(Clone, Debug)]
pub(crate) struct Drops {
    nft: Nft,
    is_logged: bool,
}

impl Drops {
    /// How many packets from enclaves to other name servers were dropped since the table was set.
    pub(crate) async fn dropped_questions(&self) -> Result<u64> {
        self.counter(ruleset::OTHER_NAME_SERVERS).await
    }

    /// How many packets from enclaves to destinations that are not open were refused since the table was set.
    pub(crate) async fn unlisted(&self) -> Result<u64> {
        self.counter(ruleset::UNLISTED).await
    }

    /// Whether the kernel sends these packets to [`LOG_GROUP`] too.
    pub(crate) fn is_logged(&self) -> bool {
        self.is_logged
    }

    async fn counter(&self, name: &str) -> Result<u64> {
        let doing = || format!("read the counter {name} of the firewall");
        ruleset::counted(&self.nft.counter(name).await.with_context(doing)?).with_context(doing)
    }
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nothing(name) => write!(f, "no table inet {name}"),
            Self::Changed(name) => write!(f, "a changed table inet {name}"),
        }
    }
}

#[cfg(test)]
mod tests;
