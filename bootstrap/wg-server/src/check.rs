//! `wg-server check`: everything that can be known to be wrong without touching anything.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::config::Config;
use crate::dns::{self, AllowList};
use crate::interface;
use crate::key::PrivateKey;

/// What was found to be right, for the operator.
#[derive(Debug)]
pub(crate) struct Checked {
    summary: String,
}

impl std::fmt::Display for Checked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.summary.fmt(f)
    }
}

/// Reads everything that the configuration names.
pub(crate) fn check(config_path: &Path) -> Result<Checked> {
    let config = Config::load(config_path)?;
    let key = PrivateKey::load(&config.wireguard.private_key_path).context("wireguard.private_key_path")?;
    let attestation = config.attestation.load()?;
    let list = AllowList::load(&config.dns.allow_list_path).context("dns.allow_list_path")?;
    executables(&config)?;
    let summary = format!(
        "{} is right: {} with public key {}, room for {} enclaves, {} names on the allow-list; enclaves are attested by {}",
        config_path.display(),
        config.wireguard.interface,
        interface::public_key(&key),
        config.enclaves.ranges.len(),
        list.len(),
        attestation.root,
    );
    let remote =
        config.remote.map(|remote| format!("; they are elsewhere, and their parents connect to {}", remote.listen));
    let forwards: String = config.nat.forwards.iter().map(|forward| format!("; {forward}")).collect();
    Ok(Checked { summary: summary + &remote.unwrap_or_default() + &forwards })
}

/// The programs that wg-server starts.
pub(crate) fn executables(config: &Config) -> Result<()> {
    executable("nat.nft_path", &config.nat.nft_path, "nftables")?;
    executable("dns.named_path", &config.dns.named_path, "bind9")?;
    dns::checker(&config.dns.named_path).map(drop)
}

fn executable(key: &str, path: &Path, package: &str) -> Result<()> {
    let found = nix::unistd::access(path, nix::unistd::AccessFlags::X_OK);
    found.with_context(|| {
        format!("{key}: {} cannot be run: it comes with Debian's package {package}", path.display())
    })?;
    ensure!(path.is_file(), "{key}: {} is no file", path.display());
    Ok(())
}
