//! The controller: keeps the host as the configuration and the enclaves' proofs require.
//!
//! It checks whenever the kernel reports a change, and every few seconds, because notifications can be lost and do not cover
//! everything. It repairs what wg-server owns, and reports problems with everything else. The start is the first check.

use std::time::{Duration, Instant};

use anyhow::Result;
use ipnet::IpNet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tunnel::control::PublicKey;
use wireguard::device::PrivateKey;

use crate::config::{Config, InterfaceName};
use crate::connections;
use crate::entry_port::TunnelPorts;
use crate::firewall::Firewall;
use crate::forwarding::{self, Switch};
use crate::gateway::{Gateway, Renewals};
use crate::health::{Health, Kind, Topic};
use crate::interface::{Desired, Interface, Observed};
use crate::service_manager::{Loop, Pulse};
use crate::watch::Watch;

/// The interval of checks without a notification.
const CHECK_EVERY: Duration = Duration::from_secs(3);
/// Changes within this time are checked together.
const SETTLE: Duration = Duration::from_millis(20);
/// After a check the controller pauses this many times as long as the check took, but at most a second: a host that changes all
/// the time costs at most a sixth of a CPU.
const PAUSE_PER_CHECK: u32 = 5;
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The desired state of the host, and what the controller needs to reach it.
#[derive(Debug)]
pub(crate) struct Controller<'a> {
    interface: Interface,
    key: &'a PrivateKey,
    desired: Desired,
    switches: Vec<Switch>,
    firewall: &'a mut Firewall,
    /// Then wg0 goes down while the firewall is missing: a host elsewhere may know WireGuard's own port.
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
                public_key: key.public_key(),
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
            // Before the first check, so that no later change is missed.
            watch: Watch::open()?,
        })
    }

    pub(crate) fn public_key(&self) -> PublicKey {
        self.desired.public_key
    }

    /// Sets up the interface and forwarding. This does not count as a repair.
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

    /// Checks until `stop`. Finishes the present check first, and changes nothing after that.
    pub(crate) async fn run(&mut self, gateway: &Gateway, pulse: &Pulse, stop: &CancellationToken) {
        loop {
            let started = Instant::now();
            self.check(gateway).await;
            pulse.beat(Loop::Controller);
            let pause = (started.elapsed() * PAUSE_PER_CHECK).min(LONGEST_PAUSE);
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
                    let what_to_do = "changes are noticed within 3 s instead of at once; restart wg-server";
                    self.health.set_problem(Topic::Watch, Some(format!("wait for the kernel's notifications: {error}: {what_to_do}")));
                    sleep(CHECK_EVERY).await;
                }
            },
            () = sleep(CHECK_EVERY) => {}
        }
    }

    /// The firewall comes first, because it protects the rest.
    async fn check(&mut self, gateway: &Gateway) {
        self.check_firewall().await;
        if self.check_interface().await {
            self.check_forwarding();
            self.check_peers(gateway).await;
        }
        // Last: on some hosts the rules take seconds to read.
        self.check_others().await;
    }

    async fn check_firewall(&mut self) {
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

    /// Checks what wg-server does not own.
    async fn check_others(&mut self) {
        match self.firewall.foreign().await {
            Ok(None) => {}
            Ok(Some(problems)) => self.health.set_problems(Topic::ForeignFirewall, problems),
            Err(error) => {
                let what_to_do = "wg-server does not know whether they let enclaves' packets pass; make `nft list ruleset` work on this host";
                self.health.set_problem(Topic::ForeignFirewall, Some(format!("{error:#}: {what_to_do}")));
            }
        }
        if let Some(problems) = self.firewall.legacy().await {
            self.health.set_problems(Topic::LegacyFirewall, problems);
        }
        self.health.set_problem(Topic::Connections, connections::problem());
    }

    /// Whether the interface exists and is ours.
    async fn check_interface(&mut self) -> bool {
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
            Ok(Observed::Nothing) => (false, Some(format!("{name} is missing, wg-server creates it again"))),
            Ok(Observed::Other(kind)) => (
                false,
                Some(format!(
                    "{name} is not a WireGuard interface but {kind}, so no enclave has a tunnel: run `ip link delete {name}`, and \
                     wg-server creates its own"
                )),
            ),
            Err(error) => {
                (false, Some(format!("{error:#}; wg-server retries every 3 s: see `ip -d link show {name}`")))
            }
        };
        self.health.set_problem(Topic::Interface, problem);
        is_ours
    }

    fn check_forwarding(&self) {
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

    async fn check_peers(&mut self, gateway: &Gateway) {
        let problems = match gateway.settle_peers(&mut self.renewals, Instant::now()).await {
            Ok(settled) => {
                for repaired in settled.repaired {
                    self.health.repaired(Kind::Peer, &repaired.found, &repaired.done);
                }
                settled.problems
            }
            Err(error) => vec![format!("{error:#}; wg-server retries every 3 s: see `wg show`")],
        };
        self.health.set_problems(Topic::Peers, problems);
    }
}

fn is_ipv4(net: &IpNet) -> bool {
    net.addr().is_ipv4()
}
