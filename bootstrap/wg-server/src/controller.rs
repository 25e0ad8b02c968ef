//! The controller: what the configuration and the enclaves' proofs ask for is what the host has, again and again.
//!
//! It looks whenever the kernel tells of a change, and every few seconds, since notifications can be lost and not all things
//! have them. What is wg-server's own it puts back; what is somebody else's it names. The start is nothing but the first look.

use std::time::{Duration, Instant};

use anyhow::Result;
use ipnet::IpNet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tunnel::control::PublicKey;

use crate::config::{Config, InterfaceName};
use crate::connections;
use crate::entry_port::TunnelPorts;
use crate::firewall::Firewall;
use crate::forwarding::{self, Switch};
use crate::gateway::{Gateway, Renewals};
use crate::health::{Health, Kind, Topic};
use crate::interface::{self, Desired, Interface, Observed};
use crate::key::PrivateKey;
use crate::service_manager::{Loop, Pulse};
use crate::watch::Watch;

/// Without a notification.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// Changes that come together are looked at together.
const SETTLE: Duration = Duration::from_millis(20);
/// After a look, this many times as long as it took, and not longer than a second: a host that changes without a pause costs
/// a sixth of a CPU at most.
const PAUSE_PER_LOOK: u32 = 5;
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What the host should be, and the means to make it so.
#[derive(Debug)]
pub(crate) struct Controller<'a> {
    interface: Interface,
    key: &'a PrivateKey,
    desired: Desired,
    switches: Vec<Switch>,
    firewall: &'a mut Firewall,
    /// Without the firewall wg0 is taken down: a host elsewhere may know WireGuard's own port.
    is_remote: bool,
    health: &'a Health,
    renewals: Renewals,
    watch: Watch,
}

impl<'a> Controller<'a> {
    pub(crate) fn new(
        config: &Config,
        uplink: &InterfaceName,
        tunnel_ports: TunnelPorts,
        interface: Interface,
        key: &'a PrivateKey,
        firewall: &'a mut Firewall,
        health: &'a Health,
    ) -> Result<Self> {
        let addresses = config.wireguard.addresses.clone();
        let (ipv4, ipv6) = (addresses.iter().any(is_ipv4), !addresses.iter().all(is_ipv4));
        Ok(Self {
            switches: forwarding::plan(interface.name(), uplink, ipv4, ipv6),
            interface,
            desired: Desired {
                public_key: interface::public_key(key),
                listen_port: tunnel_ports.wireguard,
                mtu: config.wireguard.mtu,
                is_up: true,
                addresses,
            },
            key,
            firewall,
            is_remote: config.remote.is_some(),
            health,
            renewals: Renewals::default(),
            // Before the first look: what changes after it is noticed.
            watch: Watch::open()?,
        })
    }

    pub(crate) fn public_key(&self) -> PublicKey {
        self.desired.public_key
    }

    /// Makes the interface and what belongs to it for the first time, which is no repair.
    pub(crate) async fn start(&self) -> Result<()> {
        if !self.desired.addresses.iter().all(is_ipv4) {
            forwarding::ensure_ipv6(self.interface.name())?;
        }
        self.interface.settle(&self.desired, self.key, &mut Vec::new()).await?;
        let mut switched = Vec::new();
        let result = forwarding::settle(&self.switches, &mut switched);
        for forwarding::Switched { name, from, to } in switched {
            tracing::info!(name, from, to, "sysctl changed");
        }
        result
    }

    /// Looks until told to stop. A look is finished first: nothing is made after that.
    pub(crate) async fn run(&mut self, gateway: &Gateway, pulse: &Pulse, stop: &CancellationToken) {
        loop {
            let started = Instant::now();
            self.look(gateway).await;
            pulse.beat(Loop::Controller);
            let pause = (started.elapsed() * PAUSE_PER_LOOK).min(LONGEST_PAUSE);
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.wait(pause) => {}
            }
        }
    }

    async fn wait(&self, pause: Duration) {
        sleep(pause).await;
        tokio::select! {
            changed = self.watch.changed() => match changed {
                Ok(()) => sleep(SETTLE).await,
                Err(error) => {
                    let what_to_do = "changes are seen within 3 s instead of at once; restart wg-server";
                    self.health.set_problem(Topic::Watch, Some(format!("wait for the kernel's notifications: {error}: {what_to_do}")));
                    sleep(LOOK_EVERY).await;
                }
            },
            () = sleep(LOOK_EVERY) => {}
        }
    }

    /// The firewall first: what it holds comes after it.
    async fn look(&mut self, gateway: &Gateway) {
        self.look_at_firewall().await;
        if self.look_at_interface().await {
            self.look_at_forwarding();
            self.look_at_peers(gateway).await;
        }
        // Last: some hosts have rules that take seconds to read.
        self.look_at_others().await;
    }

    async fn look_at_firewall(&mut self) {
        let restored = self.firewall.restore().await;
        let problem = match restored {
            Ok(found) => {
                for found in found {
                    self.health.repaired(Kind::Firewall, &found.to_string(), "put the whole table back");
                }
                None
            }
            Err(error) => {
                let meanwhile = if self.is_remote {
                    "the interface is down until it works"
                } else {
                    "no datagram of an enclave passes while the table is missing"
                };
                Some(format!("{error:#}; {meanwhile}: make `nft list ruleset` work on this host (nat.nft_path)"))
            }
        };
        self.desired.is_up = problem.is_none() || !self.is_remote;
        self.health.set_problem(Topic::Firewall, problem);
    }

    /// What is not wg-server's to change.
    async fn look_at_others(&mut self) {
        match self.firewall.foreign().await {
            Ok(None) => {}
            Ok(Some(problems)) => self.health.set_problems(Topic::ForeignFirewall, problems),
            Err(error) => {
                let what_to_do =
                    "whether they let enclaves pass is not known; make `nft list ruleset` work on this host";
                self.health.set_problem(Topic::ForeignFirewall, Some(format!("{error:#}: {what_to_do}")));
            }
        }
        if let Some(problems) = self.firewall.legacy().await {
            self.health.set_problems(Topic::LegacyFirewall, problems);
        }
        self.health.set_problem(Topic::Connections, connections::problem());
    }

    /// Whether the interface is there, and ours.
    async fn look_at_interface(&mut self) -> bool {
        let name = self.interface.name();
        let without_ipv6 =
            if self.desired.addresses.iter().all(is_ipv4) { Ok(()) } else { forwarding::ensure_ipv6(name) };
        let addresses = self.desired.addresses.iter().copied();
        let addresses = addresses.filter(|net| is_ipv4(net) || without_ipv6.is_ok()).collect();
        let desired = Desired { addresses, ..self.desired.clone() };
        self.health
            .set_problem(Topic::Ipv6, without_ipv6.err().map(|error| format!("no IPv6 in the tunnel: {error:#}")));

        let mut done = Vec::new();
        let settled = self.interface.settle(&desired, self.key, &mut done).await;
        for repair in done {
            self.health.repaired(repair.kind(), &format!("{} ({name})", repair.found()), &repair.to_string());
        }
        let observed = match settled {
            Ok(()) => self.interface.observe().await,
            Err(error) => Err(error),
        };
        let (is_ours, problem) = match observed {
            Ok(Observed::WireGuard(_)) => (true, None),
            Ok(Observed::Nothing) => (false, Some(format!("{name} is missing, and is being made again"))),
            Ok(Observed::Other(kind)) => (
                false,
                Some(format!(
                    "{name} is not a WireGuard interface but {kind}, so that no enclave has a tunnel: `ip link delete {name}`, and \
                     wg-server makes its own"
                )),
            ),
            Err(error) => {
                (false, Some(format!("{error:#}; it is tried again every 3 s: see `ip -d link show {name}`")))
            }
        };
        self.health.set_problem(Topic::Interface, problem);
        is_ours
    }

    fn look_at_forwarding(&self) {
        let mut switched = Vec::new();
        let result = forwarding::settle(&self.switches, &mut switched);
        for forwarding::Switched { name, from, to } in switched {
            self.health.repaired(Kind::Forwarding, &format!("{name} = {from}"), &format!("set {to}"));
        }
        let problem = result.err().map(|error| {
            format!("{error:#}; packets of that IP version are not forwarded: wg-server needs CAP_NET_ADMIN and a writable /proc/sys/net")
        });
        self.health.set_problem(Topic::Forwarding, problem);
    }

    async fn look_at_peers(&mut self, gateway: &Gateway) {
        let problems = match gateway.settle_peers(&mut self.renewals, Instant::now()).await {
            Ok(settled) => {
                for repaired in settled.repaired {
                    self.health.repaired(Kind::Peer, &repaired.found, &repaired.done);
                }
                settled.problems
            }
            Err(error) => vec![format!("{error:#}; it is tried again every 3 s: see `wg show`")],
        };
        self.health.set_problems(Topic::Peers, problems);
    }
}

fn is_ipv4(net: &IpNet) -> bool {
    net.addr().is_ipv4()
}
