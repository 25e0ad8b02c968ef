//! Drains this host: keeps new connections from the enclaves, and lets those that are under way go on. It stays drained when
//! wg-server restarts, and is not after a reboot.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::boot::Boot;
use crate::config::{Config, Forward};
use crate::firewall::Gate;
use crate::forwarded;

const FILE: &str = "drain.json";

/// The state, and the gate that it opens and closes.
#[derive(Debug)]
pub(crate) struct Drain {
    path: PathBuf,
    forwards: Vec<Forward>,
    gate: Gate,
    since: Mutex<Option<Moment>>,
}

/// When the drain began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Moment {
    boot_id: String,
    /// Seconds since that boot.
    since: i64,
}

/// What an operator is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Draining {
    /// For how many seconds new connections have been refused. `None`: they are forwarded.
    pub(crate) seconds: Option<u64>,
    /// Those that are under way.
    pub(crate) connections: usize,
}

impl Drain {
    /// Reads the state and sets the gate, before any port is forwarded.
    pub(crate) async fn restore(config: &Config, gate: Gate) -> Result<Self> {
        let path = config.enclaves.state_dir.join(FILE);
        let since = load(&path).context("read whether this host is drained")?;
        if since.is_some() {
            tracing::warn!("this host is drained: new connections are refused, `wg-server drain --undo` ends it");
            gate.close().await?;
        } else if !config.nat.forwards.is_empty() {
            // A wg-server that was killed may have left it closed.
            gate.open().await?;
        }
        Ok(Self { path, forwards: config.nat.forwards.clone(), gate, since: Mutex::new(since) })
    }

    /// Refuses new connections.
    pub(crate) async fn begin(&self) -> Result<Draining> {
        ensure!(!self.forwards.is_empty(), "nat.forwards: no port is forwarded, so there is nothing to drain");
        self.gate.close().await?;
        if self.since().is_none() {
            let boot = Boot::this()?;
            let moment = Moment { boot_id: boot.id, since: boot.now };
            save(&self.path, &moment)?;
            self.set(Some(moment));
            tracing::info!("draining: new connections are refused");
        }
        self.state().await
    }

    /// Forwards new connections again.
    pub(crate) async fn end(&self) -> Result<Draining> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("remove {}", self.path.display()));
            }
            Ok(()) | Err(_) => {}
        }
        self.gate.open().await?;
        if self.since().is_some() {
            self.set(None);
            tracing::info!("no longer draining: new connections are forwarded");
        }
        self.state().await
    }

    /// With the connections that are under way.
    pub(crate) async fn state(&self) -> Result<Draining> {
        let forwards = self.forwards.clone();
        let counted = tokio::task::spawn_blocking(move || forwarded::count(&forwards)).await;
        let seconds = match self.since() {
            Some(moment) => Some(u64::try_from(Boot::this()?.now - moment.since).unwrap_or_default()),
            None => None,
        };
        Ok(Draining { seconds, connections: counted.context("count the connections")?? })
    }

    pub(crate) fn is_on(&self) -> bool {
        self.since().is_some()
    }

    fn since(&self) -> Option<Moment> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, since: Option<Moment>) {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }
}

/// `None` if the host is not drained, or was in an earlier boot.
fn load(path: &Path) -> Result<Option<Moment>> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        read => read.with_context(|| path.display().to_string())?,
    };
    let expected = || format!("{}: expected the file of `wg-server drain`; remove it", path.display());
    let moment: Moment = serde_json::from_str(&text).with_context(expected)?;
    Ok(Some(moment).filter(|moment| Boot::this().is_ok_and(|boot| boot.id == moment.boot_id)))
}

/// Replaces the whole file. Not synced to disk: after a crash of the machine it would not count.
fn save(path: &Path, moment: &Moment) -> Result<()> {
    let new = path.with_extension("new");
    let write = || {
        std::fs::File::create(&new)?.write_all(&serde_json::to_vec(moment)?)?;
        Ok::<_, anyhow::Error>(std::fs::rename(&new, path)?)
    };
    write().with_context(|| format!("write {}", path.display()))
}

/// Asks until no connection is under way, or `wait` has passed.
///
/// # Errors
/// Connections that are left.
pub(crate) fn wait_for_none(
    wait: Duration,
    mut ask: impl FnMut() -> Result<Draining>,
    mut pause: impl FnMut(Duration),
) -> Result<()> {
    const EVERY: Duration = Duration::from_secs(1);
    let mut left = wait;
    loop {
        let Draining { connections, .. } = ask()?;
        if connections == 0 {
            return Ok(());
        }
        let seconds = wait.as_secs();
        ensure!(!left.is_zero(), "{} still under way after {seconds} s; expected none", counted(connections));
        pause(left.min(EVERY));
        left = left.saturating_sub(EVERY);
    }
}

/// `3 connections are`
fn counted(connections: usize) -> String {
    if connections == 1 { "1 connection is".to_owned() } else { format!("{connections} connections are") }
}

impl std::fmt::Display for Draining {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = match self.seconds {
            Some(_) => "draining: new connections are refused",
            None => "not draining: new connections are forwarded",
        };
        write!(f, "{state}; {} under way", counted(self.connections))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_is_known_after_a_restart_and_not_after_a_reboot() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        assert_eq!(load(&path).unwrap(), None);
        let boot = Boot::this().unwrap();
        let moment = Moment { boot_id: boot.id, since: boot.now };
        save(&path, &moment).unwrap();
        assert_eq!(load(&path).unwrap(), Some(moment.clone()));
        save(&path, &Moment { boot_id: "another".to_owned(), ..moment }).unwrap();
        assert_eq!(load(&path).unwrap(), None);
        std::fs::write(&path, "{").unwrap();
        let error = format!("{:#}", load(&path).unwrap_err());
        assert!(error.contains("drain.json: expected the file of `wg-server drain`; remove it"), "{error}");
    }

    #[test]
    fn waiting_ends_with_the_last_connection_or_names_those_that_are_left() {
        let waited = |wait, counts: &[usize]| {
            let (mut counts, mut pauses) = (counts.iter(), Vec::new());
            let ask = || Ok(Draining { seconds: Some(0), connections: *counts.next().unwrap() });
            let result = wait_for_none(Duration::from_millis(wait), ask, |pause| pauses.push(pause.as_millis()));
            (result.map_err(|error| error.to_string()), pauses)
        };
        assert_eq!(waited(60_000, &[0]), (Ok(()), vec![]));
        assert_eq!(waited(60_000, &[2, 1, 0]), (Ok(()), vec![1000, 1000]));
        let left = |text: &str| Err(format!("{text} still under way after 2 s; expected none"));
        assert_eq!(waited(2500, &[2, 2, 2, 1]), (left("1 connection is"), vec![1000, 1000, 500]));
        assert_eq!(waited(2000, &[2, 2, 2]), (left("2 connections are"), vec![1000, 1000]));
    }
}
