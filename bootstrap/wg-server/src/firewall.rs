//! The firewall: nftables tables of our own, each replaced whole in one transaction, watched, and removed at the end.

mod foreign;
mod gate;
mod generation;
mod legacy;
mod nft;
mod packet;
mod rule;
mod ruleset;
mod table;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

pub(crate) use gate::Gate;
use nft::Nft;
pub(crate) use ruleset::Plan;
use table::Table;

/// Everybody's rules are read again after this many times as long as it took: some hosts have many, and change them all the time.
const FOREIGN_SHARE: u32 = 5;
/// Legacy iptables tells nobody of changes.
const LEGACY_EVERY: Duration = Duration::from_secs(15);

/// The tables in the kernel. Nobody else's rules are touched.
#[derive(Debug)]
pub(crate) struct Firewall {
    nft: Nft,
    table: Table,
    gate: Gate,
    /// The ruleset's generation when the tables were last seen to be in place.
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

/// What was found in place of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Nothing(&'static str),
    Changed(&'static str),
}

impl Firewall {
    /// Puts the table in place, over one that a killed wg-server left.
    pub(crate) async fn apply(nft_path: &Path, plan: &Plan) -> Result<Self> {
        let nft = Nft::new(nft_path.to_owned());
        let mut table = Table::new(ruleset::TABLE, ruleset::as_json(&plan.replacement())?);
        let seen = table.put(&nft).await.context("set the firewall table inet wg_server")?;
        let gate = Gate::new(nft_path.to_owned(), plan.interface())?;
        let foreign = Foreign { seen: None, not_before: Instant::now() };
        Ok(Self { nft, table, gate, seen, plan: plan.clone(), foreign, legacy_not_before: Instant::now() })
    }

    /// Puts back what is not what it was; what was there instead.
    pub(crate) async fn restore(&mut self) -> Result<Vec<Found>> {
        let generation = generation::read()?;
        if self.seen == Some(generation) {
            return Ok(Vec::new());
        }
        // Until it is known to be in place, it is not.
        self.seen = None;
        // Without the first, no enclave gets as far as the gate.
        let table = self.table.restore(&self.nft).await?;
        let gate = self.gate.restore().await?;
        self.seen = match (&table, &gate) {
            (None, None) => Some(generation),
            (Some((_, generation)), None) => *generation,
            // The next look reads them again.
            (_, Some(_)) => None,
        };
        Ok(table.map(|(found, _)| found).into_iter().chain(gate).collect())
    }

    /// The enclaves' way to port 53, which whoever has this closes and opens.
    pub(crate) fn gate(&self) -> Gate {
        self.gate.clone()
    }

    /// Which other tables drop the enclaves' packets, a sentence each; `None` if no table has changed since the last time.
    pub(crate) async fn foreign(&mut self) -> Result<Option<Vec<String>>> {
        let (generation, started) = (generation::read()?, Instant::now());
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

    /// The same of legacy iptables; `None` if it was looked at a moment ago.
    pub(crate) async fn legacy(&mut self) -> Option<Vec<String>> {
        if Instant::now() < self.legacy_not_before {
            return None;
        }
        let problems = legacy::Host::real().problems(self.plan.interface(), &self.plan.packets()).await;
        self.legacy_not_before = Instant::now() + LEGACY_EVERY;
        Some(problems)
    }

    /// For whoever wants to know what was dropped, while another holds the firewall.
    pub(crate) fn drops(&self) -> Drops {
        Drops { nft: self.nft.clone() }
    }

    /// Removes the table.
    pub(crate) async fn remove(&self) -> Result<()> {
        let removal = ruleset::as_json(&ruleset::removal())?;
        self.nft.apply(&removal).await.context("remove the firewall table inet wg_server")
    }
}

/// The table's counter.
#[derive(Clone, Debug)]
pub(crate) struct Drops {
    nft: Nft,
}

impl Drops {
    /// How many packets of enclaves' questions to other name servers were dropped since the table was put in place.
    pub(crate) async fn dropped_questions(&self) -> Result<u64> {
        let doing = || format!("read the counter {} of the firewall", ruleset::OTHER_NAME_SERVERS);
        let listed = self.nft.counter(ruleset::OTHER_NAME_SERVERS).await.with_context(doing)?;
        ruleset::counted(&listed).with_context(doing)
    }
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nothing(name) => write!(f, "no table inet {name}"),
            Self::Changed(name) => write!(f, "another table inet {name} than it set"),
        }
    }
}

#[cfg(test)]
mod tests;
