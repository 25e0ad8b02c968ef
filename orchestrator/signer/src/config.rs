//! The `[signer]` table of the measured configuration.
//!
//! ```toml
//! [signer]
//! port = 443
//! key_cache_time = "10m"
//! handshake_timeout = "1m"              # optional
//! client_ca = """
//! -----BEGIN CERTIFICATE-----
//! …
//! """
//! [[signer.clients]]
//! name = "payments.example"             # a DNS name in the certificate's subjectAltName
//! secret_ids = ["prod/hot-wallet"]
//! addresses = []                        # or any_key = true
//! generate_key = false
//! [signer.clients.policy]               # optional: rules for this client beside those for the keys
//! max_value = "1 ether"
//! [[signer.keys]]                       # optional: loaded at the start, for clients that name a key by its address
//! secret_id = "prod/hot-wallet"         # or encrypted_key = "base64"
//! address = "0x…"                       # optional: the only address that the key may have
//! [signer.policy]                       # see crate::policy
//! [signer.upstream.1]                   # optional, see crate::upstream
//! [signer.ledger]                       # optional, see crate::ledger
//! ```
//!
//! Instead of `client_ca` and `clients`, `open = true` lets everyone in who reaches the port. One of the two must be written.
//! A client without keys may read `/metrics`.

mod keys;
mod ledger;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use ethereum::address::Address;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;

use crate::home::Home;
use crate::permission::{Access, Permission};
use crate::policy::{Policy, PolicyTable, Rules, Window};
use crate::service::Limits;
use crate::upstream::{self, Upstream, UpstreamTable};
use keys::KeyTable;
use ledger::LedgerTable;

pub use keys::ConfiguredKey;
pub use ledger::LedgerSettings;

/// The signer's part of the configuration, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the caller listens, in the tunnel.
    pub port: u16,
    /// How long a decrypted key is kept.
    pub key_cache_time: Duration,
    /// How long a client may take for its TLS handshake.
    pub handshake_timeout: Duration,
    /// Who is let in.
    pub access: Access,
    /// The keys that are loaded at the start.
    pub keys: Vec<ConfiguredKey>,
    /// What is signed.
    pub policy: Policy,
    /// The nodes that the signer asks, by chain.
    pub upstreams: BTreeMap<u64, Upstream>,
    /// The bucket in which enclaves record what they sign.
    pub ledger: Option<LedgerSettings>,
    /// The hubs that the signer calls. The caller fills them in, from tables of their own.
    pub homes: Vec<Home>,
}

impl Config {
    /// The windows of all keys, and of each client.
    pub fn windows(&self) -> impl Iterator<Item = (Option<&str>, &[Window])> {
        let clients = match &self.access {
            Access::Open => None,
            Access::Clients { permissions, .. } => Some(permissions),
        };
        let clients = clients.into_iter().flatten().map(|(name, permission)| (name.as_str(), permission));
        let homes = self.homes.iter().filter_map(|home| Some((home.name.as_str(), home.permission()?)));
        let of_clients = clients
            .chain(homes)
            .filter_map(|(name, permission)| permission.rules.as_ref().map(|rules| (Some(name), rules.windows())));
        self.policy.all_rules().map(|rules| (None, rules.windows())).chain(of_clients)
    }

    /// How many payers of [`crate::nonces`] there can be.
    #[must_use]
    pub fn payers(&self) -> usize {
        self.access.payers()
            + self.homes.iter().filter_map(Home::permission).map(|permission| permission.payers()).sum::<usize>()
    }
}

/// `[signer]` as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignerTable {
    port: u16,
    #[serde(with = "humantime_serde")]
    key_cache_time: Duration,
    #[serde(default, with = "humantime_serde")]
    handshake_timeout: Option<Duration>,
    open: Option<bool>,
    client_ca: Option<String>,
    #[serde(default)]
    clients: Vec<ClientTable>,
    #[serde(default)]
    keys: Vec<KeyTable>,
    policy: PolicyTable,
    #[serde(default)]
    upstream: BTreeMap<String, UpstreamTable>,
    ledger: Option<LedgerTable>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClientTable {
    name: String,
    #[serde(default)]
    any_key: bool,
    #[serde(default)]
    secret_ids: Vec<String>,
    #[serde(default)]
    addresses: Vec<String>,
    #[serde(default)]
    generate_key: bool,
    policy: Option<PolicyTable>,
}

impl SignerTable {
    /// Checks the table.
    ///
    /// # Errors
    /// One sentence with the key and what is expected.
    pub fn check(self) -> Result<Config> {
        ensure!(self.port != 0, "signer.port: 0 is not a port, expected a number from 1 to 65535");
        ensure!(
            (Duration::from_secs(1)..=Duration::from_hours(24)).contains(&self.key_cache_time),
            "signer.key_cache_time: expected a time from \"1s\" to \"24h\""
        );
        let handshake_timeout = self.handshake_timeout.unwrap_or(Limits::default().handshake);
        ensure!(
            (Duration::from_secs(1)..=Duration::from_mins(10)).contains(&handshake_timeout),
            "signer.handshake_timeout: expected a time from \"1s\" to \"10m\""
        );
        let access = match (self.open, self.client_ca) {
            (Some(true), None) => {
                ensure!(self.clients.is_empty(), "signer.clients: beside open = true, expected only one of the two");
                Access::Open
            }
            (Some(true), Some(_)) => bail!("signer.client_ca: beside open = true, expected only one of the two"),
            (Some(false) | None, Some(pem)) => Access::Clients {
                authorities: authorities("signer.client_ca", &pem)?,
                permissions: permissions(self.clients)?,
            },
            (Some(false) | None, None) => {
                bail!(
                    "signer.client_ca: missing, expected the clients' CA as PEM, or signer.open = true to let everyone sign"
                )
            }
        };
        let policy = self.policy.check("signer.policy")?;
        let keys = keys::check(self.keys)?;
        let upstreams = upstream::check("signer.upstream", self.upstream, &policy.chain_ids())?;
        let ledger = self.ledger.map(LedgerTable::check).transpose()?;
        // One write proves nothing about the other chains.
        ensure!(
            ledger.as_ref().is_none_or(|ledger| ledger.strict) || !policy.all_rules().any(Rules::allows_any_chain),
            "signer.ledger.strict: false beside any_chain_authorizations = true, expected only one of the two"
        );
        let (port, key_cache_time, homes) = (self.port, self.key_cache_time, Vec::new());
        Ok(Config { port, key_cache_time, handshake_timeout, access, keys, policy, upstreams, ledger, homes })
    }
}

/// The certificates in the text at `path`, each of which can be a root.
pub(crate) fn authorities(path: &str, pem: &str) -> Result<Vec<CertificateDer<'static>>> {
    let expected = || format!("{path}: expected certificates as PEM, each from BEGIN CERTIFICATE to END CERTIFICATE");
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().with_context(expected)?;
    ensure!(!certificates.is_empty(), "{}", expected());
    let mut roots = RootCertStore::empty();
    for certificate in &certificates {
        roots.add(certificate.clone()).with_context(expected)?;
    }
    Ok(certificates)
}

fn permissions(clients: Vec<ClientTable>) -> Result<BTreeMap<String, Arc<Permission>>> {
    ensure!(!clients.is_empty(), "signer.clients: empty, expected at least one client");
    let mut permissions = BTreeMap::new();
    for (at, client) in clients.into_iter().enumerate() {
        let path = format!("signer.clients[{at}]");
        let name = client.name.clone();
        let permission = client.check(&path)?;
        ensure!(
            permissions.insert(name.clone(), Arc::new(permission)).is_none(),
            "{path}.name: `{name}` is written twice, expected each name once"
        );
    }
    Ok(permissions)
}

impl ClientTable {
    fn check(self, path: &str) -> Result<Permission> {
        let is_character = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte);
        ensure!(
            (1..=253).contains(&self.name.len()) && self.name.bytes().all(is_character),
            "{path}.name: `{}` is not a DNS name, expected one in lower case, such as \"payments.example\"",
            self.name.escape_debug()
        );
        let rules = rules(path, self.policy.as_ref())?;
        let permission = permission(path, self.any_key, self.secret_ids, &self.addresses, self.generate_key)?;
        Ok(Permission { rules, ..permission })
    }
}

/// The permission that these keys of the table at `path` grant.
pub(crate) fn permission(
    path: &str,
    any_key: bool,
    secret_ids: Vec<String>,
    addresses: &[String],
    generate_key: bool,
) -> Result<Permission> {
    if any_key {
        ensure!(secret_ids.is_empty(), "{path}.secret_ids: beside any_key = true, expected only one of the two");
        ensure!(addresses.is_empty(), "{path}.addresses: beside any_key = true, expected only one of the two");
    }
    ensure!(secret_ids.iter().all(|id| !id.is_empty()), "{path}.secret_ids: expected names or ARNs of secrets");
    let address = |text: &String| text.parse().with_context(|| format!("{path}.addresses: `{}`", text.escape_debug()));
    let addresses = addresses.iter().map(address).collect::<Result<BTreeSet<Address>>>()?;
    Ok(Permission { any_key, secret_ids: secret_ids.into_iter().collect(), addresses, generate_key, rules: None })
}

/// The rules of the client whose table is at `path`.
pub(crate) fn rules(path: &str, policy: Option<&PolicyTable>) -> Result<Option<Rules>> {
    policy.map(|policy| policy.check_client(&format!("{path}.policy"))).transpose()
}

#[cfg(test)]
mod tests;
