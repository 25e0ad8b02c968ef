//! A signature over a connection that the enclave opened.

use anyhow::{Context, Result, ensure};
use parent_vm::EnclaveId;
use serde_json::Value;

use super::page::indented;
use super::signing::request;
use super::{PROBE_PATIENCE, Transcript, body, title};
use crate::host::{Hub, URL, Wallet};

const CALLER: EnclaveId = EnclaveId::SECOND;

impl Transcript<'_> {
    pub(super) fn home(&self) -> Result<()> {
        title(12, "an enclave calls a hub, and signs for it while the parent forwards no port")?;
        let wallet = Wallet::trusting(self.parent.clone(), &self.lab.eif_path()?)?;
        let address = wallet.keygen()?;
        let secret_id = format!("lab/{address}");
        wallet.set_key(&secret_id)?;
        let shown = Hub::begin(self.lab, &secret_id, "", &[]).and_then(|hub| self.sign_for(&hub, &secret_id, &address));
        self.lab.enclave(CALLER).stop()?;
        Hub::end(self.lab)?;
        shown?;
        self.wait_back()
    }

    fn sign_for(&self, hub: &Hub<'_>, secret_id: &str, address: &str) -> Result<()> {
        let request = request(secret_id);
        let enclave = hub.variant().boot(CALLER)?;
        let accepted = self.lab.progress.phase("its call", |_| {
            enclave.wait_tunnel()?;
            enclave.wait_console("home: connected, the hub has accepted this enclave", PROBE_PATIENCE)
        })?;
        let wallet = Wallet::trusting(self.parent.clone(), hub.variant().eif_path())?;
        let Err(closed) = wallet.sign(URL, &request) else { anyhow::bail!("a port of the parent leads to the signer") };
        let closed = closed.to_string();
        let (status, answer) = hub.ask("/", Some(&request))?;
        ensure!(status == 200, "the hub answered with {status}: {answer}");
        let answer: Value = serde_json::from_str(&answer).with_context(|| format!("read {answer:?}"))?;
        let transaction = answer.get("transaction_signed").and_then(Value::as_str).context("no transaction_signed")?;
        let signer = wallet.signer_of(transaction).context("eth-account")?;
        ensure!(signer == address, "eth-account recovered the signer {signer}; expected {address}");
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
