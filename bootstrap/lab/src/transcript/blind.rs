//! Blind mode: a tunnel that does not terminate on the parent.

use anyhow::{Context, Result, ensure};
use parent_vm::{EnclaveId, SELF_TEST_SERVERS};
use self_test::Command as Test;

use super::page::indented;
use super::{DATAGRAM, SEED, Transcript, body, title, transfer, transferred};
use crate::evidence;
use crate::host::Blind;

const ENCLAVE: EnclaveId = EnclaveId::SECOND;
const TRANSFER: u64 = 1 << 20;
/// `aws.com` in a DNS query in plain text (RFC 1035, section 3.1).
const QUESTION: &str = "\u{3}aws\u{3}com";

impl Transcript<'_> {
    pub(super) fn blind_mode(&self) -> Result<()> {
        title(10, "blind mode: the gateway is another host, and the parent relays only ciphertext")?;
        let shown = Blind::begin(self.lab).and_then(|blind| self.show(&blind));
        self.lab.enclave(ENCLAVE).stop()?;
        Blind::end(self.lab)?;
        shown
    }

    fn show(&self, blind: &Blind<'_>) -> Result<()> {
        blind.boot(ENCLAVE)?;
        let [server, ..] = SELF_TEST_SERVERS;
        let mut carried = None;
        let captures = blind.capture(QUESTION, || {
            blind.self_test(ENCLAVE, &Test::Resolve { name: "aws.com.".to_owned() })?;
            let test = Test::Udp { server, bytes: TRANSFER, datagram: DATAGRAM, seed: SEED };
            carried = Some(transferred(blind.self_test(ENCLAVE, &test)?)?);
            Ok(())
        })?;
        let carried = carried.context("no transfer")?;
        ensure!(
            captures.seen_by_gateway > 0,
            "the capture of the gateway's wg0 has no query for aws.com, so it proves nothing"
        );
        ensure!(captures.seen_by_parent == 0, "the parent saw {} queries for aws.com", captures.seen_by_parent);
        let unexpected = captures.unexpected();
        ensure!(unexpected.is_empty(), "the parent saw more than ciphertext: {unexpected:?}");
        let interfaces = self.parent.output(&["ip", "-o", "link", "show", "type", "wireguard"])?;
        ensure!(interfaces.is_empty(), "the parent has a WireGuard interface: {interfaces}");

        let status = blind.status()?;
        let proved =
            evidence::attested(&status, ENCLAVE.cid()).with_context(|| format!("no attested enclave in:\n{status}"))?;
        let wg = blind.output(&["wg", "show", "wg0"])?;
        let conversations: Vec<_> =
            captures.conversations().into_iter().map(|(what, count)| format!("{count:6} packets  {what}")).collect();
        body(&format!(
            "The enclave's image has the public key of the gateway, 192.0.2.10. wg-server there verified the document:\n{}\
             The gateway's side of the tunnel (wg show wg0):\n{}\
             {}\
             Meanwhile, tcpdump on all interfaces of the parent captured:\n{}\
             The enclave's query for aws.com is {} times in the capture of the gateway's wg0, and never in the parent's.\n",
            indented(&proved),
            indented(&wg.lines().collect::<Vec<_>>()),
            transfer("UDP", server, &carried),
            indented(&conversations.iter().map(String::as_str).collect::<Vec<_>>()),
            captures.seen_by_gateway,
        ))
    }
}
