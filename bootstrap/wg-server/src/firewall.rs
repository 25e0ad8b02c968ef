//! The firewall: one nftables table of our own, replaced whole in one transaction and removed at the end.

mod gate;
mod rule;
mod ruleset;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nftables::helper;
use nftables::schema::Nftables;

pub(crate) use gate::Gate;
pub(crate) use ruleset::Plan;

/// The table in the kernel. Nobody else's rules are read or touched.
#[derive(Debug)]
pub(crate) struct Firewall {
    nft_path: PathBuf,
}

impl Firewall {
    /// Puts the table in place, over one that a killed wg-server left.
    pub(crate) async fn apply(nft_path: &Path, plan: &Plan) -> Result<Self> {
        run(nft_path, &plan.replacement(), helper::DEFAULT_ARGS)
            .await
            .context("set the firewall table inet wg_server")?;
        Ok(Self { nft_path: nft_path.to_owned() })
    }

    /// How many packets of enclaves' questions to other name servers were dropped since the table was put in place.
    pub(crate) async fn dropped_questions(&self) -> Result<u64> {
        let args = ["--json", "list", "counter", "inet", ruleset::TABLE, ruleset::OTHER_NAME_SERVERS];
        let doing = || format!("read the counter {} of the firewall", ruleset::OTHER_NAME_SERVERS);
        let output = tokio::process::Command::new(&self.nft_path).args(args).output().await.with_context(doing)?;
        anyhow::ensure!(output.status.success(), "{}: {}", doing(), String::from_utf8_lossy(&output.stderr).trim());
        ruleset::counted(&output.stdout).with_context(doing)
    }

    /// Removes the table.
    pub(crate) async fn remove(&self) -> Result<()> {
        run(&self.nft_path, &ruleset::removal(), helper::DEFAULT_ARGS)
            .await
            .context("remove the firewall table inet wg_server")
    }
}

async fn run(nft_path: &Path, ruleset: &Nftables<'_>, args: &[&str]) -> Result<()> {
    match helper::apply_ruleset_with_args_async(ruleset, Some(nft_path), args).await {
        Ok(()) => Ok(()),
        // The crate's own text quotes the whole ruleset.
        Err(helper::NftablesError::NftFailed { stderr, .. }) => {
            anyhow::bail!("{}: {}", nft_path.display(), stderr.lines().next().unwrap_or("no reason given"))
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
