//! `[[signer.keys]]`: keys that are loaded when the signer starts, for clients that name a key by its address.

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ethereum::address::Address;
use serde::Deserialize;
use signer_api::key::KeyReference;

/// Fewer than the key cache has room for.
const MAX_KEYS: usize = 64;

/// KMS's `CiphertextBlob` has at most so many bytes.
const MAX_CIPHERTEXT: usize = 6144;

/// A key that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfiguredKey {
    /// Where it is.
    pub reference: KeyReference,
    /// The only address that it may have.
    pub address: Option<Address>,
    /// For logs and errors.
    pub name: String,
}

/// One of the tables as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyTable {
    secret_id: Option<String>,
    encrypted_key: Option<String>,
    address: Option<String>,
}

/// Checks all tables.
pub(super) fn check(tables: Vec<KeyTable>) -> Result<Vec<ConfiguredKey>> {
    ensure!(tables.len() <= MAX_KEYS, "signer.keys: {} tables, expected at most {MAX_KEYS}", tables.len());
    let mut keys: Vec<ConfiguredKey> = Vec::new();
    for (at, table) in tables.into_iter().enumerate() {
        let key = table.check(&format!("signer.keys[{at}]"))?;
        for other in &keys {
            let is_same = other.reference == key.reference || (key.address.is_some() && other.address == key.address);
            ensure!(!is_same, "signer.keys[{at}]: the same key as {}, expected each key once", other.name);
        }
        keys.push(key);
    }
    Ok(keys)
}

impl KeyTable {
    fn check(self, path: &str) -> Result<ConfiguredKey> {
        let (reference, name) = match (self.secret_id, self.encrypted_key) {
            (Some(id), None) => {
                ensure!(!id.is_empty(), "{path}.secret_id: empty, expected the name or ARN of a secret");
                let name = format!("secret {id}");
                (KeyReference::SecretId(id), name)
            }
            (None, Some(text)) => {
                let ciphertext = ciphertext(&text);
                let ciphertext = ciphertext.with_context(|| {
                    format!("{path}.encrypted_key: expected base64 of 1 to {MAX_CIPHERTEXT} bytes, as KMS gave them")
                })?;
                (KeyReference::EncryptedKey(ciphertext), path.to_owned())
            }
            (Some(_), Some(_)) => bail!("{path}.encrypted_key: beside secret_id, expected only one of the two"),
            (None, None) => bail!("{path}.secret_id: missing, expected secret_id or encrypted_key"),
        };
        let read = |text: String| text.parse().with_context(|| format!("{path}.address: `{}`", text.escape_debug()));
        Ok(ConfiguredKey { reference, address: self.address.map(read).transpose()?, name })
    }
}

fn ciphertext(text: &str) -> Option<Vec<u8>> {
    let characters: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    STANDARD.decode(characters).ok().filter(|bytes| (1..=MAX_CIPHERTEXT).contains(&bytes.len()))
}
