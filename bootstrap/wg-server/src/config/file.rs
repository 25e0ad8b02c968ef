//! `parent.toml` as written, and its conversion to a checked [`Config`].

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use ipnet::IpNet;
use serde::Deserialize;
use wireguard::{MAX_MTU, MIN_MTU};

use super::attestation::AttestationTable;
use super::egress::EgressTable;
use super::forward::{self, ForwardTable};
use super::lists;
use super::metrics::MetricsTable;
use super::path::absolute;
use super::remote::RemoteTable;
use super::watchdog::WatchdogTable;
use super::{Config, Deny, Dns, Enclaves, Forwarder, InterfaceName, Nat, Range, Ranges, WireGuard};

/// The VPC's resolver (docs.aws.amazon.com/vpc/latest/userguide/AmazonDNS-concepts.html).
const AWS_RESOLVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(169, 254, 169, 253));

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(default = "default_runtime_dir")]
    runtime_dir: PathBuf,
    wireguard: WireGuardTable,
    remote: Option<RemoteTable>,
    enclaves: EnclavesTable,
    attestation: AttestationTable,
    #[serde(default)]
    nat: NatTable,
    #[serde(default)]
    egress: EgressTable,
    dns: DnsTable,
    #[serde(default)]
    watchdog: WatchdogTable,
    #[serde(default)]
    metrics: MetricsTable,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireGuardTable {
    interface: String,
    private_key_path: PathBuf,
    listen_port: u16,
    addresses: Vec<String>,
    mtu: u32,
    #[serde(with = "humantime_serde")]
    persistent_keepalive: Duration,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EnclavesTable {
    ipv4_range: Option<String>,
    ipv6_range: Option<String>,
    state_dir: PathBuf,
    #[serde(default)]
    enclave_to_enclave: bool,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct NatTable {
    uplink: Option<String>,
    nft_path: Option<PathBuf>,
    #[serde(default)]
    forwards: Vec<ForwardTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DnsTable {
    allow_list_path: PathBuf,
    forwarders: Vec<String>,
    deny: Deny,
    #[serde(default = "default_dnssec")]
    dnssec: bool,
    query_log_path: PathBuf,
    named_path: PathBuf,
    user: Option<String>,
    named_socket_path: Option<PathBuf>,
}

fn default_runtime_dir() -> PathBuf {
    super::DEFAULT_RUNTIME_DIR.into()
}

fn default_dnssec() -> bool {
    true
}

impl File {
    pub(super) fn check(self) -> Result<Config> {
        let wireguard = self.wireguard.check()?;
        let remote = self.remote.map(RemoteTable::check).transpose()?;
        let enclaves = self.enclaves.check(&wireguard.addresses)?;
        let attestation = self.attestation.check()?;
        let nat = self.nat.check(&enclaves.ranges)?;
        let egress = self.egress.check()?;
        lists::ensure_possible(&egress.lists, &attestation, remote.as_ref())?;
        let dns = self.dns.check(&wireguard.addresses)?;
        let watchdog = self.watchdog.check()?;
        let metrics = self.metrics.check(&wireguard.addresses)?;
        ensure!(
            nat.uplink.as_ref() != Some(&wireguard.interface),
            "nat.uplink: {} is the WireGuard interface itself, expected the interface of the default route, like \"eth0\"",
            wireguard.interface
        );
        if let Some(remote) = &remote {
            ensure!(
                nat.forwards.iter().all(|forward| forward.port != remote.listen.port()),
                "nat.forwards.port: parents connect to {} (remote.listen), expected another port",
                remote.listen.port()
            );
        }
        Ok(Config {
            runtime_dir: absolute("runtime_dir", self.runtime_dir)?,
            wireguard,
            remote,
            enclaves,
            attestation,
            nat,
            egress,
            dns,
            watchdog,
            metrics,
        })
    }
}

impl WireGuardTable {
    fn check(self) -> Result<WireGuard> {
        let interface = InterfaceName::parse(&self.interface).context("wireguard.interface")?;
        ensure!(self.listen_port != 0, "wireguard.listen_port: 0 is not a port, expected 1 to 65535, usually 51820");
        let addresses: Vec<IpNet> =
            self.addresses.iter().map(|text| gateway(text)).collect::<Result<_>>().context("wireguard.addresses")?;
        for version in [4, 6] {
            let of_version = addresses.iter().filter(|net| version_of(net.addr()) == version).count();
            ensure!(
                of_version <= 1,
                "wireguard.addresses: {of_version} IPv{version} addresses, expected at most one per IP version"
            );
        }
        ensure!(!addresses.is_empty(), "wireguard.addresses: empty, expected an address like \"203.0.113.1/24\"");
        let mtu = u16::try_from(self.mtu)
            .ok()
            .filter(|mtu| (MIN_MTU..=MAX_MTU).contains(mtu))
            .with_context(|| format!("wireguard.mtu: {}, expected {MIN_MTU} to {MAX_MTU}", self.mtu))?;
        ensure!(
            self.persistent_keepalive.subsec_nanos() == 0
                && (1..=u64::from(u16::MAX)).contains(&self.persistent_keepalive.as_secs()),
            "wireguard.persistent_keepalive: expected whole seconds from \"1s\" to \"65535s\", usually \"15s\""
        );
        Ok(WireGuard {
            interface,
            private_key_path: absolute("wireguard.private_key_path", self.private_key_path)?,
            listen_port: self.listen_port,
            addresses,
            mtu,
            persistent_keepalive: self.persistent_keepalive,
        })
    }
}

impl EnclavesTable {
    fn check(self, gateways: &[IpNet]) -> Result<Enclaves> {
        let ipv4 = self.ipv4_range.map(|text| Range::parse(&text, gateways)).transpose();
        let ipv6 = self.ipv6_range.map(|text| Range::parse(&text, gateways)).transpose();
        let ranges = Ranges::new(ipv4.context("enclaves.ipv4_range")?, ipv6.context("enclaves.ipv6_range")?);
        Ok(Enclaves {
            ranges: ranges.context("enclaves")?,
            state_dir: absolute("enclaves.state_dir", self.state_dir)?,
            enclave_to_enclave: self.enclave_to_enclave,
        })
    }
}

impl NatTable {
    fn check(self, ranges: &Ranges) -> Result<Nat> {
        let uplink = self.uplink.as_deref().map(InterfaceName::parse).transpose().context("nat.uplink")?;
        let nft_path = self.nft_path.unwrap_or_else(|| "/usr/sbin/nft".into());
        let forwards = self.forwards.into_iter().map(|table| table.check(ranges)).collect::<Result<Vec<_>>>()?;
        forward::ensure_distinct(&forwards)?;
        Ok(Nat { uplink, nft_path: absolute("nat.nft_path", nft_path)?, forwards })
    }
}

impl DnsTable {
    fn check(self, gateways: &[IpNet]) -> Result<Dns> {
        let forwarders: Vec<Forwarder> =
            self.forwarders.iter().map(|text| forwarder(text)).collect::<Result<_>>().context("dns.forwarders")?;
        ensure!(!forwarders.is_empty(), "dns.forwarders: empty, expected an address like \"169.254.169.253\"");
        for forwarder in &forwarders {
            ensure!(
                !gateways.iter().any(|net| net.contains(&forwarder.address)),
                "dns.forwarders: {} is in the enclaves' own network, expected a name server outside it",
                forwarder.address
            );
        }
        ensure!(
            !(self.dnssec && forwarders.iter().any(|forwarder| forwarder.address == AWS_RESOLVER)),
            "dns.dnssec: true does not work with the forwarder {AWS_RESOLVER}: it returns no DNSSEC records, so every name would get \
             SERVFAIL; expected dnssec = false, or other forwarders"
        );
        // BIND would look for the root's keys in the empty root zone that makes it answer REFUSED.
        ensure!(
            !(self.dnssec && self.deny == Deny::Refused),
            "dns.dnssec: true does not work with deny = \"refused\", expected dnssec = false or deny = \"nxdomain\""
        );
        Ok(Dns {
            allow_list_path: absolute("dns.allow_list_path", self.allow_list_path)?,
            forwarders,
            deny: self.deny,
            dnssec: self.dnssec,
            query_log_path: absolute("dns.query_log_path", self.query_log_path)?,
            named_path: absolute("dns.named_path", self.named_path)?,
            user: self.user,
            named_socket_path: self
                .named_socket_path
                .map(|path| absolute("dns.named_socket_path", path))
                .transpose()?,
        })
    }
}

fn version_of(address: IpAddr) -> u8 {
    if address.is_ipv4() { 4 } else { 6 }
}

/// Parses a gateway's address and its network.
fn gateway(text: &str) -> Result<IpNet> {
    let net: IpNet = text
        .parse()
        .with_context(|| format!("{text:?}, expected an address with its network like \"203.0.113.1/24\""))?;
    let (address, most) = (net.addr(), net.max_prefix_len());
    let hint = "expected a host's address in a network of its own like \"203.0.113.1/24\"";
    if address.is_unspecified() || address.is_loopback() || address.is_multicast() {
        bail!("{text:?} cannot be a gateway's address, {hint}");
    }
    ensure!(net.prefix_len() > 0 && net.prefix_len() <= most - 2, "{text:?} leaves no room for enclaves, {hint}");
    ensure!(address != net.network(), "{text:?} is its network's own address, {hint}");
    ensure!(address.is_ipv6() || address != net.broadcast(), "{text:?} is its network's broadcast address, {hint}");
    Ok(net)
}

fn forwarder(text: &str) -> Result<Forwarder> {
    let address = text.parse::<IpAddr>().map(|address| Forwarder { address, port: 53 });
    let forwarder = address
        .or_else(|_| text.parse::<SocketAddr>().map(|socket| Forwarder { address: socket.ip(), port: socket.port() }))
        .with_context(|| format!("{text:?}, expected an address like \"169.254.169.253\" or \"198.51.100.53:5353\""))?;
    ensure!(
        !forwarder.address.is_unspecified() && !forwarder.address.is_multicast() && forwarder.port != 0,
        "{text:?} is not a host's address, expected a name server's address like \"169.254.169.253\""
    );
    Ok(forwarder)
}
