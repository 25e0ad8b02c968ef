//! `wallet`, run by a client in the lab's internet.

use std::path::Path;

use anyhow::{Context, Result};
use parent_vm::paths::{ROOT_PATH, WALLET, WEB_CA_PATH};
use parent_vm::{ENCLAVE_ROLE, WALLET_ROLE};
use serde_json::Value;

use super::Parent;
use super::parent::numbered;
use crate::key_policy::ADMIN_ROLE;
use crate::payload;

/// The signer, through the port that the parent forwards from its uplink.
pub const URL: &str = "https://198.51.100.2";
/// The only key of the lab's KMS.
const KEY_ARN: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
/// The encryption context in the lab's measured configuration.
const CONTEXT: &str = "purpose=lab";
/// Nobody listens there.
const NOWHERE: &str = "https://127.0.0.1:4443";
const KEY_PATH: &str = "/run/lab/wallet.key";
const REQUEST_PATH: &str = "/run/lab/wallet-request.json";
pub(super) const MEASUREMENTS_PATH: &str = "/run/lab/wallet-measurements.json";
/// TEST ONLY. `internet/kms.toml` has the same.
const ENVIRONMENT: [&str; 4] = [
    "AWS_ACCESS_KEY_ID=ASIATESTONLYWALLET00",
    "AWS_SECRET_ACCESS_KEY=TEST/ONLY/secret/of/the/wallets/role/000",
    "AWS_SESSION_TOKEN=TEST/ONLY/session/token/of/the/wallets/role",
    "AWS_REGION=eu-central-1",
];
/// Recovers the signer of a transaction with eth-account.
const RECOVER: &str = "import sys; from eth_account import Account; print(Account.recover_transaction(sys.argv[1]))";

/// A client that accepts one image, or several.
#[derive(Clone, Debug)]
pub struct Wallet {
    parent: Parent,
    measurements: Vec<String>,
    is_in_tunnel: bool,
}

impl Wallet {
    /// A client that accepts only enclaves that run `eif`, which has its measurements in the same folder.
    ///
    /// # Errors
    /// As [`Parent::wait_aws`].
    pub fn trusting(parent: Parent, eif: &Path) -> Result<Self> {
        Self::trusting_any(parent, &[eif])
    }

    /// As [`Wallet::trusting`], for several images, as during an upgrade.
    ///
    /// # Errors
    /// As [`Wallet::trusting`].
    pub fn trusting_any(parent: Parent, eifs: &[&Path]) -> Result<Self> {
        parent.wait_aws()?;
        let measurements = numbered(MEASUREMENTS_PATH, eifs.len());
        for (path, eif) in measurements.iter().zip(eifs) {
            parent.write(path, &payload::measurements_of(eif)?)?;
        }
        Ok(Self { parent, measurements, is_in_tunnel: false })
    }

    /// The same client on the parent, from where it reaches enclaves at their own addresses.
    #[must_use]
    pub fn in_tunnel(self) -> Self {
        Self { is_in_tunnel: true, ..self }
    }

    /// Creates a key; its address.
    ///
    /// # Errors
    /// As [`Parent::output`].
    pub fn keygen(&self) -> Result<String> {
        self.parent.output(&["rm", "-f", KEY_PATH])?;
        address_in(&self.run("keygen", &["--json", "--out", KEY_PATH])?)
    }

    /// Uses a given key, in hex, instead of a new one.
    ///
    /// # Errors
    /// As [`Parent::output`].
    pub fn import(&self, key: &str) -> Result<()> {
        let write = "umask 077; printf '%s\\n' \"$1\" >\"$2\"";
        self.parent.output(&["sh", "-c", write, "sh", key, KEY_PATH]).map(drop)
    }

    /// Encrypts the key for the enclave's encryption context and stores it; the output of `wallet`.
    ///
    /// # Errors
    /// As [`Parent::output`].
    pub fn set_key(&self, secret_id: &str) -> Result<String> {
        self.set_key_for(secret_id, &[CONTEXT])
    }

    /// As [`Wallet::set_key`], for another encryption context, with entries `name=value`.
    ///
    /// # Errors
    /// As [`Parent::output`].
    pub fn set_key_for(&self, secret_id: &str, context: &[&str]) -> Result<String> {
        let what = ["--secret-id", secret_id, "--key-arn", KEY_ARN];
        let context: Vec<_> = context.iter().flat_map(|entry| ["--context", entry]).collect();
        self.run("set-key", &[&what[..], &context, &["--aws-ca", WEB_CA_PATH, KEY_PATH]].concat())
    }

    /// The stored ciphertext, in base64.
    ///
    /// # Errors
    /// As [`Parent::output`].
    pub fn key(&self, secret_id: &str) -> Result<String> {
        let stored = self.run("get-key", &["--secret-id", secret_id, "--aws-ca", WEB_CA_PATH])?;
        Ok(stored.trim().to_owned())
    }

    /// Lets the enclave at `url` create a key, and stores the ciphertext; the key's address.
    ///
    /// # Errors
    /// As [`Wallet::sign`].
    pub fn generate_key(&self, url: &str, secret_id: &str) -> Result<String> {
        let what = ["--json", "--secret-id", secret_id, "--aws-ca", WEB_CA_PATH];
        address_in(&self.run("generate-key", &[&what[..], &self.enclave(url)].concat())?)
    }

    /// Sets a key policy that decrypts only for enclaves of the accepted images; the policy.
    ///
    /// # Errors
    /// As [`Parent::set_key_policy`].
    pub fn set_policy(&self) -> Result<String> {
        let who = ["--role", ENCLAVE_ROLE, "--admin", ADMIN_ROLE, "--encryptor", WALLET_ROLE];
        let what = ["--context", CONTEXT, "--allow-generate"];
        let policy = self.run("policy", &[&self.images()[..], &what, &who].concat())?;
        self.parent.set_key_policy(&policy)?;
        Ok(policy)
    }

    /// Sets a key policy under which a key can be bound to `ledger`, and binds the key at `address` of a secret; the output of `wallet`.
    ///
    /// # Errors
    /// As [`Parent::set_key_policy`]; and `wallet` refuses, or KMS does.
    pub fn adopt_ledger(&self, secret_id: &str, address: &str, ledger: &str) -> Result<String> {
        let entry = format!("ledger={ledger}");
        let who = ["--role", ENCLAVE_ROLE, "--admin", ADMIN_ROLE, "--encryptor", WALLET_ROLE, "--adopter", WALLET_ROLE];
        let context = ["--context", CONTEXT, "--context", &entry];
        self.parent.set_key_policy(&self.run("policy", &[&self.images()[..], &context, &who].concat())?)?;
        let key = ["--secret-id", secret_id, "--replace", address, "--key-arn", KEY_ARN, "--context", CONTEXT];
        let what = ["--ledger", ledger, "--gone", NOWHERE, "--aws-ca", WEB_CA_PATH];
        self.run("adopt-ledger", &[&key[..], &what].concat())
    }

    /// Verifies the enclave at `url`; the output of `wallet`.
    ///
    /// # Errors
    /// The enclave does not prove that it runs the accepted image.
    pub fn verify(&self, url: &str) -> Result<String> {
        self.run("verify", &self.enclave(url))
    }

    /// Lets the enclave at `url` sign a transaction; the signed transaction and its hash.
    ///
    /// # Errors
    /// The enclave does not prove that it runs the accepted image, or refuses to sign.
    pub fn sign(&self, url: &str, request: &Value) -> Result<(String, String)> {
        let write = "printf %s \"$1\" >\"$2\"";
        self.parent.output(&["sh", "-c", write, "sh", &request.to_string(), REQUEST_PATH])?;
        let answer = self.run("sign", &[&[REQUEST_PATH][..], &self.enclave(url)].concat())?;
        let answer: Value = serde_json::from_str(&answer).with_context(|| format!("read {answer:?}"))?;
        let field = |name: &str| {
            let text = answer.get(name).and_then(Value::as_str).map(str::to_owned);
            text.with_context(|| format!("no {name} in {answer}"))
        };
        Ok((field("transaction_signed")?, field("transaction_hash")?))
    }

    /// The signer of a transaction, recovered by eth-account.
    ///
    /// # Errors
    /// It is not a signed transaction.
    pub fn signer_of(&self, transaction: &str) -> Result<String> {
        let python = ["env", "PYTHONPATH=/opt/python/eth-account", "python3", "-c", RECOVER, transaction];
        Ok(self.parent.output(&python)?.trim().to_owned())
    }

    /// The enclave to ask, and the images that may run there.
    fn enclave<'a>(&'a self, url: &'a str) -> Vec<&'a str> {
        [&["--url", url, "--root", ROOT_PATH][..], &self.images()].concat()
    }

    fn images(&self) -> Vec<&str> {
        self.measurements.iter().flat_map(|path| ["--measurements", path]).collect()
    }

    fn run(&self, verb: &str, arguments: &[&str]) -> Result<String> {
        let start: &[&str] = if self.is_in_tunnel { &["env"] } else { &["ip", "netns", "exec", "internet", "env"] };
        let words = [start, &ENVIRONMENT, &[WALLET, verb], arguments].concat();
        self.parent.output_of(&format!("wallet {verb}"), &words)
    }
}

fn address_in(said: &str) -> Result<String> {
    let said: Value = serde_json::from_str(said).with_context(|| format!("read {said:?}"))?;
    let address = said.get("address").and_then(Value::as_str).with_context(|| format!("no address in {said}"))?;
    Ok(address.to_owned())
}
