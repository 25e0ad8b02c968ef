//! BIND: answers the enclaves' questions for the names on the allow-list, and is our child.

mod allow_list;
mod named_conf;
mod probe;
mod supervisor;
mod zone;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use crate::config::Config;

pub(crate) use allow_list::AllowList;
pub(crate) use supervisor::{Named, State};

/// Writes what named reads into `dir` and has named-checkconf read it, zones included.
pub(crate) async fn prepare(config: &Config, dir: &Path) -> Result<PathBuf> {
    let list = AllowList::load(&config.dns.allow_list_path).context("dns.allow_list_path")?;
    std::fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
    for file in named_conf::files(config, &list, dir) {
        let path = dir.join(file.name);
        std::fs::write(&path, file.text).with_context(|| format!("write {}", path.display()))?;
    }
    if list.len() == 0 {
        tracing::warn!(path = %config.dns.allow_list_path.display(), "the DNS allow-list is empty: every name is denied");
    }
    let conf_path = dir.join(named_conf::CONF_FILE);
    check(&config.dns.named_path, &conf_path).await?;
    Ok(conf_path)
}

async fn check(named_path: &Path, conf_path: &Path) -> Result<()> {
    let checker = checker(named_path)?;
    let output = Command::new(&checker).arg("-z").arg(conf_path).output().await;
    let output = output.with_context(|| format!("run {}", checker.display()))?;
    ensure!(
        output.status.success(),
        "{} refuses {}: {}{}",
        checker.display(),
        conf_path.display(),
        String::from_utf8_lossy(&output.stdout).trim(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// named-checkconf lives next to named, or with the tools for everybody (Debian).
pub(crate) fn checker(named_path: &Path) -> Result<PathBuf> {
    let folders = named_path.parent().into_iter().chain(["/usr/sbin", "/usr/bin"].map(Path::new));
    let found = folders.map(|dir| dir.join("named-checkconf")).find(|path| path.is_file());
    found.context("named-checkconf is not installed: it comes with Debian's package bind9-utils")
}

#[cfg(test)]
mod tests;
