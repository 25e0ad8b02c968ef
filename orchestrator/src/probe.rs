//! The connectivity probe: pings the gateways, then a name that the tunnel's name servers resolve, and reports on the
//! console.

mod echo;
mod report;

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use hickory_resolver::TokioResolver;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::config::{CONFIG_PATH, Config};
use crate::role::Role;
use crate::{console, dns, sandbox};
use echo::Socket;
use report::{Outcome, Reply};

/// Three pings take about a second: the console is not the place for statistics.
const COUNT: u16 = 3;
const PAUSE: Duration = Duration::from_millis(200);
/// For each reply.
const DEADLINE: Duration = Duration::from_secs(2);

/// Probes at the measured interval until the process is killed. Reports in full at first and after each change,
/// otherwise in one line.
///
/// # Errors
/// The configuration, the resolver, or the sandbox.
pub(crate) fn run() -> Result<()> {
    let config = Config::load(Path::new(CONFIG_PATH))?;
    crate::runtime::single_threaded()?.block_on(async {
        let resolver = dns::resolver(&config.name_servers_of(Role::Probe.name()))?;
        sandbox::enter(Role::Probe)?;
        let mut ticks = interval(config.probe.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = None;
        loop {
            ticks.tick().await;
            let outcomes = probe(&config, &resolver).await;
            let summary = report::summary(&outcomes);
            if last.as_ref() == Some(&summary) {
                tracing::info!("probe: {}", report::line(&outcomes));
            } else {
                outcomes.iter().for_each(|outcome| console::print(&format!("\n{outcome}")));
            }
            last = Some(summary);
        }
    })
}

async fn probe(config: &Config, resolver: &TokioResolver) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for gateway in config.tunnel.gateways() {
        outcomes.push(ping(gateway.to_string(), gateway).await);
    }
    let name = &config.probe.name;
    // The dot keeps the resolver from trying search domains.
    outcomes.push(match resolver.lookup_ip(format!("{name}.")).await.map(|found| found.iter().next()) {
        Ok(Some(address)) => ping(name.clone(), address).await,
        Ok(None) => Outcome::unresolved(name, "no address"),
        Err(error) => Outcome::unresolved(name, error),
    });
    outcomes
}

async fn ping(name: String, address: IpAddr) -> Outcome {
    let mut replies = Vec::new();
    let socket = match Socket::open(address) {
        Ok(socket) => socket,
        Err(error) => return Outcome::unresolved(&name, error),
    };
    for sequence in 1..=COUNT {
        if sequence > 1 {
            sleep(PAUSE).await;
        }
        if let Some(reply) = socket.ping(sequence, DEADLINE).await.transpose() {
            replies.push(reply.map_err(|error| error.to_string()));
        }
    }
    Outcome::pinged(name, address, COUNT, replies)
}
