//! `[egress]`: where each process of the enclave may connect. What other tables already say needs no line here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result, bail, ensure};
use egress::{Destination, Host, Port, Process, Rules};
use service::Service;

use super::{DNS_PORT, Probe, Signing, Tunnel};
use crate::role::Role;

/// Of one process. More are probably networks, written as addresses.
const MAX_DESTINATIONS: usize = 32;

const DNS: [Port; 2] = [Port::Udp(DNS_PORT), Port::Tcp(DNS_PORT)];

/// The names that a process may look up, and where the resolver answers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lookups {
    pub(crate) process: String,
    /// A loopback address that only this process can reach.
    pub(crate) address: Ipv4Addr,
    /// In lower case, without a dot at the end.
    pub(crate) names: BTreeSet<String>,
}

/// Every process with its destinations: those that the other tables imply, and those of `tables`, `[egress]`.
pub(super) fn rules(
    tunnel: &Tunnel,
    name_servers: &[IpAddr],
    probe: &Probe,
    signing: Option<&Signing>,
    services: &[Service],
    tables: &BTreeMap<String, Vec<String>>,
) -> Result<(Rules, Vec<Lookups>)> {
    let mut pings: Vec<_> = tunnel.gateways().map(|gateway| to(gateway, Port::Ping)).collect();
    pings.push(Destination::At(Host::Name(probe.name.clone()), Port::Ping));
    let mut processes = vec![process(Role::Probe.name(), Role::Probe.user(), pings)];
    if let Some(signing) = signing {
        processes.push(process(Role::Signer.name(), Role::Signer.user(), signing.destinations()?));
    }
    processes.extend(services.iter().map(|service| process(&service.name, service.user, Vec::new())));
    for (name, texts) in tables {
        let Some(process) = processes.iter_mut().find(|process| process.name == *name) else {
            let known: Vec<_> = processes.iter().map(|process| process.name.as_str()).collect();
            bail!(
                "egress: `{}` is no process of this enclave, expected one of {}",
                name.escape_debug(),
                known.join(", ")
            );
        };
        add(process, texts).with_context(|| format!("egress.{name}"))?;
    }
    let lookups = allow_queries(&mut processes, name_servers);
    let listen = signing.map(|signing| signing.service.port);
    let listen = listen.into_iter().chain(services.iter().flat_map(|service| service.listen.iter().copied())).collect();
    Ok((Rules { processes, listen }, lookups))
}

/// Lets each process that may connect to names ask the resolver for them, and only the resolver ask the name servers.
fn allow_queries(processes: &mut Vec<Process>, name_servers: &[IpAddr]) -> Vec<Lookups> {
    let mut lookups = Vec::new();
    for process in processes.iter_mut() {
        let named = |destination: &Destination| match destination {
            Destination::At(Host::Name(name), _) => Some(name.clone()),
            Destination::At(Host::Net(_), _) | Destination::Anywhere => None,
        };
        let names: BTreeSet<_> = process.destinations.iter().filter_map(named).collect();
        if names.is_empty() || process.destinations.contains(&Destination::Anywhere) {
            continue;
        }
        let place = u8::try_from(lookups.len() + 1).expect("few processes");
        let address = Ipv4Addr::new(127, 0, 53, place);
        process.destinations.extend(DNS.map(|port| to(address.into(), port)));
        lookups.push(Lookups { process: process.name.clone(), address, names });
    }
    let queries = name_servers.iter().flat_map(|server| DNS.map(|port| to(*server, port))).collect();
    processes.push(process(Role::Resolver.name(), Role::Resolver.user(), queries));
    lookups
}

fn process(name: &str, user: u32, destinations: Vec<Destination>) -> Process {
    Process { name: name.to_owned(), user, destinations }
}

fn to(address: IpAddr, port: Port) -> Destination {
    Destination::At(Host::Net(address.into()), port)
}

fn add(process: &mut Process, texts: &[String]) -> Result<()> {
    ensure!(texts.len() <= MAX_DESTINATIONS, "{} destinations, expected at most {MAX_DESTINATIONS}", texts.len());
    for text in texts {
        let destination = text.parse().with_context(|| format!("`{}`", text.escape_debug()))?;
        ensure!(
            !process.destinations.contains(&destination),
            "`{destination}` is listed twice, or implied by another table, expected each destination once"
        );
        process.destinations.push(destination);
    }
    Ok(())
}
