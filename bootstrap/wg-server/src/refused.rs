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
use tokio::sync::watch;
use tokio::time::sleep;

use crate::config::{Allowed, Egress, List, Mode};
use crate::firewall::{LOG_GROUP, Members};
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
    members: watch::Receiver<Members>,
    /// Whether the kernel names the packets.
    is_named: bool,
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
    /// The lists in `egress.lists` for all of these enclaves, when their packets came.
    lists: BTreeSet<String>,
}

/// One of `egress.lists`, as `parent.toml` has it.
#[derive(Debug, Serialize, Deserialize)]
struct ListReport {
    name: String,
    names: Vec<String>,
    cids: Vec<u32>,
    measurements_paths: Vec<String>,
    destinations: Vec<String>,
}

/// What `wg-server egress` shows.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Whether the packets were dropped.
    pub(crate) is_enforced: bool,
    /// Whether the kernel can name the packets. Otherwise there are no destinations and no events.
    is_named: bool,
    /// `egress.destinations`.
    listed: Vec<String>,
    lists: Vec<ListReport>,
    /// What these would have to list besides, at most 512.
    pub(crate) destinations: BTreeMap<String, Destination>,
    /// At most the last 256.
    pub(crate) events: Vec<Event>,
    /// For the next request.
    pub(crate) next: u64,
}

impl Refused {
    pub(crate) fn new(egress: &Egress, members: watch::Receiver<Members>, is_named: bool) -> Self {
        let seen = Seen { next: 0, recent: VecDeque::new(), destinations: BTreeMap::new(), log: (Instant::now(), 0) };
        Self { egress: egress.clone(), members, is_named, seen: Mutex::new(seen) }
    }

    /// Reads what the kernel reports. A failure is a problem, and is retried: the rules work without it.
    pub(crate) async fn watch(&self, health: &Health) -> Infallible {
        if !self.is_named {
            let problem = "refused packets are counted, not named: the kernel has no nfnetlink_log; run `modprobe \
                           nfnetlink_log` and restart wg-server";
            health.set_problem(Topic::Egress, Some(problem.to_owned()));
            return std::future::pending().await;
        }
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
        let lists = self.members.borrow().lists(from);
        let lists: BTreeSet<String> = lists.iter().map(ToString::to_string).collect();
        let destination = Allowed { net: IpNet::from(refusal.to()), port: refusal.port() }.to_string();
        if seen.destinations.len() < MAX_DESTINATIONS || seen.destinations.contains_key(&destination) {
            let destination = seen.destinations.entry(destination);
            let destination =
                destination.or_insert_with(|| Destination { lists: lists.clone(), ..Destination::default() });
            destination.lists.retain(|list| lists.contains(list));
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
            is_named: self.is_named,
            listed: self.egress.destinations.iter().map(ToString::to_string).collect(),
            lists: self.egress.lists.iter().map(ListReport::from).collect(),
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
        if !self.is_named {
            return write!(
                f,
                "# The kernel has no nfnetlink_log: refused packets are counted, and not named. See `wg-server status`."
            );
        }
        if self.destinations.is_empty() {
            return write!(f, "# Since wg-server started, it has {} no packet.", self.verdict());
        }
        writeln!(f, "# This list allows what wg-server has {} since it started.", self.verdict())?;
        writeln!(f, "# Where the address belongs to a name, add the name to dns.allow_list_path instead.")?;
        if !self.lists.is_empty() {
            writeln!(f, "# What is in [egress] is open to every enclave. In a list, add such a name to its names.")?;
        }
        writeln!(f, "[egress]")?;
        self.fmt_destinations(None, &self.listed, f)?;
        for list in &self.lists {
            write!(f, "\n\n{list}")?;
            self.fmt_destinations(Some(&list.name), &list.destinations, f)?;
        }
        Ok(())
    }
}

impl Report {
    /// What a list has, and what it should have. `None`: the list for every enclave.
    fn fmt_destinations(&self, list: Option<&str>, listed: &[String], f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "destinations = [")?;
        listed.iter().try_for_each(|listed| writeln!(f, "    \"{listed}\","))?;
        // One list is enough, and the first one is as good as another.
        let first =
            |lists: &BTreeSet<String>| self.lists.iter().map(|it| &it.name).find(|name| lists.contains(*name)).cloned();
        for (destination, Destination { packets, from, lists }) in &self.destinations {
            if first(lists).as_deref() == list {
                let from: Vec<String> = from.iter().map(ToString::to_string).collect();
                let plural = if *packets == 1 { "" } else { "s" };
                writeln!(f, "    \"{destination}\", # {packets} packet{plural} from {}", from.join(", "))?;
            }
        }
        write!(f, "]")
    }
}

impl From<&List> for ListReport {
    fn from(List { name, names, destinations, cids, measurements_paths }: &List) -> Self {
        Self {
            name: name.to_string(),
            names: names.to_texts(),
            cids: cids.iter().map(|cid| cid.0).collect(),
            measurements_paths: measurements_paths.iter().map(|path| path.display().to_string()).collect(),
            destinations: destinations.iter().map(ToString::to_string).collect(),
        }
    }
}

/// Without its destinations.
impl fmt::Display for ListReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "[[egress.lists]]\nname = \"{}\"", self.name)?;
        // Debug writes lists of texts and numbers as TOML has them: no name and no path needs an escape.
        for (key, texts) in [("names", &self.names), ("measurements_paths", &self.measurements_paths)] {
            if !texts.is_empty() {
                writeln!(f, "{key} = {texts:?}")?;
            }
        }
        if self.cids.is_empty() { Ok(()) } else { writeln!(f, "cids = {:?}", self.cids) }
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
        Refused::new(&Config::parse(&toml).unwrap().egress, watch::channel(Members::default()).1, true)
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
    fn a_destination_goes_into_a_list_for_all_enclaves_that_need_it_or_else_into_that_of_every_enclave() {
        let lists = "[[egress.lists]]
            name = \"b\"
            names = [\"b.example\", \"*.b.example\"]
            cids = [16]
            destinations = [\"10.0.0.1:443\"]
            [[egress.lists]]
            name = \"a\"
            destinations = [\"10.0.0.2:443\"]
            measurements_paths = [\"/etc/wg-server/measurements.json\"]";
        let config = Config::parse(&LAB.replacen("[dns]", &format!("{lists}\n[dns]"), 1)).unwrap();
        let mut members = Members::default();
        for (list, address) in [("a", "203.0.113.2"), ("b", "203.0.113.2"), ("a", "203.0.113.3")] {
            members.insert(&crate::config::lists::name(list), address.parse().unwrap());
        }
        let (sender, receiver) = watch::channel(members);
        let refused = Refused::new(&config.egress, receiver, true);
        let add = |from: &str, to: &str| {
            let refusal = Refusal::new("unlisted", from.parse().unwrap(), 6, to.parse().unwrap(), Some(443));
            refused.add(&refusal, 1, SystemTime::UNIX_EPOCH);
        };
        add("203.0.113.2", "198.51.100.61");
        for from in ["203.0.113.2", "203.0.113.3"] {
            add(from, "198.51.100.62");
        }
        for from in ["203.0.113.3", "203.0.113.4"] {
            add(from, "198.51.100.63");
        }
        // What an enclave was for when the packet came counts.
        sender.send_replace(Members::default());
        let text = refused.report(0).to_string();
        let (before, after) = LAB.split_once("[egress]").unwrap();
        let dns = after.split_once("[dns]").unwrap().1;
        let pasted = Config::parse(&format!("{before}{text}\n[dns]{dns}")).unwrap().egress;
        let of = |destinations: &[Allowed]| destinations.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert!(of(&pasted.destinations).contains(&"198.51.100.63:443".to_owned()), "{text}");
        let [b, a] = &pasted.lists[..] else { panic!("{text}") };
        assert_eq!(of(&b.destinations), ["10.0.0.1:443", "198.51.100.61:443"], "{text}");
        assert_eq!(of(&a.destinations), ["10.0.0.2:443", "198.51.100.62:443"], "{text}");
        for (pasted, list) in pasted.lists.iter().zip(&config.egress.lists) {
            assert_eq!((&pasted.name, &pasted.names, &pasted.cids), (&list.name, &list.names, &list.cids), "{text}");
            assert_eq!(pasted.measurements_paths, list.measurements_paths, "{text}");
        }
    }

    #[tokio::test]
    async fn a_kernel_that_cannot_name_packets_is_a_problem_and_the_list_says_so() {
        let egress = Config::parse(LAB).unwrap().egress;
        let (refused, health) = (Refused::new(&egress, watch::channel(Members::default()).1, false), Health::default());
        tokio::select! {
            never = refused.watch(&health) => match never {},
            () = tokio::task::yield_now() => {}
        }
        let [problem] = &health.problems()[..] else { panic!("{:?}", health.problems()) };
        let expected =
            "refused packets are counted, not named: the kernel has no nfnetlink_log; run `modprobe nfnetlink_log`";
        assert!(problem.starts_with(expected), "{problem}");
        let shown = refused.report(0).to_string();
        assert!(shown.starts_with("# The kernel has no nfnetlink_log: refused packets are counted"), "{shown}");
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
