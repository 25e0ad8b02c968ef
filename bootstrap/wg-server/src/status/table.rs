//! The report as text, in the style of `wg show`.

use std::fmt::{self, Display, Formatter};
use std::time::SystemTime;

use super::{
    AttestedReport, DnsReport, DrainReport, EgressReport, EnclaveReport, ForwardReport, ListReport, Renewing,
    RepairsReport, Report, ResolvedReport,
};

/// More would hide the rest of the report.
const MAX_RESOLVED: usize = 32;

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "interface: {}", self.interface)?;
        writeln!(f, "  public key: {}", self.public_key)?;
        writeln!(f, "  up: {}", span(self.uptime))?;
        writeln!(f, "  named: {}", self.named)?;
        match &self.dns {
            Some(DnsReport { questions, denied, failed }) => {
                writeln!(
                    f,
                    "  questions: {questions}, {denied} of them for names that are not on the list, {failed} not answered"
                )?;
            }
            None => writeln!(f, "  questions: (unknown)")?,
        }
        match self.dropped_questions {
            Some(packets) => writeln!(f, "  questions to other name servers: {packets} packets dropped")?,
            None => writeln!(f, "  questions to other name servers: (unknown)")?,
        }
        self.egress.fmt(f)?;
        writeln!(f, "  trust root: {}", self.trust_root)?;
        writeln!(f, "  enclaves: {}", self.enclaves.len())?;
        for ForwardReport { port, to, is_peer } in &self.forwards {
            let target = if *is_peer { "a peer" } else { "not a peer now: clients get no answer" };
            writeln!(f, "  forward: TCP port {port} to {to} ({target})")?;
        }
        if let Some(DrainReport { seconds, connections }) = &self.drain {
            let since = seconds.map_or_else(String::new, |seconds| format!(" for {}", span(seconds)));
            let left = connections.map_or_else(|| "(unknown)".to_owned(), |connections| connections.to_string());
            writeln!(
                f,
                "  drained{since}: new connections are refused, {left} under way; `wg-server drain --undo` ends it"
            )?;
        }
        self.watchdogs.iter().try_for_each(|watchdog| watchdog.fmt(f))?;
        for (kind, RepairsReport { count, last }) in self.repairs.iter().filter(|(_, repairs)| repairs.count > 0) {
            writeln!(f, "  repaired: {} {count} times, last {}", kind.name(), last.map_or_else(String::new, ago))?;
        }
        self.problems.iter().try_for_each(|problem| writeln!(f, "  problem: {problem}"))?;
        self.enclaves.iter().try_for_each(|enclave| {
            enclave.fmt(f)?;
            self.egress.fmt_for(enclave, f)
        })
    }
}

impl Display for EgressReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let verdict = if self.is_enforced { "dropped" } else { "let through (egress.mode = \"observe\")" };
        match self.unlisted {
            Some(packets) => writeln!(f, "  packets to what is not open: {packets} {verdict}")?,
            None => writeln!(f, "  packets to what is not open: (unknown)")?,
        }
        for destination in &self.destinations {
            writeln!(f, "  open: {destination} (egress.destinations)")?;
        }
        open(f, &self.resolved, "")
    }
}

impl EgressReport {
    /// What this enclave may reach besides.
    fn fmt_for(&self, enclave: &EnclaveReport, f: &mut Formatter<'_>) -> fmt::Result {
        if self.lists.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = enclave.lists.iter().map(String::as_str).collect();
        writeln!(f, "  lists: {}", if names.is_empty() { "(none)".to_owned() } else { names.join(", ") })?;
        for ListReport { name, destinations, resolved } in &self.lists {
            if !enclave.lists.contains(name) {
                continue;
            }
            for destination in destinations {
                writeln!(f, "  open: {destination} (list {name})")?;
            }
            open(f, resolved, &format!("list {name}: "))?;
        }
        Ok(())
    }
}

/// The addresses of names, and why they are open.
fn open(f: &mut Formatter<'_>, resolved: &[ResolvedReport], list: &str) -> fmt::Result {
    let now = super::unix_seconds(SystemTime::now());
    for ResolvedReport { address, name, until } in resolved.iter().take(MAX_RESOLVED) {
        writeln!(f, "  open: {address} ({list}{name}, for {})", span(until.saturating_sub(now)))?;
    }
    match resolved.len().saturating_sub(MAX_RESOLVED) {
        0 => Ok(()),
        more => writeln!(f, "  open: {more} more addresses of names, see `wg-server status --json`"),
    }
}

impl Display for Renewing {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let plural = if self.enclaves == 1 { "" } else { "s" };
        write!(f, "renewing the keys of {} enclave{plural}", self.enclaves)?;
        self.problems.iter().try_for_each(|problem| write!(f, "\nproblem: {problem}"))
    }
}

impl Display for EnclaveReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let addresses: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        writeln!(f, "\nenclave: CID {}", self.cid)?;
        if let Some(parent) = self.via {
            writeln!(f, "  via: {parent}")?;
        }
        writeln!(f, "  state: {}", self.state)?;
        writeln!(f, "  addresses: {}", addresses.join(", "))?;
        writeln!(f, "  public key: {}", self.public_key.as_deref().unwrap_or("(none yet)"))?;
        match self.endpoint {
            Some(endpoint) => writeln!(f, "  endpoint: {endpoint}")?,
            None => writeln!(f, "  endpoint: (none)")?,
        }
        match &self.attested {
            Some(attested) => attested.fmt(f)?,
            None if self.public_key.is_some() => {
                writeln!(f, "  measurements: (proved to an earlier wg-server; unknown until the keys are renewed)")?;
            }
            None => writeln!(f, "  measurements: (none yet)")?,
        }
        writeln!(f, "  connected: {}", self.connected_since.map_or_else(|| "(not)".to_owned(), ago))?;
        writeln!(f, "  latest handshake: {}", self.latest_handshake.map_or_else(|| "(none yet)".to_owned(), ago))?;
        writeln!(f, "  transfer: {} B received, {} B sent", self.received_bytes, self.sent_bytes)?;
        if self.via.is_some() {
            return writeln!(f, "  relay: (the parent's)");
        }
        let relay = &self.relay;
        writeln!(
            f,
            "  relay: {}; to the enclave {} datagrams, {} dropped, {} refused; from it {} datagrams, {} dropped",
            if self.data_stream { "connected" } else { "not connected" },
            relay.to_enclave_frames,
            relay.to_enclave_dropped,
            relay.to_enclave_unfit + relay.to_enclave_foreign,
            relay.from_enclave_datagrams,
            relay.from_enclave_dropped,
        )
    }
}

impl Display for AttestedReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "  module: {}", self.module_id)?;
        for (index, pcr) in &self.pcrs {
            writeln!(f, "  PCR{index}: {pcr}")?;
        }
        writeln!(f, "  configuration: sha256 {}", self.config_sha256)?;
        writeln!(f, "  keys: proved {}", ago(self.at))
    }
}

pub(super) fn ago(unix_seconds: u64) -> String {
    let now = super::unix_seconds(SystemTime::now());
    format!("{} ago", span(now.saturating_sub(unix_seconds)))
}

fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}
