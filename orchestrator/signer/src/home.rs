//! The `[[home]]` tables of the measured configuration: the hubs that the signer calls, and what each may ask.
//!
//! ```toml
//! [[home]]
//! url = "https://hub.example:8443"
//! ca = """
//! -----BEGIN CERTIFICATE-----
//! …
//! """                                   # or key_sha256 = "64 hex digits"
//! connections = 2                       # optional
//! longest_pause = "30s"                 # optional
//! secret_ids = ["prod/hot-wallet"]      # as in [[signer.clients]]
//! addresses = []                        # or any_key = true
//! generate_key = false
//! [home.policy]                         # optional, as in [[signer.clients]]
//!
//! [[home]]
//! url = "https://hub.example:8444"
//! key_sha256 = "…"
//! service = "hello"                     # a port of a service, in place of the signer
//! port = 8080
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use home::url::HomeUrl;
use rustls::pki_types::CertificateDer;
use serde::Deserialize;

use crate::config::{authorities, permission, rules};
use crate::permission::{Caller, Permission};
use crate::policy::PolicyTable;

/// Hubs of one enclave.
const MAX_HOMES: usize = 4;

/// Connections to one hub.
const MAX_CONNECTIONS: usize = 8;

/// Connections to all hubs of one enclave.
pub(crate) const MAX_ALL: usize = 16;

/// A request takes some milliseconds, so two are not for speed: one carries requests while the other is renewed.
const CONNECTIONS: usize = 2;

const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// One hub.
#[derive(Clone, Debug)]
pub struct Home {
    /// As a client. No client has such a name: those have no spaces.
    pub name: String,
    /// Where it is.
    pub url: HomeUrl,
    /// How it is known.
    pub identity: HubIdentity,
    /// How many connections it gets.
    pub connections: usize,
    /// The longest wait before the next attempt to connect.
    pub longest_pause: Duration,
    /// Who answers it.
    pub offer: Offer,
}

/// Who answers a hub's requests.
#[derive(Clone, Debug)]
pub enum Offer {
    /// The signer, what this permits, whatever the hub says of itself.
    Signer(Arc<Permission>),
    /// A service.
    Service(Port),
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name in `[[services]]`.
    pub service: String,
    /// One that it listens on.
    pub number: u16,
}

/// How a hub, or an upstream, proves that it is the right one.
#[derive(Clone, Debug)]
pub enum HubIdentity {
    /// By a certificate for its name that is valid and comes from one of these authorities; DER.
    Authorities(Vec<CertificateDer<'static>>),
    /// By this key alone: SHA-256 of its SubjectPublicKeyInfo.
    Key([u8; 32]),
}

/// `[[home]]` as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HomeTable {
    url: String,
    ca: Option<String>,
    key_sha256: Option<String>,
    connections: Option<usize>,
    #[serde(default, with = "humantime_serde")]
    longest_pause: Option<Duration>,
    #[serde(default)]
    any_key: bool,
    #[serde(default)]
    secret_ids: Vec<String>,
    #[serde(default)]
    addresses: Vec<String>,
    #[serde(default)]
    generate_key: bool,
    policy: Option<PolicyTable>,
    service: Option<String>,
    port: Option<u16>,
}

impl Home {
    /// What it may ask the signer, if that answers it.
    #[must_use]
    pub fn permission(&self) -> Option<&Arc<Permission>> {
        match &self.offer {
            Offer::Signer(permission) => Some(permission),
            Offer::Service(_) => None,
        }
    }

    /// The hub as a caller of the signer.
    #[must_use]
    pub fn caller(&self) -> Caller {
        Caller::Client { name: self.name.clone(), permission: self.permission().cloned().unwrap_or_default() }
    }
}

/// Checks all tables.
///
/// # Errors
/// One sentence with the key and what is expected.
pub fn check(tables: Vec<HomeTable>) -> Result<Vec<Home>> {
    ensure!(tables.len() <= MAX_HOMES, "home: {} tables, expected at most {MAX_HOMES}", tables.len());
    let homes = tables.into_iter().enumerate().map(|(at, table)| table.check(&format!("home[{at}]")));
    let homes = homes.collect::<Result<Vec<_>>>()?;
    let mut seen = BTreeSet::new();
    for home in &homes {
        ensure!(seen.insert(home.url.authority()), "home: {} is written twice, expected each url once", home.url);
    }
    let all: usize = homes.iter().map(|home| home.connections).sum();
    ensure!(all <= MAX_ALL, "home: {all} connections of all tables together, expected at most {MAX_ALL}");
    Ok(homes)
}

impl HomeTable {
    fn check(self, path: &str) -> Result<Home> {
        let url: HomeUrl = self.url.parse().with_context(|| format!("{path}.url"))?;
        let rules = rules(path, self.policy.as_ref())?;
        let identity = identity(path, self.ca, self.key_sha256)?.with_context(|| {
            format!("{path}.ca: missing, expected the CA of the hub's certificate as PEM, or key_sha256")
        })?;
        let connections = self.connections.unwrap_or(CONNECTIONS);
        ensure!(
            (1..=MAX_CONNECTIONS).contains(&connections),
            "{path}.connections: {connections}, expected 1 to {MAX_CONNECTIONS}"
        );
        let longest_pause = self.longest_pause.unwrap_or(LONGEST_PAUSE);
        ensure!(
            (Duration::from_secs(1)..=Duration::from_mins(10)).contains(&longest_pause),
            "{path}.longest_pause: expected a time from \"1s\" to \"10m\""
        );
        let permission = permission(path, self.any_key, self.secret_ids, &self.addresses, self.generate_key)?;
        let offer = match (self.service, self.port) {
            (None, None) => Offer::Signer(Arc::new(Permission { rules, ..permission })),
            (Some(service), Some(number)) => {
                if let Some(key) = granted(&permission) {
                    bail!("{path}.{key}: beside service, expected either a service or what the hub may ask the signer");
                }
                ensure!(
                    self.policy.is_none(),
                    "{path}.policy: beside service, expected either a service or what the hub may ask the signer"
                );
                ensure!(number != 0, "{path}.port: 0 is not a port, expected one that the service listens on");
                Offer::Service(Port { service, number })
            }
            (Some(service), None) => {
                bail!("{path}.port: missing, expected a port that the service {} listens on", service.escape_debug())
            }
            (None, Some(_)) => bail!("{path}.service: missing, expected the name of the service that port is of"),
        };
        let name = format!("home {}", url.authority());
        Ok(Home { name, url, identity, connections, longest_pause, offer })
    }
}

/// The first key that permits something.
fn granted(permission: &Permission) -> Option<&'static str> {
    let Permission { any_key, secret_ids, addresses, generate_key, rules: _ } = permission;
    let keys = [
        ("any_key", *any_key),
        ("secret_ids", !secret_ids.is_empty()),
        ("addresses", !addresses.is_empty()),
        ("generate_key", *generate_key),
    ];
    keys.into_iter().find_map(|(key, is_there)| is_there.then_some(key))
}

/// How the server of the table at `path` is known. None: the table does not say.
pub(crate) fn identity(path: &str, ca: Option<String>, key_sha256: Option<String>) -> Result<Option<HubIdentity>> {
    match (ca, key_sha256) {
        (Some(pem), None) => Ok(Some(HubIdentity::Authorities(authorities(&format!("{path}.ca"), &pem)?))),
        (None, Some(digits)) => Ok(Some(HubIdentity::Key(digest(&digits).with_context(|| {
            format!(
                "{path}.key_sha256: `{}`, expected 64 hex digits, as `wallet hub` prints them",
                digits.escape_debug()
            )
        })?))),
        (Some(_), Some(_)) => bail!("{path}.key_sha256: beside ca, expected only one of the two"),
        (None, None) => Ok(None),
    }
}

fn digest(digits: &str) -> Option<[u8; 32]> {
    ethereum::hex::decode_array(digits)
}

#[cfg(test)]
mod tests;
