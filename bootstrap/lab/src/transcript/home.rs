//! A signature over a connection that the enclave opened.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::clients::ENCLAVE;
use super::page::indented;
use super::signing::request;
use super::{PROBE_PATIENCE, Transcript, body, title};
use crate::host::{CHAIN_ID, Clients, Hub, URL, Wallet};

/// None that the clients have used.
const NONCE: u64 = 1000;

impl Transcript<'_> {
    /// With the enclave of the step before.
    pub(super) fn home(&self) -> Result<()> {
        title(13, "the enclave calls a hub, and signs for it while the parent forwards no port")?;
        let shown = Hub::of(self.lab).and_then(|hub| self.sign_for(&hub));
        self.lab.enclave(ENCLAVE).stop()?;
        Hub::end(self.lab)?;
        shown?;
        self.wait_back()
    }

    fn sign_for(&self, hub: &Hub<'_>) -> Result<()> {
        let mut request = request(Clients::SECRET);
        for (field, value) in [("chainId", CHAIN_ID), ("nonce", NONCE)] {
            let payload = request.get_mut("transaction_payload").context("no transaction_payload")?;
            payload.as_object_mut().context("no object")?.insert(field.to_owned(), json!(value));
        }
        let enclave = self.lab.enclave(ENCLAVE);
        let accepted = enclave.wait_console("home: connected, the hub has accepted this enclave", PROBE_PATIENCE)?;
        let wallet = Wallet::trusting(self.parent.clone(), hub.variant().eif_path())?;
        let Err(closed) = wallet.sign(URL, &request) else { anyhow::bail!("a port of the parent leads to the signer") };
        let closed = closed.to_string();
        let (status, answer) = hub.ask("/", Some(&request))?;
        ensure!(status == 200, "the hub answered with {status}: {answer}");
        let answer: Value = serde_json::from_str(&answer).with_context(|| format!("read {answer:?}"))?;
        let transaction = answer.get("transaction_signed").and_then(Value::as_str).context("no transaction_signed")?;
        let signer = wallet.signer_of(transaction).context("eth-account")?;
        ensure!(signer == Clients::ACCOUNT, "eth-account recovered the signer {signer}");
        body(&format!(
            "The parent's `[[nat.forwards]]` is empty. A client gets no connection to the signer's port:\n{}\
             The enclave has called `wallet hub` in the lab's internet and proved itself on that connection:\n{}\
             A program beside the hub asks for a signature (curl http://127.0.0.1:8080/):\n{}\
             eth-account recovers the signer from it: {signer}, the address of that key.\n",
            indented(&[closed.lines().last().unwrap_or_default().trim()]),
            indented(&[accepted.trim()]),
            indented(&[transaction]),
        ))
    }
}
