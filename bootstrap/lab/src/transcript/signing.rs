//! A key that KMS decrypts for one image, and a signature with it.

use anyhow::{Context, Result, ensure};
use parent_vm::EnclaveId;
use serde_json::{Value, json};

use super::page::indented;
use super::{Transcript, body, title};
use crate::host::{URL, Wallet};
use crate::rogue::{self, Rogue};

/// Runs the changed image. No port is forwarded to it, so the client connects through the tunnel.
const CHANGED: EnclaveId = EnclaveId::SECOND;

/// An EIP-1559 transaction of a hundredth of an ether.
pub(super) fn request(secret_id: &str) -> Value {
    json!({
        "transaction_payload": {
            "value": 0.01,
            "to": "0xa5D3241A1591061F2a4bB69CA0215F66520E67cf",
            "nonce": 0,
            "type": 2,
            "chainId": 4,
            "gas": 100_000,
            "maxFeePerGas": 100_000_000_000_u64,
            "maxPriorityFeePerGas": 3_000_000_000_u64,
        },
        "secret_id": secret_id,
    })
}

impl Transcript<'_> {
    pub(super) fn signing(&self) -> Result<()> {
        title(11, "the enclave signs with a key that KMS decrypts for this image only")?;
        let wallet = Wallet::trusting(self.parent.clone(), &self.lab.eif_path()?)?;
        let policy = wallet.set_policy().context("wallet policy")?;
        let condition = policy.lines().find(|line| line.contains("ImageSha384"));
        let condition = condition.with_context(|| format!("no condition on the image in the key policy:\n{policy}"))?;
        let address = wallet.keygen().context("wallet keygen")?;
        // A new secret for each run: an earlier run may have left one, and set-key does not replace a key.
        let secret_id = format!("lab/{address}");
        let stored = wallet.set_key(&secret_id).context("wallet set-key")?;
        let verified = wallet.verify(URL).context("wallet verify")?;
        let (transaction, hash) = wallet.sign(URL, &request(&secret_id)).context("wallet sign")?;
        let signer = wallet.signer_of(&transaction).context("eth-account")?;
        ensure!(signer == address, "eth-account recovered the signer {signer}; expected {address}");
        body(&format!(
            "The key policy lets the enclave's role decrypt on one condition (wallet policy):\n{}\
             A new key is stored in Secrets Manager, encrypted (wallet keygen, wallet set-key):\n{}\
             A client in the lab's internet verifies the enclave through port 443 of the parent (wallet verify):\n{}\
             The enclave signs an EIP-1559 transaction (wallet sign):\n{}\
             eth-account recovers the signer from it: {signer}, the address of that key.\n",
            indented(&[condition.trim()]),
            indented(&stored.lines().collect::<Vec<_>>()),
            indented(&verified.lines().collect::<Vec<_>>()),
            indented(&[&transaction, &format!("hash {hash}")]),
        ))?;
        let refusal = self.refused_by_kms(&request(&secret_id))?;
        body(&format!(
            "wg-server and the client now accept an image with one changed character. KMS does not decrypt for it:\n{}",
            indented(&[&refusal]),
        ))
    }

    /// Waits until the lab's own enclave is a peer again: wg-server removed its keys when its image was not accepted.
    pub(super) fn wait_back(&self) -> Result<()> {
        // A ping without a peer fails at once.
        let answers = "for i in $(seq 120); do
              ! ping -c 1 -W 1 \"$1\" >/dev/null 2>&1 || exit 0
              sleep 0.5
            done; echo 'no answer to a ping' >&2; exit 1";
        let address = self.addresses.iter().find(|address| address.is_ipv4()).context("no IPv4 address")?.to_string();
        self.parent.output(&["sh", "-c", answers, "sh", &address]).context("wait for the lab's own enclave").map(drop)
    }

    /// KMS's refusal for an enclave of the changed image, which wg-server and the client accept.
    fn refused_by_kms(&self, request: &Value) -> Result<String> {
        let eif = self.lab.progress.phase("the changed image", |phase| {
            rogue::build(Rogue::ChangedConfig, &[], &self.lab.project, &self.lab.layout, phase)
        })?;
        self.parent.trust(&eif)?;
        let enclave = self.lab.enclave(CHANGED);
        enclave.stop()?;
        enclave.start(Some(&eif))?;
        let refusal = self.lab.progress.phase("its tunnel, and what it answers", |_| {
            enclave.wait_tunnel()?;
            let addresses = enclave.addresses()?;
            let address = addresses.iter().find(|address| address.is_ipv4()).context("no IPv4 address")?;
            let wallet = Wallet::trusting(self.parent.clone(), &eif)?.in_tunnel();
            anyhow::Ok(wallet.sign(&format!("https://{address}"), request))
        });
        enclave.stop()?;
        self.parent.trust(&self.lab.eif_path()?)?;
        self.wait_back()?;
        let Err(error) = refusal? else { anyhow::bail!("KMS decrypted the key for a changed image") };
        let said = format!("{error:#}");
        let refusal = said.lines().find(|line| line.contains("KMS: AccessDenied"));
        Ok(refusal.with_context(|| format!("expected a refusal by KMS: {said}"))?.to_owned())
    }
}
