//! An enclave that becomes a peer, and three that the gateway refuses.

use std::fs;

use anyhow::{Context, Result, ensure};
use parent_vm::EnclaveId;
use parent_vm::paths::WG_SERVER;
use serde_json::Value;

use super::page::indented;
use super::{Transcript, body, title};
use crate::evidence;
use crate::host::Enclave;
use crate::payload;
use crate::plan::Plan;
use crate::rogue::Rogue;

/// The enclave that is replaced by those to refuse.
const SECOND: EnclaveId = EnclaveId::SECOND;
const MEASURED: [&str; 3] = ["PCR0", "PCR1", "PCR2"];

impl Transcript<'_> {
    pub(super) fn attestation(&self) -> Result<()> {
        title(2, "the enclave proves which image it runs, and wg-server adds it as a peer")?;
        let id = EnclaveId::FIRST;
        let status = self.parent.output(&[WG_SERVER, "status"])?;
        let proved =
            evidence::attested(&status, id.cid()).with_context(|| format!("no attested enclave in:\n{status}"))?;
        let root = status.lines().find(|line| line.trim().starts_with("trust root: "));
        let root = root.with_context(|| format!("no trust root in:\n{status}"))?;
        ensure!(root.contains("NOT AWS"), "wg-server takes the lab's root for AWS's: {root}");

        let path = payload::measurements_of(&Plan::load(&self.lab.layout)?.eif_path)?;
        let measurements: Value = serde_json::from_slice(&fs::read(&path).context("read the measurements")?)?;
        let mut computed = Vec::new();
        for name in MEASURED {
            let value = measurements.get(name).and_then(Value::as_str);
            let value = value.with_context(|| format!("no {name} in {}", path.display()))?;
            computed.push(format!("{name}: {value}"));
            ensure!(
                proved.iter().any(|line| line.eq_ignore_ascii_case(&format!("{name}: {value}"))),
                "the enclave proved {proved:?}; expected {name}: {value}"
            );
        }
        body(&format!(
            "Its attestation document, signed over a nonce from wg-server (wg-server status):\n{}\
             The measurements that the build computed ({}):\n{}\
             They match, so wg-server added the enclave's key. The document leads to this lab's own root:\n{}\
             By default, wg-server trusts only AWS's root, and refuses the same document:\n{}",
            indented(&proved),
            path.display(),
            indented(&computed.iter().map(String::as_str).collect::<Vec<_>>()),
            indented(&[root.trim()]),
            indented(&[self.refusal_without_root()?.trim()]),
        ))
    }

    /// Why `wg-server attest` refuses the enclave's document without `--root`.
    fn refusal_without_root(&self) -> Result<String> {
        self.parent
            .attest(EnclaveId::FIRST, &[])?
            .err()
            .context("wg-server accepts the lab's document under AWS's root")
    }

    pub(super) fn changed_image(&self) -> Result<()> {
        title(8, "wg-server refuses an image with one changed character")?;
        let reason = self.refused(Rogue::ChangedConfig)?;
        ensure!(reason.contains("PCR2"), "refused, but not by PCR2: {reason}");
        body(&format!(
            "The image differs in one letter of a comment in enclave.toml. Its document is genuine. Its console:\n{}\
             wg-server's log:\n{}",
            indented(&[&format!("the gateway refuses this enclave: {reason}")]),
            indented(&[&self.logged(&reason)?]),
        ))
    }

    pub(super) fn impostors(&self) -> Result<()> {
        title(9, "wg-server refuses another program, and a replayed answer")?;
        let other = self.refused(Rogue::OtherImage)?;
        ensure!(other.contains("PCR"), "refused, but not by PCRs: {other}");
        self.lab.enclave(SECOND).start(None)?;
        self.lab.enclave(SECOND).wait_tunnel()?;
        let replay = self.refused(Rogue::Replay)?;
        ensure!(replay.contains("nonce"), "refused, but not for its nonce: {replay}");
        body(&format!(
            "Another program that speaks the protocol and has a genuine document of its own:\n{}\
             The same program, replaying the keys and the document that the right enclave sent for an earlier nonce:\n{}",
            indented(&[&other]),
            indented(&[&replay]),
        ))
    }

    /// Boots it in the place of the second enclave, and terminates it; the gateway's reason.
    fn refused(&self, rogue: Rogue) -> Result<String> {
        let enclave: Enclave<'_> = self.lab.enclave(SECOND);
        let reason = enclave.replace(rogue)?;
        enclave.stop()?;
        Ok(reason)
    }

    fn logged(&self, reason: &str) -> Result<String> {
        let log = self.parent.wg_server_log()?;
        let line = log.lines().rev().find(|line| line.contains(reason));
        line.map(str::to_owned).with_context(|| format!("wg-server's log does not have `{reason}`"))
    }
}
