//! What makes an enclave a peer, and three that are not made one.

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

/// The place of those to be refused.
const SECOND: EnclaveId = EnclaveId::SECOND;
const MEASURED: [&str; 3] = ["PCR0", "PCR1", "PCR2"];

impl Transcript<'_> {
    pub(super) fn attestation(&self) -> Result<()> {
        title(2, "the enclave proves which image it is, and becomes a peer for that")?;
        let id = EnclaveId::FIRST;
        let status = self.parent.output(&[WG_SERVER, "status"])?;
        let proved =
            evidence::attested(&status, id.cid()).with_context(|| format!("no attested enclave in:\n{status}"))?;
        let root = status.lines().find(|line| line.trim().starts_with("trust root: "));
        let root = root.with_context(|| format!("no trust root in:\n{status}"))?;
        ensure!(root.contains("NOT AWS"), "the lab's root is taken for AWS's: {root}");

        let path = payload::measurements_of(&Plan::load(&self.lab.layout)?.eif_path)?;
        let measurements: Value = serde_json::from_slice(&fs::read(&path).context("read the measurements")?)?;
        let mut foretold = Vec::new();
        for name in MEASURED {
            let value = measurements.get(name).and_then(Value::as_str);
            let value = value.with_context(|| format!("no {name} in {}", path.display()))?;
            foretold.push(format!("{name}: {value}"));
            ensure!(
                proved.iter().any(|line| line.eq_ignore_ascii_case(&format!("{name}: {value}"))),
                "{name} should be {value}, and the enclave proved {proved:?}"
            );
        }
        body(&format!(
            "What it proved (wg-server status), by a document that its security module signed over a nonce of wg-server's:\n{}\
             What the build foretold ({}):\n{}\
             They are the same, so wg-server added its key. The document is signed by this lab's own certificates:\n{}\
             wg-server on EC2 trusts AWS's root unless it is told otherwise, and would refuse it:\n{}",
            indented(&proved),
            path.display(),
            indented(&foretold.iter().map(String::as_str).collect::<Vec<_>>()),
            indented(&[root.trim()]),
            indented(&[self.refusal_without_root()?.trim()]),
        ))
    }

    /// What `wg-server attest` says of the enclave's document when nobody names a root.
    fn refusal_without_root(&self) -> Result<String> {
        self.parent.attest(EnclaveId::FIRST, &[])?.err().context("AWS's root vouches for the lab's document")
    }

    pub(super) fn changed_image(&self) -> Result<()> {
        title(7, "an enclave with one changed character of configuration is refused")?;
        let reason = self.refused(Rogue::ChangedConfig)?;
        ensure!(reason.contains("PCR2"), "refused, but not by PCR2: {reason}");
        body(&format!(
            "The same program, but one letter of a comment in enclave.toml. Its document is genuine; its console:\n{}\
             wg-server's log:\n{}",
            indented(&[&format!("the gateway refuses this enclave: {reason}")]),
            indented(&[&self.logged(&reason)?]),
        ))
    }

    pub(super) fn impostors(&self) -> Result<()> {
        title(8, "another program is refused, and so is what an enclave once answered")?;
        let other = self.refused(Rogue::OtherImage)?;
        ensure!(other.contains("PCR"), "refused, but not by PCRs: {other}");
        self.lab.enclave(SECOND).start(None)?;
        self.lab.enclave(SECOND).wait_tunnel()?;
        let replay = self.refused(Rogue::Replay)?;
        ensure!(replay.contains("nonce"), "refused, but not for its nonce: {replay}");
        body(&format!(
            "A program that speaks the protocol and tells the truth in a genuine document:\n{}\
             The same program with keys and document that the right enclave gave a moment ago, to another nonce:\n{}",
            indented(&[&other]),
            indented(&[&replay]),
        ))
    }

    /// What the gateway says to it; nothing of it stays.
    fn refused(&self, rogue: Rogue) -> Result<String> {
        let enclave: Enclave<'_> = self.lab.enclave(SECOND);
        let reason = enclave.replace(rogue)?;
        enclave.stop()?;
        Ok(reason)
    }

    fn logged(&self, reason: &str) -> Result<String> {
        let log = self.parent.wg_server_log()?;
        let line = log.lines().rev().find(|line| line.contains(reason));
        line.map(str::to_owned).with_context(|| format!("no `{reason}` in wg-server's log"))
    }
}
