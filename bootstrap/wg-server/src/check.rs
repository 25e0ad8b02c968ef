//! `wg-server check`: finds every error that can be found without changing anything.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::runtime;
use tokio::time::timeout;

use crate::config::{Config, InterfaceName, Mode};
use crate::dns::{self, AllowLists};
use crate::forwarding;
use crate::interface;
use crate::key;

/// For a program to print its version.
const DEADLINE: Duration = Duration::from_secs(5);

/// A summary of what was found, and warnings.
#[derive(Debug)]
pub(crate) struct Checked {
    summary: String,
    warnings: Vec<String>,
}

impl std::fmt::Display for Checked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.summary.fmt(f)?;
        self.warnings.iter().try_for_each(|warning| write!(f, "\nwarning: {warning}"))
    }
}

/// Reads everything that the configuration names.
pub(crate) fn check(config_path: &Path) -> Result<Checked> {
    let config = Config::load(config_path)?;
    let key = key::load(&config.wireguard.private_key_path).context("wireguard.private_key_path")?;
    let attestation = config.attestation.load()?;
    let lists = AllowLists::load(&config)?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(host(&config))?;
    let account = dns::account(&config)?;
    let summary = format!(
        "{} is valid: {} with public key {}, addresses for {} enclaves, {} names on the allow-list, named runs as the user {}; trust \
         root for enclaves: {}",
        config_path.display(),
        config.wireguard.interface,
        key.public_key(),
        config.enclaves.ranges.len(),
        lists.len_for_every(),
        account.name,
        attestation.root,
    );
    let mut warnings = lists.warnings(&config);
    let named_dir = config.runtime_dir.join("named");
    warnings.extend(dns::apparmor::objection(&config.dns.named_path, &named_dir, &config.dns.query_log_path));
    if config.egress.mode == Mode::Observe {
        let objection = "egress.mode: \"observe\" lets enclaves reach every address; expected \"enforce\" once the lists are complete";
        warnings.push(format!("{}: {objection}", config_path.display()));
    }
    let remote = config.remote.map(|remote| format!("; their parents connect to {}", remote.listen));
    let forwards: String = config.nat.forwards.iter().map(|forward| format!("; {forward}")).collect();
    let lists: String = config.egress.lists.iter().map(|list| format!("; {list}")).collect();
    Ok(Checked { summary: summary + &remote.unwrap_or_default() + &forwards + &lists, warnings })
}

/// Checks what this host must have.
async fn host(config: &Config) -> Result<()> {
    if let Some(uplink) = &config.nat.uplink {
        ensure_exists(uplink).context("nat.uplink")?;
    }
    interface::ensure_usable(&config.wireguard.interface).await.context("wireguard.interface")?;
    if config.wireguard.gateways().any(|gateway| gateway.is_ipv6()) {
        forwarding::ensure_ipv6(&config.wireguard.interface)?;
    }
    executables(config).await
}

/// Refuses an interface that does not exist.
pub(crate) fn ensure_exists(interface: &InterfaceName) -> Result<()> {
    let found = nix::net::if_::if_nametoindex(interface.as_str());
    found
        .map(drop)
        .with_context(|| format!("this host has no interface {interface}; expected one that `ip link` lists"))
}

/// Checks that the programs that wg-server starts exist and are the right ones.
pub(crate) async fn executables(config: &Config) -> Result<()> {
    identify("nat.nft_path", &config.nat.nft_path, ["--version", "nftables v"], "nftables").await?;
    identify("dns.named_path", &config.dns.named_path, ["-v", "BIND "], "bind9").await?;
    dns::checker(&config.dns.named_path).map(drop)
}

async fn identify(key: &str, path: &Path, [flag, expected]: [&str; 2], package: &str) -> Result<()> {
    executable(key, path, package)?;
    let said = timeout(DEADLINE, first_words(path, flag)).await;
    let said = said.with_context(|| format!("{key}: {} {flag}: no output", path.display()))?;
    let said = said.with_context(|| format!("{key}: run {} {flag}", path.display()))?;
    ensure!(
        said.starts_with(expected),
        "{key}: {} is another program: `{flag}` prints {:?}, expected {expected:?} and a version; install Debian's package \
         {package}",
        path.display(),
        said.lines().next().unwrap_or_default(),
    );
    Ok(())
}

/// Reads the beginning of its output, however long it is.
async fn first_words(path: &Path, flag: &str) -> Result<String> {
    const ENOUGH: u64 = 128;
    let mut command = Command::new(path);
    command.arg(flag).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let mut said = Vec::new();
    child.stdout.take().context("no output")?.take(ENOUGH).read_to_end(&mut said).await?;
    child.kill().await?;
    Ok(String::from_utf8_lossy(&said).into_owned())
}

fn executable(key: &str, path: &Path, package: &str) -> Result<()> {
    let found = nix::unistd::access(path, nix::unistd::AccessFlags::X_OK);
    found
        .with_context(|| format!("{key}: {} cannot be executed; install Debian's package {package}", path.display()))?;
    ensure!(path.is_file(), "{key}: {} is not a file", path.display());
    Ok(())
}
