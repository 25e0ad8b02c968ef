//! `[signer]`; `[kms]`, `[secrets]` and `[imds]`, which say where its keys come from; and `[[home]]`, the hubs that it
//! calls.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use egress::{Destination, Host, Port};
use kms::config::{ImdsSettings, ImdsTable, KmsSettings, KmsTable, SecretsSettings, SecretsTable};
use signer::config::SignerTable;
use signer::home::{self, Home, HomeTable, HubIdentity};
use signer::nonces::{Bounds, Division};
use signer::permission::{Access, Permission};

/// The configuration of the signer and of its key sources.
#[derive(Clone, Debug)]
pub(crate) struct Signing {
    pub(crate) service: signer::config::Config,
    pub(crate) kms: KmsSettings,
    pub(crate) secrets: SecretsSettings,
    pub(crate) imds: ImdsSettings,
}

impl Signing {
    /// What the signer itself connects to: KMS, Secrets Manager, the instance metadata service, and hubs.
    pub(super) fn destinations(&self) -> Result<Vec<Destination>> {
        let mut destinations = Vec::new();
        for (key, endpoint) in [("kms.endpoint", &self.kms.endpoint), ("secrets.endpoint", &self.secrets.endpoint)] {
            let (host, port) = endpoint.host_and_port();
            let host: Host = host.parse().with_context(|| format!("{key}: {endpoint}"))?;
            destinations.push(Destination::At(host, Port::Tcp(port)));
        }
        let imds = self.imds.endpoint;
        destinations.push(Destination::At(Host::Net(imds.ip().into()), Port::Tcp(imds.port())));
        for Home { url, .. } in &self.service.homes {
            let host: Host = url.host().parse().with_context(|| format!("home: {url}"))?;
            let hub = Destination::At(host, Port::Tcp(url.port()));
            if !destinations.contains(&hub) {
                destinations.push(hub);
            }
        }
        Ok(destinations)
    }

    /// Each client's share of the memory for nonces, for `orchestrator --check`.
    pub(crate) fn nonce_memory(&self) -> String {
        let Division { payers, guaranteed, common } = Division::of(Bounds::default().runs, self.service.payers());
        let shares = if payers == 1 { "1 share".to_owned() } else { format!("{payers} shares") };
        format!("nonces: {shares} of {guaranteed} accounts on a chain, and {common} more in common")
    }

    /// One line for each hub, for `orchestrator --check`.
    pub(crate) fn hubs(&self) -> String {
        let line = |home: &Home| {
            let identity = match &home.identity {
                HubIdentity::Authorities(_) => "its certificate",
                HubIdentity::Key(_) => "its key",
            };
            format!("  signer calls {}, known by {identity}; connections: {}\n", home.url, home.connections)
        };
        self.service.homes.iter().map(line).collect()
    }
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
                "home: [[home]] needs [signer], which serves the hub's requests; expected both or neither"
            );
            return Ok(None);
        };
        let kms = kms.context("kms: missing, expected [kms] with the key_arn of the KMS key for [signer]")?;
        let kms = kms.check(dir)?;
        let (mut service, secrets) = (signer.check()?, secrets.unwrap_or_default().check(&kms)?);
        service.homes = home::check(home)?;
        check_secret_ids(&service, &secrets)?;
        Ok(Some(Signing { service, secrets, imds: imds.unwrap_or_default().check()?, kms }))
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
    service.homes.iter().try_for_each(|home| check("home", &home.url.to_string(), &home.permission))
}
