//! `[signer]`; `[kms]`, `[secrets]` and `[imds]`, which say where its keys come from; and `[[home]]`, the hubs that it
//! calls.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use egress::{Destination, Host, Port};
use kms::config::{BucketSettings, ImdsSettings, ImdsTable, KmsSettings, KmsTable, SecretsSettings, SecretsTable};
use service::Service;
use signer::config::{LedgerSettings, SignerTable};
use signer::home::{self, Home, HomeTable, HubIdentity, Offer, Port as ServicePort};
use signer::nonces::{Bounds, Division};
use signer::permission::{Access, Permission};
use signer::policy::Window;
use signer::upstream::Upstream;
use signer_api::key::KeyReference;

/// The configuration of the signer and of its key sources.
#[derive(Clone, Debug)]
pub(crate) struct Signing {
    pub(crate) service: signer::config::Config,
    pub(crate) kms: KmsSettings,
    pub(crate) secrets: SecretsSettings,
    pub(crate) imds: ImdsSettings,
    pub(crate) ledger: Option<BucketSettings>,
}

impl Signing {
    /// What the signer itself connects to: KMS, Secrets Manager, the ledger's bucket, the instance metadata service, hubs, the ports of services
    /// that hubs ask, and upstreams.
    pub(super) fn destinations(&self) -> Result<Vec<Destination>> {
        let mut destinations = Vec::new();
        let ledger = self.ledger.as_ref().map(|bucket| ("signer.ledger.endpoint", &bucket.server));
        let keys = [("kms.endpoint", &self.kms.endpoint), ("secrets.endpoint", &self.secrets.endpoint)];
        for (key, endpoint) in keys.into_iter().chain(ledger) {
            let (host, port) = endpoint.host_and_port();
            let host: Host = host.parse().with_context(|| format!("{key}: {endpoint}"))?;
            destinations.push(Destination::At(host, Port::Tcp(port)));
        }
        let imds = self.imds.endpoint;
        destinations.push(Destination::At(Host::Net(imds.ip().into()), Port::Tcp(imds.port())));
        let hubs = self.service.homes.iter().map(|home| ("home", &home.url));
        let upstreams = self.service.upstreams.values().map(|upstream| ("signer.upstream", upstream.url.server()));
        let service = |home: &Home| match &home.offer {
            Offer::Service(port) => {
                let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
                Some(Destination::At(Host::Net(loopback.into()), Port::Tcp(port.number)))
            }
            Offer::Signer(_) => None,
        };
        let servers = hubs.chain(upstreams).map(|(key, url)| {
            let host: Host = url.host().parse().with_context(|| format!("{key}: {url}"))?;
            Ok(Destination::At(host, Port::Tcp(url.port())))
        });
        let servers = servers.collect::<Result<Vec<_>>>()?;
        for destination in servers.into_iter().chain(self.service.homes.iter().filter_map(service)) {
            if !destinations.contains(&destination) {
                destinations.push(destination);
            }
        }
        Ok(destinations)
    }

    /// Refuses a hub for a service or a port that is not there.
    pub(super) fn check_services(&self, services: &[Service]) -> Result<()> {
        for (at, home) in self.service.homes.iter().enumerate() {
            let Offer::Service(ServicePort { service: name, number }) = &home.offer else { continue };
            let Some(service) = services.iter().find(|service| service.name == *name) else {
                let known = list(services.iter().map(|service| service.name.clone()));
                bail!("home[{at}].service: `{}` is no service of this enclave, expected {known}", name.escape_debug());
            };
            ensure!(
                service.listen.contains(number),
                "home[{at}].port: {number} is not in `listen` of the service {name}, expected {}",
                list(service.listen.iter().map(ToString::to_string))
            );
        }
        Ok(())
    }

    /// Each client's share of the memory for nonces, for `orchestrator --check`.
    pub(crate) fn nonce_memory(&self) -> String {
        if self.service.ledger.is_some() {
            return "nonces: in the ledger".to_owned();
        }
        let Division { payers, guaranteed, common } = Division::of(Bounds::default().runs, self.service.payers());
        let shares = if payers == 1 { "1 share".to_owned() } else { format!("{payers} shares") };
        format!("nonces: {shares} of {guaranteed} accounts on a chain, and {common} more in common")
    }

    /// A line about the ledger, for `orchestrator --check`.
    pub(crate) fn ledger(&self) -> String {
        let Some(settings @ LedgerSettings { bucket, owner, strict, .. }) = &self.service.ledger else {
            return String::new();
        };
        let days = settings.retention.as_secs() / (24 * 60 * 60);
        let strictness = if *strict { "all versions are listed" } else { "its administrators are trusted" };
        format!("  signer keeps its ledger in the bucket {bucket} of account {owner}, for {days} days; {strictness}\n")
    }

    /// One line for each window, for `orchestrator --check`.
    pub(crate) fn windows(&self) -> String {
        let is_shared = self.service.ledger.is_some();
        let counted = if is_shared { "counted in the ledger, for all its enclaves" } else { "counted since its start" };
        let line = |(client, window): (Option<&str>, &Window)| {
            let of =
                client.map_or_else(|| "each key".to_owned(), |client| format!("{client}, for all its keys together"));
            format!("  signer signs at most {window} on each chain for {of}; {counted}\n")
        };
        let windows = self.service.windows();
        windows.flat_map(|(client, windows)| windows.iter().map(move |window| line((client, window)))).collect()
    }

    /// One line for each hub and each upstream, for `orchestrator --check`.
    pub(crate) fn servers(&self) -> String {
        let known_by = |identity: Option<&HubIdentity>| match identity {
            None => "a certificate of a public authority",
            Some(HubIdentity::Authorities(_)) => "its certificate",
            Some(HubIdentity::Key(_)) => "its key",
        };
        let hub = |home: &Home| {
            let Home { url, identity, connections, offer, .. } = home;
            let offer = match offer {
                Offer::Signer(_) => String::new(),
                Offer::Service(ServicePort { service, number }) => format!("; for port {number} of {service}"),
            };
            format!("  signer calls {url}, known by {}; connections: {connections}{offer}\n", known_by(Some(identity)))
        };
        let upstream = |(chain, upstream): (&u64, &Upstream)| {
            let Upstream { url, identity, methods } = upstream;
            let (identity, count) = (known_by(identity.as_ref()), methods.len());
            format!("  signer asks {url} about chain {chain}, known by {identity}; methods for clients: {count}\n")
        };
        self.service.homes.iter().map(hub).chain(self.service.upstreams.iter().map(upstream)).collect()
    }
}

/// `one of a, b`, or what there is instead.
fn list(names: impl Iterator<Item = String>) -> String {
    let names: Vec<_> = names.collect();
    if names.is_empty() { "one, and there is none".to_owned() } else { format!("one of {}", names.join(", ")) }
}

/// The tables. `[signer]` and `[kms]` need each other; the others are optional.
pub(super) struct Tables {
    pub(super) signer: Option<SignerTable>,
    pub(super) kms: Option<KmsTable>,
    pub(super) secrets: Option<SecretsTable>,
    pub(super) imds: Option<ImdsTable>,
    pub(super) home: Vec<HomeTable>,
}

impl Tables {
    pub(super) fn check(self, dir: &Path) -> Result<Option<Signing>> {
        let Self { signer, kms, secrets, imds, home } = self;
        let Some(signer) = signer else {
            let others = [("kms", kms.is_some()), ("secrets", secrets.is_some()), ("imds", imds.is_some())];
            for (name, is_there) in others {
                ensure!(!is_there, "{name}: [{name}] needs [signer], expected both or neither");
            }
            ensure!(
                home.is_empty(),
                "home: [[home]] needs [signer], whose process calls the hub and proves this enclave to it; expected both or neither"
            );
            return Ok(None);
        };
        let kms = kms.context("kms: missing, expected [kms] with the key_arn of the KMS key for [signer]")?;
        let (mut service, mut kms) = (signer.check()?, kms.check(dir)?);
        if let Some(ledger) = &service.ledger {
            kms.bind_to_ledger(&ledger.identity());
        }
        let secrets = secrets.unwrap_or_default().check(&kms)?;
        service.homes = home::check(home)?;
        check_secret_ids(&service, &secrets)?;
        let ledger = match &service.ledger {
            None => None,
            Some(LedgerSettings { bucket, owner, endpoint, .. }) => {
                Some(BucketSettings::new(bucket.clone(), owner.clone(), endpoint.as_deref(), &kms)?)
            }
        };
        Ok(Some(Signing { service, secrets, imds: imds.unwrap_or_default().check()?, ledger, kms }))
    }
}

/// Refuses a secret that the signer cannot reach: clients would see it as missing.
fn check_secret_ids(service: &signer::config::Config, secrets: &SecretsSettings) -> Result<()> {
    let check = |path: &str, name: &str, permission: &Permission| -> Result<()> {
        for id in &permission.secret_ids {
            let checked = secrets.check_id(id);
            checked.with_context(|| format!("{path}: {name}: secret_ids: `{}`", id.escape_debug()))?;
        }
        Ok(())
    };
    if let Access::Clients { permissions, .. } = &service.access {
        permissions.iter().try_for_each(|(name, permission)| check("signer.clients", name, permission))?;
    }
    for key in &service.keys {
        if let KeyReference::SecretId(id) = &key.reference {
            secrets.check_id(id).with_context(|| format!("signer.keys: secret_id: `{}`", id.escape_debug()))?;
        }
    }
    let permissions = service.homes.iter().filter_map(|home| Some((home.url.to_string(), home.permission()?)));
    permissions.into_iter().try_for_each(|(url, permission)| check("home", &url, permission))
}
