//! The firewall: one nftables table of our own, replaced whole in one transaction, watched, and removed at the end.

mod foreign;
mod gate;
mod generation;
mod nft;
mod packet;
mod rule;
mod ruleset;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

pub(crate) use gate::Gate;
use nft::Nft;
pub(crate) use ruleset::Plan;

/// Others may be changing their rules while ours are put in place.
const TRIES: u32 = 5;
/// Everybody's rules are read again after this many times as long as it took: some hosts have many, and change them all the time.
const FOREIGN_SHARE: u32 = 5;

/// The table in the kernel. Nobody else's rules are touched.
#[derive(Debug)]
pub(crate) struct Firewall {
    nft: Nft,
    transaction: String,
    /// The table as the kernel lists it.
    table: Value,
    /// The ruleset's generation when the table was last seen to be in place.
    seen: Option<u32>,
    plan: Plan,
    foreign: Foreign,
}

/// When other tables were last read.
#[derive(Debug)]
struct Foreign {
    seen: Option<u32>,
    not_before: Instant,
}

/// What was found in place of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Nothing,
    Changed,
}

impl Firewall {
    /// Puts the table in place, over one that a killed wg-server left.
    pub(crate) async fn apply(nft_path: &Path, plan: &Plan) -> Result<Self> {
        let nft = Nft::new(nft_path.to_owned());
        let transaction = ruleset::as_json(&plan.replacement())?;
        let (table, generation) = put(&nft, &transaction).await.context("set the firewall table inet wg_server")?;
        let foreign = Foreign { seen: None, not_before: Instant::now() };
        Ok(Self { nft, transaction, table, seen: Some(generation), plan: plan.clone(), foreign })
    }

    /// Puts the table back if it is not what it was; what was there instead.
    pub(crate) async fn restore(&mut self) -> Result<Option<Found>> {
        let generation = generation::read()?;
        if self.seen == Some(generation) {
            return Ok(None);
        }
        // Until it is known to be in place, it is not.
        self.seen = None;
        let found = self.nft.table().await.context("read the firewall table inet wg_server")?;
        if found.as_ref() == Some(&self.table) {
            self.seen = Some(generation);
            return Ok(None);
        }
        let restored = put(&self.nft, &self.transaction).await;
        let (table, generation) = restored.context("put the firewall table inet wg_server back")?;
        (self.table, self.seen) = (table, Some(generation));
        Ok(Some(if found.is_some() { Found::Changed } else { Found::Nothing }))
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

/// The table as the kernel lists it, and a generation in which it was so.
///
/// What is listed is ours only if nobody's change came between ours and the listing: ours raises the generation by one.
async fn put(nft: &Nft, transaction: &str) -> Result<(Value, u32)> {
    for _ in 0..TRIES {
        let before = generation::read()?;
        nft.apply(transaction).await?;
        let listed = nft.table().await?;
        let after = generation::read()?;
        if let Some(table) = listed
            && after == before.wrapping_add(1)
        {
            return Ok((table, after));
        }
    }
    bail!("something else changed this host's nftables in each of {TRIES} tries, expected a moment without a change")
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Nothing => "no table inet wg_server",
            Self::Changed => "another table inet wg_server than it set",
        })
    }
}

#[cfg(test)]
mod tests;
