//! BIND: answers the enclaves' questions for names on the allow-list. named is a child of wg-server or of `wg-server named`.

mod account;
mod allow_list;
mod allow_lists;
pub(crate) mod apparmor;
mod child;
mod cookie;
mod forwarder;
mod holder;
mod message;
mod named_conf;
mod probe;
mod resolution;
pub(crate) mod starter;
mod statistics;
mod supervisor;
mod termination;
mod zone;

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use nix::unistd::{Uid, getegid, geteuid};
use tokio::process::Command;

use crate::config::Config;
use cookie::Secret;
use named_conf::Ports;

pub(crate) use account::Account;
pub(crate) use allow_list::{AllowList, MAX_NAMES, Name};
pub(crate) use allow_lists::AllowLists;
pub(crate) use forwarder::{Forwarder, Reasons};
pub(crate) use resolution::fault;
pub(crate) use statistics::Counts;
pub(crate) use supervisor::{Named, Phase};

/// named's errors before it has read its configuration.
const START_LOG: &str = "start.log";
/// Far more than named writes at its start.
const MAX_START_LOG_LEN: u64 = 1 << 20;

/// What named needs for its start.
#[derive(Debug)]
pub(crate) struct Prepared {
    account: Account,
    /// Socket of the `wg-server named` that starts it. `None`: wg-server itself starts it.
    socket_path: Option<PathBuf>,
    files: Files,
    secret: Secret,
    /// Of named's statistics channel.
    statistics: SocketAddr,
    /// A name on the list that is not a wildcard.
    sample: Option<String>,
    /// How AppArmor would stop it.
    objection: Option<String>,
}

/// The folder of named's files.
#[derive(Debug)]
pub(crate) struct Files {
    dir: PathBuf,
}

/// Binds the forwarder, writes named's files into `dir`, readable only for its user, and checks them and the zones with
/// named-checkconf: as that user, if wg-server may become it.
pub(crate) async fn prepare(config: &Config, dir: &Path) -> Result<(Prepared, Forwarder)> {
    let lists = AllowLists::load(config)?;
    let forwarder = Forwarder::bind(config, lists.clone()).await?;
    let account = account(config)?;
    let secret = Secret::random();
    let statistics = statistics::free_port()?;
    let ports = Ports { forwarder: forwarder.address()?, statistics };
    account.furnish(dir, named_conf::files(config, lists.all(), dir, &secret, ports))?;
    account.furnish_log(&config.dns.query_log_path).context("dns.query_log_path")?;
    for warning in lists.warnings(config) {
        tracing::warn!("{warning}");
    }
    let socket_path = config.dns.named_socket_path.clone();
    let files = Files { dir: dir.to_owned() };
    check(&config.dns.named_path, &files.conf_path(), socket_path.is_none().then_some(&account)).await?;
    let objection = apparmor::objection(&config.dns.named_path, dir, &config.dns.query_log_path);
    if let Some(objection) = &objection {
        tracing::warn!("{objection}");
    }
    let sample = lists.all().entries().find(|(_, entry)| entry.itself).map(|(name, _)| name.to_string());
    Ok((Prepared { account, socket_path, files, secret, statistics, sample, objection }, forwarder))
}

/// The user that named runs as. If wg-server does not start it, its service also has wg-server's group.
pub(crate) fn account(config: &Config) -> Result<Account> {
    let account = Account::find(config.dns.user.as_deref(), &[geteuid(), key_owner(config)?])?;
    let gid = if config.dns.named_socket_path.is_some() { getegid() } else { account.gid };
    Ok(Account { gid, ..account })
}

/// wg-server's user.
pub(crate) fn key_owner(config: &Config) -> Result<Uid> {
    let path = &config.wireguard.private_key_path;
    let key = std::fs::metadata(path);
    let key = key.with_context(|| format!("wireguard.private_key_path: look at {}", path.display()))?;
    Ok(Uid::from_raw(key.uid()))
}

/// Refuses if another program has port 53 of the gateway's addresses.
pub(crate) async fn ensure_port_is_free(config: &Config) -> Result<()> {
    let gateways: Vec<_> = config.wireguard.gateways().collect();
    holder::ensure_free(&gateways).await
}

impl Files {
    /// The files for this configuration.
    fn of(config: &Config) -> Self {
        Self { dir: config.runtime_dir.join("named") }
    }

    fn conf_path(&self) -> PathBuf {
        self.dir.join(named_conf::CONF_FILE)
    }

    fn start_log_path(&self) -> PathBuf {
        self.dir.join(named_conf::WORK_DIR).join(START_LOG)
    }

    fn forget_last_words(&self) -> Result<()> {
        let path = self.start_log_path();
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("remove {}", path.display()))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// The command that starts named.
fn command(named_path: &Path, files: &Files) -> Command {
    let mut command = Command::new(named_path);
    // -f: in the foreground, and with the configured logs (-g would send them all to stderr). -L: what it says before it has
    // read its configuration, which would go to the system's log.
    command.arg("-f").arg("-c").arg(files.conf_path()).arg("-L").arg(files.start_log_path());
    command.stdin(Stdio::null()).stdout(Stdio::null());
    // named must not notify systemd in wg-server's name.
    command.env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC").env_remove("WATCHDOG_PID");
    // If a step between two lives fails, the next start would take it for another name server.
    command.kill_on_drop(true);
    command
}

impl Prepared {
    /// Why named exited before it answered, if it logged a reason.
    fn last_words(&self) -> Option<String> {
        let said = read_start_log(&self.files.start_log_path()).unwrap_or_default();
        let why = said.lines().rev().find_map(|line| line.split_once(" error: ").or(line.split_once(" critical: ")));
        let why = why.map(|(_, text)| text.to_owned());
        let words: Vec<String> = why.into_iter().chain(self.objection.clone()).collect();
        (!words.is_empty()).then(|| words.join("; "))
    }
}

/// named may have replaced the file: links are not followed, and the bytes are only displayed.
fn read_start_log(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    use std::os::unix::fs::OpenOptionsExt;
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let mut bytes = Vec::new();
    file.take(MAX_START_LOG_LEN).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Runs named-checkconf, as the user `account` if given.
async fn check(named_path: &Path, conf_path: &Path, account: Option<&Account>) -> Result<()> {
    let checker = checker(named_path)?;
    let mut command = Command::new(&checker);
    command.arg("-z").arg(conf_path);
    if let Some(account) = account {
        account.confine(&mut command);
    }
    let output = command.output().await;
    let user = account.map_or_else(String::new, |account| format!(" as the user {}", account.name));
    let output = output.with_context(|| format!("run {}{user}", checker.display()))?;
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

/// named-checkconf is next to named, or in /usr/bin (Debian).
pub(crate) fn checker(named_path: &Path) -> Result<PathBuf> {
    let folders = named_path.parent().into_iter().chain(["/usr/sbin", "/usr/bin"].map(Path::new));
    let found = folders.map(|dir| dir.join("named-checkconf")).find(|path| path.is_file());
    found.context("named-checkconf is not installed; install Debian's package bind9-utils")
}

#[cfg(test)]
mod tests;
