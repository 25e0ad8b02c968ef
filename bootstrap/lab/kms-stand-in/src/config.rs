//! The stand-in's configuration, in TOML. It contains the access keys' secrets, so anyone who can read it can sign
//! requests.
//!
//! ```toml
//! region = "eu-central-1"
//! listen = ["198.51.100.90:443"]
//! attestation_root_path = "lab-root.pem" # without: AWS's root
//! fault_path = "fault.toml"              # without: only faults set by a program
//!
//! [tls]
//! certificate_path = "kms.crt"
//! key_path = "kms.key"
//!
//! [[access_keys]]
//! id = "AKIATESTONLY"
//! secret = "TEST ONLY"
//! session_token = "TEST ONLY"                          # without: none
//! expires = "2030-01-01T00:00:00Z"                     # without: never
//! principal = "arn:aws:iam::111122223333:role/enclave"
//! iam_actions = ["kms:GenerateRandom"]                 # what IAM policies allow; without: nothing
//!
//! [[keys]]
//! arn = "arn:aws:kms:eu-central-1:111122223333:key/01234567-89ab-cdef-0123-456789abcdef"
//! aliases = ["alias/wallet"]
//! state = "enabled"                 # or "disabled", "pending-deletion"
//! policy_path = "key-policy.json"   # or the JSON itself as `policy`
//! material_path = "wallet.material" # made when missing; without: new with every start
//! ```
//!
//! Paths are relative to the file's folder.

use std::collections::HashSet;
use std::fmt::{self, Write};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use attestation::TrustRoot;
use serde::Deserialize;

use crate::access_key::{self, AccessKey};
use crate::arn::KeyArn;
use crate::key::{Key, KeyState, Material};
use crate::policy::Policy;
use crate::tls;

/// A parsed configuration, with the policies and the root that it names.
#[derive(Debug)]
pub struct Config {
    pub(crate) region: String,
    pub(crate) access_keys: Vec<AccessKey>,
    pub(crate) keys: Vec<KeySettings>,
    pub(crate) root: TrustRoot,
    pub(crate) fault_path: Option<PathBuf>,
    listen: Vec<SocketAddr>,
    tls: Option<Tls>,
}

/// The server's certificate and private key.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    certificate_path: PathBuf,
    key_path: PathBuf,
}

#[derive(Debug)]
pub(crate) struct KeySettings {
    arn: KeyArn,
    aliases: Vec<String>,
    state: KeyState,
    policy: Policy,
    material_path: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    region: String,
    #[serde(default)]
    listen: Vec<SocketAddr>,
    attestation_root_path: Option<PathBuf>,
    fault_path: Option<PathBuf>,
    tls: Option<Tls>,
    access_keys: Vec<access_key::Entry>,
    keys: Vec<KeyEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyEntry {
    arn: KeyArn,
    #[serde(default)]
    aliases: Vec<String>,
    #[serde(default)]
    state: KeyState,
    policy: Option<String>,
    policy_path: Option<PathBuf>,
    material_path: Option<PathBuf>,
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// If the file, or a file that it names, is not valid.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let dir = path.parent().unwrap_or(Path::new(""));
        Self::parse(&text, dir).with_context(|| path.display().to_string())
    }

    /// Parses a text whose paths are relative to `dir`.
    ///
    /// # Errors
    /// If the text, or a file that it names, is not valid.
    pub fn parse(text: &str, dir: &Path) -> Result<Self> {
        let file: File = toml::from_str(text)?;
        let root = match &file.attestation_root_path {
            None => TrustRoot::aws(),
            Some(path) => {
                let pem = read(&dir.join(path)).context("attestation_root_path")?;
                TrustRoot::from_pem(&pem).with_context(|| format!("attestation_root_path {}", path.display()))?
            }
        };
        let access_keys: Vec<AccessKey> = file.access_keys.into_iter().map(AccessKey::from).collect();
        check_unique("access_keys", "id", access_keys.iter().map(|key| key.id.as_str()))?;
        let keys = file.keys.into_iter().enumerate().map(|(index, entry)| {
            let label = format!("keys[{index}]");
            KeySettings::new(entry, &file.region, dir).context(label)
        });
        let keys: Vec<_> = keys.collect::<Result<_>>()?;
        check_unique("keys", "UUID", keys.iter().map(|key| key.arn.id().to_string()))?;
        let aliases: Vec<_> = keys.iter().flat_map(|key| &key.aliases).collect();
        if !aliases.is_empty() {
            check_unique("keys", "alias", aliases.into_iter())?;
        }
        Ok(Self {
            region: file.region,
            access_keys,
            keys,
            root,
            fault_path: file.fault_path.map(|path| dir.join(path)),
            listen: file.listen,
            tls: file.tls.map(|tls| tls.beside(dir)),
        })
    }

    /// The addresses to listen on.
    ///
    /// # Errors
    /// If there are none.
    pub fn listen(&self) -> Result<&[SocketAddr]> {
        ensure!(!self.listen.is_empty(), "listen is empty, expected at least one address like \"127.0.0.1:443\"");
        Ok(&self.listen)
    }

    /// The server's certificate and private key.
    ///
    /// # Errors
    /// If there are none.
    pub fn tls(&self) -> Result<&Tls> {
        self.tls.as_ref().context("no [tls], expected one with certificate_path and key_path")
    }
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// If a file cannot be parsed, or the key is not the certificate's.
    pub fn server_config(&self) -> Result<Arc<rustls::ServerConfig>> {
        let certificates = read(&self.certificate_path).context("tls.certificate_path")?;
        let key = zeroize::Zeroizing::new(read(&self.key_path).context("tls.key_path")?);
        tls::server_config(&certificates, &key).context("tls")
    }

    fn beside(self, dir: &Path) -> Self {
        Self { certificate_path: dir.join(self.certificate_path), key_path: dir.join(self.key_path) }
    }
}

impl KeySettings {
    fn new(entry: KeyEntry, region: &str, dir: &Path) -> Result<Self> {
        let KeyEntry { arn, aliases, state, policy, policy_path, material_path } = entry;
        ensure!(arn.region() == region, "arn {arn}, expected one in region {region:?}");
        for alias in &aliases {
            let is_right = alias.strip_prefix("alias/").is_some_and(|name| !name.is_empty());
            ensure!(is_right, "aliases: {alias:?}, expected alias/NAME");
        }
        let policy = match (policy, policy_path) {
            (Some(json), None) => Policy::parse(&json, &arn).context("policy")?,
            (None, Some(path)) => {
                let json = read(&dir.join(&path)).context("policy_path")?;
                Policy::parse(&json, &arn).with_context(|| format!("policy_path {}", path.display()))?
            }
            (None, None) | (Some(_), Some(_)) => anyhow::bail!("expected either policy_path or policy"),
        };
        Ok(Self { arn, aliases, state, policy, material_path: material_path.map(|path| dir.join(path)) })
    }

    pub(crate) fn open(self) -> Result<Key> {
        let Self { arn, aliases, state, policy, material_path } = self;
        let material = match material_path {
            None => Material::random(),
            Some(path) => Material::keep_in(&path),
        };
        let material = material.with_context(|| format!("material of {arn}"))?;
        Ok(Key { arn, aliases, state, policy, material })
    }
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

fn check_unique<T: fmt::Display>(list: &str, what: &str, names: impl Iterator<Item = T>) -> Result<()> {
    let mut seen = HashSet::new();
    for name in names.map(|name| name.to_string()) {
        ensure!(!name.is_empty(), "{list}: an empty {what}, expected one");
        ensure!(!seen.contains(&name), "{list}: duplicate {what} {name}");
        seen.insert(name);
    }
    ensure!(!seen.is_empty(), "{list} is empty, expected at least one entry");
    Ok(())
}

/// The output of `check`.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "region: {}", self.region)?;
        writeln!(f, "attestation documents: {}", self.root)?;
        for AccessKey { id, caller, .. } in &self.access_keys {
            let iam = caller.iam_actions.iter().fold(String::new(), |mut list, action| {
                // Writing to a String cannot fail.
                write!(list, " {action}").ok();
                list
            });
            let iam = if iam.is_empty() { String::new() } else { format!(", IAM allows{iam}") };
            writeln!(f, "access key: {id} of {}{iam}", caller.arn)?;
        }
        for KeySettings { arn, state, aliases, .. } in &self.keys {
            let aliases: String = aliases.iter().map(|alias| format!(", {alias}")).collect();
            writeln!(f, "key: {arn}, {}{aliases}", state.name())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
