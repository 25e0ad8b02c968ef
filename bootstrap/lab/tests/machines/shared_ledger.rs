//! A ledger in the lab's S3, and clients of two enclaves that keep it.

use std::process::Command;

use super::shared_lab::SharedLab;
use lab::{EnclaveId, More, Parent, Variant, Wallet};
use parent_vm::paths::WEB_CA_PATH;
use serde_json::{Value, json};

const VECTORS: &str = include_str!("../../../../orchestrator/signer/tests/vectors/ethereum-transactions.json");
const ADMINISTRATOR: &str = include_str!("ledger_bucket.py");
const CLIENTS: &str = include_str!("ledger_clients.py");
/// The enclaves in the tunnel, from the parent.
pub(crate) const ADDRESSES: [&str; 3] = ["203.0.113.2", "203.0.113.3", "203.0.113.4"];

/// A bucket, and a key whose encryption context names it.
#[derive(Clone, Copy)]
pub(crate) struct SharedLedger {
    pub(crate) bucket: &'static str,
    pub(crate) secret: &'static str,
}

impl SharedLedger {
    /// Tables of an image that keeps this ledger, with this limit of signatures in a day.
    pub(crate) fn tables(&self, max_count: u32) -> String {
        let bucket = self.bucket;
        format!(
            "\n[signer.ledger]\nbucket = \"{bucket}\"\nowner = \"111122223333\"\nretention_years = 1\n\n\
             [[signer.policy.windows]]\nperiod = \"24h\"\nmax_count = {max_count}\n"
        )
    }

    /// Begins a variant with `tables`.
    pub(crate) fn variant<'lab>(&self, shared: &'lab SharedLab, tables: &str) -> Variant<'lab> {
        shared.lab.parent().unwrap().wait_aws().unwrap();
        let name = format!("{}.s3.eu-central-1.amazonaws.com", self.bucket);
        Variant::begin(&shared.lab, &More { tables, names: &[&name], ..More::default() }).unwrap()
    }

    /// A client that has stored the published key.
    pub(crate) fn wallet(&self, variant: &Variant<'_>) -> Wallet {
        let wallet = Wallet::trusting(variant.parent().clone(), variant.eif_path()).unwrap();
        wallet.import(serde_json::from_str::<Value>(VECTORS).unwrap()["private_key"].as_str().unwrap()).unwrap();
        wallet.set_key_for(self.secret, &["purpose=lab", &format!("ledger=111122223333/{}", self.bucket)]).unwrap();
        wallet
    }

    /// A request of the published key's first test vector with another nonce and value.
    pub(crate) fn request(&self, nonce: u64, value: &str) -> Value {
        let vectors: Value = serde_json::from_str(VECTORS).unwrap();
        let mut payload = vectors["transactions"][0]["request"].clone();
        (payload["nonce"], payload["value"]) = (json!(nonce), json!(value));
        json!({"transaction_payload": payload, "secret_id": self.secret})
    }

    /// A verb of the bucket's administrator.
    pub(crate) fn administrator(&self, parent: &Parent, verb: &str, arguments: &[&str]) -> Value {
        let python = ["ip", "netns", "exec", "internet", "env", "PYTHONPATH=/opt/python/moto", "python3", "-c"];
        let said = [&python[..], &[ADMINISTRATOR, WEB_CA_PATH, verb, self.bucket], arguments].concat();
        let said = parent.output(&said).unwrap();
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
    }

    /// A verb of clients on the parent, for the caller to run.
    pub(crate) fn clients(&self, parent: &Parent, verb: &str, arguments: &[&str]) -> Command {
        let body = self.request(0, "0").to_string();
        parent.command(&[&["python3", "-c", CLIENTS, verb, &body], arguments].concat(), false)
    }

    pub(crate) fn refusal(&self, wallet: &Wallet, enclave: usize, nonce: u64, value: &str) -> String {
        let url = format!("https://{}", ADDRESSES[enclave]);
        format!("{:#}", wallet.sign(&url, &self.request(nonce, value)).expect_err("a refusal"))
    }

    /// Signs; where S3 takes more than two seconds, as it may here, the client repeats the same request.
    pub(crate) fn signed(&self, wallet: &Wallet, enclave: usize, nonce: u64, value: &str) -> String {
        let url = format!("https://{}", ADDRESSES[enclave]);
        for _ in 0..5 {
            match wallet.sign(&url, &self.request(nonce, value)) {
                Ok((transaction, _)) => return transaction,
                Err(error) if format!("{error:#}").contains("ledger_unavailable") => {}
                Err(error) => panic!("{error:#}"),
            }
        }
        panic!("nonce {nonce}: S3 is away")
    }
}

/// Gives the next test the lab's own enclave, and ends the others.
pub(crate) fn end_variant(shared: &SharedLab, enclaves: usize) {
    for id in EnclaveId::first(enclaves) {
        shared.lab.enclave(id).stop().unwrap();
    }
    Variant::end(&shared.lab).unwrap();
    let enclave = shared.lab.enclave(EnclaveId::FIRST);
    enclave.start(None).unwrap();
    enclave.wait_tunnel().unwrap();
}
