//! The measured configuration of a deployment, in the image's second ramdisk.
//!
//! It is part of PCR2, so the parent cannot change it. The same code checks it at boot and in `orchestrator --check` on
//! the build host. A [`Config`] is valid: later code does not check it again.

mod egress;
mod network;
mod signing;

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::egress::{Destination, Process, Rules, host_name};
use anyhow::{Context, Result, bail, ensure};
use binding::sha256;
use ipnet::IpNet;
use kms::config::{ImdsTable, KmsTable, SecretsTable};
use serde::Deserialize;
use service::{Service, ServiceTable};
use signer::config::SignerTable;
use signer::home::HomeTable;
use tunnel::control::PublicKey;
use wireguard::{MAX_MTU, MIN_MTU};

pub(crate) use egress::Lookups;
pub(crate) use network::Network;
pub(crate) use signing::Signing;

/// The folder of the measured files in the image.
pub(crate) const CONFIG_DIR: &str = "/config";

/// The measured configuration in it.
pub(crate) const CONFIG_PATH: &str = "/config/enclave.toml";

/// DNS (RFC 1035, 4.2).
pub(crate) const DNS_PORT: u16 = 53;

/// Maximum length of the configuration file in bytes.
const MAX_LEN: u64 = 64 * 1024;

/// The checked configuration.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// SHA-256 of the file.
    pub(crate) digest: [u8; 32],
    pub(crate) tunnel: Tunnel,
    /// Queried in this order.
    pub(crate) name_servers: Vec<IpAddr>,
    pub(crate) probe: Probe,
    /// None in an enclave without a signer.
    pub(crate) signing: Option<Signing>,
    /// Leaked once per process, so that a child can refer to its service without owning it.
    pub(crate) services: &'static [Service],
    /// Where each process may connect, and the ports that are open.
    pub(crate) rules: Rules,
    /// What the resolver answers.
    pub(crate) lookups: Vec<Lookups>,
    pub(crate) logs: Logs,
}

/// wg0 and the networks behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tunnel {
    pub(crate) networks: Vec<Network>,
    /// The only gateway that is accepted, if the file names one.
    pub(crate) gateway_key: Option<PublicKey>,
    pub(crate) mtu: u16,
    pub(crate) default_route_mtu: u16,
    pub(crate) persistent_keepalive: Duration,
}

/// What leaves of the console's lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Logs {
    /// Whether the parent gets them.
    pub(crate) to_parent: bool,
}

/// The connectivity probe on the console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Probe {
    pub(crate) name: String,
    pub(crate) interval: Duration,
}

impl Config {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// One sentence with the path, the key and the expected value.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let read = || -> Result<String> {
            let len = fs::metadata(path)?.len();
            ensure!(len <= MAX_LEN, "{len} bytes, expected at most {MAX_LEN}");
            Ok(fs::read_to_string(path)?)
        };
        let object = || PathBuf::from(path).display().to_string();
        let dir = path.parent().unwrap_or(Path::new("."));
        Self::parse(&read().with_context(object)?, dir).with_context(object)
    }

    /// Checks the text of a configuration. `dir` is the folder of the files that it names.
    ///
    /// # Errors
    /// One sentence with the key and the expected value.
    pub(crate) fn parse(text: &str, dir: &Path) -> Result<Self> {
        let file: File = match toml::from_str(text) {
            Ok(file) => file,
            Err(error) => bail!("{}", locate(text, &error)),
        };
        let File { signer, kms, secrets, imds, home, .. } = file;
        let tables = signing::Tables { signer, kms, secrets, imds, home };
        let signing = tables.check(dir)?;
        let signer = signing.as_ref().map(|signing| (signing.service.port, "signer"));
        let taken: Vec<_> = signer.into_iter().chain([(DNS_PORT, "resolver")]).collect();
        let tunnel = file.tunnel.check()?;
        let name_servers = name_servers(file.dns.servers)?;
        let probe = file.probe.check()?;
        let services: &[Service] = service::check(file.services, &taken)?.leak();
        if let Some(signing) = &signing {
            signing.check_services(services)?;
        }
        let (rules, lookups) = egress::rules(&tunnel, &name_servers, &probe, signing.as_ref(), services, &file.egress)?;
        let digest = sha256(text.as_bytes());
        // A parent that is not the gateway is trusted with less.
        let logs = file.logs.unwrap_or(Logs { to_parent: tunnel.gateway_key.is_none() });
        Ok(Self { digest, tunnel, name_servers, probe, signing, services, rules, lookups, logs })
    }

    /// The name servers that a process may query: the resolver, or all of `dns.servers` for a process without limits.
    pub(crate) fn name_servers_of(&self, process: &str) -> Vec<IpAddr> {
        let is_free = |one: &Process| one.name == process && one.destinations.contains(&Destination::Anywhere);
        if self.rules.processes.iter().any(is_free) {
            return self.name_servers.clone();
        }
        let own = self.lookups.iter().filter(|lookups| lookups.process == process);
        own.map(|lookups| lookups.address.into()).collect()
    }

    /// Checks the programs of all services in the folder of the configuration.
    ///
    /// # Errors
    /// One sentence with the service, its file and what was expected.
    pub(crate) fn check_programs(&self, dir: &Path) -> Result<()> {
        self.services.iter().try_for_each(|service| service.check_file(dir))
    }
}

/// One line for toml's several: the line's number, its text and the error.
fn locate(text: &str, error: &toml::de::Error) -> String {
    let message = error.message().trim().replace('\n', ", ");
    let Some(before) = error.span().and_then(|span| text.get(..span.start)) else {
        return message;
    };
    let number = before.matches('\n').count() + 1;
    let line = text.lines().nth(number - 1).unwrap_or_default().trim();
    format!("line {number}: `{line}`: {message}")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    tunnel: TunnelTable,
    dns: DnsTable,
    probe: ProbeTable,
    signer: Option<SignerTable>,
    kms: Option<KmsTable>,
    secrets: Option<SecretsTable>,
    imds: Option<ImdsTable>,
    #[serde(default)]
    home: Vec<HomeTable>,
    #[serde(default)]
    services: Vec<ServiceTable>,
    #[serde(default)]
    egress: BTreeMap<String, Vec<String>>,
    logs: Option<Logs>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TunnelTable {
    networks: Vec<IpNet>,
    gateways: Vec<IpAddr>,
    gateway_key: Option<String>,
    mtu: u16,
    default_route_mtu: u16,
    #[serde(with = "humantime_serde")]
    persistent_keepalive: Duration,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DnsTable {
    servers: Vec<IpAddr>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProbeTable {
    name: String,
    #[serde(with = "humantime_serde")]
    interval: Duration,
}

impl TunnelTable {
    fn check(self) -> Result<Tunnel> {
        ensure!(
            (MIN_MTU..=MAX_MTU).contains(&self.mtu),
            "tunnel.mtu: {} is out of range, expected {MIN_MTU} to {MAX_MTU}",
            self.mtu
        );
        ensure!(
            (MIN_MTU..=self.mtu).contains(&self.default_route_mtu),
            "tunnel.default_route_mtu: {} is out of range, expected {MIN_MTU} to tunnel.mtu, {}",
            self.default_route_mtu,
            self.mtu
        );
        let keepalive = self.persistent_keepalive;
        ensure!(
            keepalive.subsec_nanos() == 0 && (1..=120).contains(&keepalive.as_secs()),
            "tunnel.persistent_keepalive: expected whole seconds from \"1s\" to \"120s\""
        );
        Ok(Tunnel {
            networks: network::pair(self.networks, self.gateways)?,
            gateway_key: self.gateway_key.as_deref().map(gateway_key).transpose()?,
            mtu: self.mtu,
            default_route_mtu: self.default_route_mtu,
            persistent_keepalive: keepalive,
        })
    }
}

impl ProbeTable {
    fn check(self) -> Result<Probe> {
        let name = host_name(&self.name).with_context(|| {
            format!("probe.name: `{}` is not a host name, expected one such as \"aws.com\"", self.name.escape_debug())
        })?;
        ensure!(
            (Duration::from_secs(1)..=Duration::from_hours(24)).contains(&self.interval),
            "probe.interval: expected a time from \"1s\" to \"24h\""
        );
        Ok(Probe { name, interval: self.interval })
    }
}

fn gateway_key(text: &str) -> Result<PublicKey> {
    let key: Option<PublicKey> = text.parse().ok();
    key.filter(|key| key.0 != [0; 32]).with_context(|| {
        format!(
            "tunnel.gateway_key: `{}` is not a WireGuard public key, expected the 44 characters that `wg-server keygen` prints",
            text.escape_debug()
        )
    })
}

fn name_servers(servers: Vec<IpAddr>) -> Result<Vec<IpAddr>> {
    ensure!(
        (1..=3).contains(&servers.len()),
        "dns.servers: {} addresses, expected 1 to 3 (resolv.conf(5) allows no more)",
        servers.len()
    );
    for server in &servers {
        if let Some(reason) = network::unusable(*server) {
            bail!("dns.servers: {server} {reason}, expected the address of a name server behind the tunnel");
        }
    }
    Ok(servers)
}

impl Tunnel {
    /// The gateway's address in each network.
    pub(crate) fn gateways(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.networks.iter().map(|network| network.gateway)
    }
}

#[cfg(test)]
mod tests;
