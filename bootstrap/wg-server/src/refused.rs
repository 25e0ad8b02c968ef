//! The packets from enclaves to destinations that are not open: the last ones, and the list that would have allowed them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use egress::{Refusal, Refusals};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::config::{Allowed, Egress, Mode};
use crate::firewall::LOG_GROUP;
use crate::health::{Health, Topic};

/// A client that watches asks every second.
const MAX_RECENT: usize = 256;
/// An enclave that tries every address gets no more memory than this.
const MAX_DESTINATIONS: usize = 512;
/// Of one destination.
const MAX_SOURCES: usize = 16;
const LOGS_PER_SECOND: u32 = 5;
const AGAIN_AFTER: Duration = Duration::from_secs(10);

/// What was refused since the start. In the mode "observe": what would have been.
#[derive(Debug)]
pub(crate) struct Refused {
    egress: Egress,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    /// The number of the next event.
    next: u64,
    recent: VecDeque<Event>,
    destinations: BTreeMap<String, Destination>,
    log: (Instant, u32),
}

/// Equal packets that came at about the same time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    number: u64,
    /// Seconds since 1970.
    pub(crate) at: u64,
    /// The enclave's address.
    pub(crate) from: IpAddr,
    /// Protocol and destination.
    pub(crate) what: String,
    pub(crate) packets: u32,
}

/// A destination, all its packets, and up to 16 of the enclaves that they came from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Destination {
    pub(crate) packets: u64,
    pub(crate) from: BTreeSet<IpAddr>,
}

/// What `wg-server egress` shows.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Whether the packets were dropped.
    pub(crate) is_enforced: bool,
    /// `egress.destinations`.
    listed: Vec<String>,
    /// What `egress.destinations` would have to list besides, at most 512.
    pub(crate) destinations: BTreeMap<String, Destination>,
    /// At most the last 256.
    pub(crate) events: Vec<Event>,
    /// For the next request.
    pub(crate) next: u64,
}

impl Refused {
    pub(crate) fn new(egress: &Egress) -> Self {
        let seen = Seen { next: 0, recent: VecDeque::new(), destinations: BTreeMap::new(), log: (Instant::now(), 0) };
        Self { egress: egress.clone(), seen: Mutex::new(seen) }
    }

    /// Reads what the kernel reports. A failure is a problem, and is retried: the rules work without it.
    pub(crate) async fn watch(&self, health: &Health) -> Infallible {
        loop {
            let Err(error) = self.listen(health).await;
            let what_to_do = "refused packets are counted, but `wg-server egress` does not show them: end the other program that \
                              reads this group of NFLOG, or load the kernel's module nfnetlink_log";
            health.set_problem(
                Topic::Egress,
                Some(format!("subscribe to group {LOG_GROUP} of NFLOG: {error}; {what_to_do}")),
            );
            sleep(AGAIN_AFTER).await;
        }
    }

    async fn listen(&self, health: &Health) -> std::io::Result<Infallible> {
        let mut refusals = Refusals::of_group(LOG_GROUP)?;
        health.set_problem(Topic::Egress, None);
        loop {
            for (refusal, packets) in refusals.next().await? {
                self.add(&refusal, packets, SystemTime::now());
            }
        }
    }

    fn add(&self, refusal: &Refusal, packets: u32, now: SystemTime) {
        let mut seen = self.lock();
        let number = seen.next;
        seen.next += 1;
        if seen.recent.len() == MAX_RECENT {
            seen.recent.pop_front();
        }
        let (from, what) = (refusal.from, refusal.to_string());
        if seen.may_log() {
            let verdict = match self.egress.mode {
                Mode::Enforce => "refused",
                Mode::Observe => "let through",
            };
            tracing::info!(%from, packets, "egress: {verdict} {what}");
        }
        seen.recent.push_back(Event { number, at: unix_seconds(now), from, what, packets });
        let destination = Allowed { net: IpNet::from(refusal.to()), port: refusal.port() }.to_string();
        if seen.destinations.len() < MAX_DESTINATIONS || seen.destinations.contains_key(&destination) {
            let destination = seen.destinations.entry(destination).or_default();
            destination.packets += u64::from(packets);
            if destination.from.len() < MAX_SOURCES {
                destination.from.insert(from);
            }
        }
    }

    /// Events with this number and later ones.
    pub(crate) fn report(&self, first: u64) -> Report {
        let seen = self.lock();
        Report {
            is_enforced: self.egress.mode == Mode::Enforce,
            listed: self.egress.destinations.iter().map(ToString::to_string).collect(),
            destinations: seen.destinations.clone(),
            events: seen.recent.iter().filter(|event| event.number >= first).cloned().collect(),
            next: seen.next,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn may_log(&mut self) -> bool {
        if self.log.0.elapsed() >= Duration::from_secs(1) {
            self.log = (Instant::now(), 0);
        }
        self.log.1 = self.log.1.saturating_add(1);
        self.log.1 <= LOGS_PER_SECOND
    }
}

impl Report {
    fn verdict(&self) -> &'static str {
        if self.is_enforced { "refused" } else { "let through" }
    }

    /// A line for each event.
    pub(crate) fn lines(&self) -> impl Iterator<Item = String> {
        self.events.iter().map(|Event { at, from, what, packets, .. }| {
            let at = time::OffsetDateTime::from_unix_timestamp(i64::try_from(*at).unwrap_or_default());
            let format = time::format_description::well_known::Rfc3339;
            let at = at.ok().and_then(|at| at.format(&format).ok()).unwrap_or_default();
            format!("{at} {} {what} from {from} packets={packets}", self.verdict())
        })
    }
}

/// What would have allowed all packets, for `parent.toml`.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.destinations.is_empty() {
            return write!(f, "# Since wg-server started, it has {} no packet.", self.verdict());
        }
        writeln!(f, "# This list allows what wg-server has {} since it started.", self.verdict())?;
        writeln!(f, "# Where the address belongs to a name, add the name to dns.allow_list_path instead.")?;
        writeln!(f, "[egress]\ndestinations = [")?;
        self.listed.iter().try_for_each(|listed| writeln!(f, "    \"{listed}\","))?;
        for (destination, Destination { packets, from }) in &self.destinations {
            let from: Vec<String> = from.iter().map(ToString::to_string).collect();
            writeln!(f, "    \"{destination}\", # {packets} packets from {}", from.join(", "))?;
        }
        write!(f, "]")
    }
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const LAB: &str = include_str!("../tests/parent.toml");

    fn refused(mode: &str) -> Refused {
        let toml = LAB.replacen("[egress]\n", &format!("[egress]\nmode = \"{mode}\"\n"), 1);
        Refused::new(&Config::parse(&toml).unwrap().egress)
    }

    fn packet(to: &str, protocol: u8, port: Option<u16>) -> Refusal {
        Refusal::new("unlisted", "203.0.113.2".parse().unwrap(), protocol, to.parse().unwrap(), port)
    }

    #[test]
    fn the_list_that_would_have_allowed_the_packets_can_be_pasted_and_allows_them() {
        let refused = refused("observe");
        assert_eq!(refused.report(0).to_string(), "# Since wg-server started, it has let through no packet.");
        for (packet, packets) in [
            (packet("198.51.100.66", 6, Some(443)), 2),
            (packet("198.51.100.66", 6, Some(443)), 3),
            (packet("2001:db8::66", 17, Some(53)), 1),
            (packet("198.51.100.66", 1, None), 1),
            (packet("198.51.100.67", 47, None), 1),
        ] {
            refused.add(&packet, packets, SystemTime::UNIX_EPOCH);
        }
        let report = refused.report(0);
        let text = report.to_string();
        assert!(text.contains("\"198.51.100.66:443\", # 5 packets from 203.0.113.2\n"), "{text}");
        let (before, after) = LAB.split_once("[egress]").unwrap();
        let config = Config::parse(&format!("{before}{text}\n[dns]{}", after.split_once("[dns]").unwrap().1)).unwrap();
        let listed: Vec<String> = config.egress.destinations.iter().map(ToString::to_string).collect();
        for destination in
            ["169.254.169.254:80", "198.51.100.66:443", "[2001:db8::66]:53/udp", "198.51.100.66:ping", "198.51.100.67"]
        {
            assert!(listed.iter().any(|listed| listed == destination), "{destination}: {text}");
        }
        let lines: Vec<String> = report.lines().collect();
        assert_eq!(lines[0], "1970-01-01T00:00:00Z let through TCP to 198.51.100.66:443 from 203.0.113.2 packets=2");
        let report = refused.report(report.next);
        assert_eq!((report.events.len(), report.next), (0, 5));
    }

    #[test]
    fn an_enclave_that_tries_every_address_gets_no_memory_for_it() {
        let refused = refused("enforce");
        for at in 0..2000_u32 {
            let to = std::net::Ipv4Addr::from(0xc612_0000 + at).to_string();
            refused.add(&packet(&to, 6, Some(443)), 1, SystemTime::UNIX_EPOCH);
        }
        let report = refused.report(0);
        assert_eq!((report.events.len(), report.destinations.len()), (MAX_RECENT, MAX_DESTINATIONS));
        assert_eq!((report.events[0].number, report.next), (2000 - MAX_RECENT as u64, 2000));
    }
}
