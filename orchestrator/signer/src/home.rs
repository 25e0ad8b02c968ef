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
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use home::url::HomeUrl;
use rustls::pki_types::CertificateDer;
use serde::Deserialize;

use crate::config::{authorities, permission};
use crate::permission::{Caller, Permission};

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
    /// Where it is.
    pub url: HomeUrl,
    /// How it is known.
    pub identity: HubIdentity,
    /// How many connections it gets.
    pub connections: usize,
    /// The longest wait before the next attempt to connect.
    pub longest_pause: Duration,
    /// What it may ask, whatever it says of itself.
    pub permission: Arc<Permission>,
}

/// How a hub proves that it is the right one.
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
}

impl Home {
    /// The hub as a caller of the signer. No client has such a name: those have no spaces.
    #[must_use]
    pub fn caller(&self) -> Caller {
        Caller::Client { name: format!("home {}", self.url.authority()), permission: Arc::clone(&self.permission) }
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
        let url = self.url.parse().with_context(|| format!("{path}.url"))?;
        let identity = match (self.ca, self.key_sha256) {
            (Some(pem), None) => HubIdentity::Authorities(authorities(&format!("{path}.ca"), &pem)?),
            (None, Some(digits)) => HubIdentity::Key(digest(&digits).with_context(|| {
                format!(
                    "{path}.key_sha256: `{}`, expected 64 hex digits, as `wallet hub` prints them",
                    digits.escape_debug()
                )
            })?),
            (Some(_), Some(_)) => bail!("{path}.key_sha256: beside ca, expected only one of the two"),
            (None, None) => bail!("{path}.ca: missing, expected the CA of the hub's certificate as PEM, or key_sha256"),
        };
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
        Ok(Home { url, identity, connections, longest_pause, permission: Arc::new(permission) })
    }
}

fn digest(digits: &str) -> Option<[u8; 32]> {
    ethereum::hex::decode_array(digits)
}

#[cfg(test)]
mod tests;
