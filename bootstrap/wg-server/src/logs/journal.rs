//! One enclave's entries in systemd's journal.

use anyhow::{Context, Result};
use libsystemd::logging::{Priority, journal_send};
use tunnel::log::{Level, Line};
use tunnel::port::Cid;

/// journald's socket (systemd's "Native Journal Protocol").
const SOCKET_PATH: &str = "/run/systemd/journal/socket";

/// The entries of one enclave.
pub(super) struct Journal {
    cid: String,
    identifier: String,
}

impl Journal {
    /// Says now if there is no journal.
    pub(super) fn check() -> Result<()> {
        let metadata = std::fs::metadata(SOCKET_PATH);
        metadata.map(drop).with_context(|| format!("{SOCKET_PATH}: expected the socket of systemd-journald"))
    }

    pub(super) fn of(cid: Cid) -> Self {
        Self { cid: cid.to_string(), identifier: format!("enclave@{cid}") }
    }

    /// Writes a line, behind one that says how many were lost before it.
    pub(super) fn write(&self, line: &Line) -> Result<()> {
        if line.lost > 0 {
            self.send(Priority::Warning, &format!("({} lines were lost here)", line.lost))?;
        }
        let (priority, message) = entry(line);
        self.send(priority, &message)
    }

    fn send(&self, priority: Priority, message: &str) -> Result<()> {
        let fields = [("SYSLOG_IDENTIFIER", &self.identifier), ("ENCLAVE_CID", &self.cid)];
        journal_send(priority, message, fields.into_iter()).context("write to the journal")
    }
}

/// The line as the console would show it, with control characters escaped: the enclave may be any program.
pub(super) fn entry(line: &Line) -> (Priority, String) {
    let priority = match line.level {
        Level::Error => Priority::Error,
        Level::Warning => Priority::Warning,
        Level::Info => Priority::Info,
    };
    let escape = |character: char| {
        let is_plain = character == '\t' || !character.is_control();
        if is_plain { character.to_string() } else { character.escape_unicode().to_string() }
    };
    let text: String = line.text.chars().map(escape).collect();
    (priority, format!("[{:5}.{:06}] {text}", line.uptime.as_secs(), line.uptime.subsec_micros()))
}
