//! The tunnel that the parent cannot look into.

use anyhow::{Context, Result, ensure};
use parent_vm::{EnclaveId, SELF_TEST_SERVERS};
use self_test::Command as Test;

use super::page::indented;
use super::{DATAGRAM, SEED, Transcript, body, title, transfer, transferred};
use crate::evidence;
use crate::host::Blind;

const ENCLAVE: EnclaveId = EnclaveId::SECOND;
const TRANSFER: u64 = 1 << 20;
/// `aws.com` in a question to a name server (RFC 1035, section 3.1), as long as nobody encrypts it.
const QUESTION: &str = "\u{3}aws\u{3}com";

impl Transcript<'_> {
    pub(super) fn blind_mode(&self) -> Result<()> {
        title(9, "blind mode: the gateway is a host in the internet, and the parent carries what it cannot read")?;
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
            "the gateway's wg0 has no question for aws.com: the capture proves nothing"
        );
        ensure!(captures.seen_by_parent == 0, "the parent saw {} questions for aws.com", captures.seen_by_parent);
        let unexpected = captures.unexpected();
        ensure!(unexpected.is_empty(), "the parent saw more than ciphertext: {unexpected:?}");
        let interfaces = self.parent.output(&["ip", "-o", "link", "show", "type", "wireguard"])?;
        ensure!(interfaces.is_empty(), "the parent has WireGuard of its own: {interfaces}");

        let status = blind.status()?;
        let proved =
            evidence::attested(&status, ENCLAVE.cid()).with_context(|| format!("no attested enclave in:\n{status}"))?;
        let wg = blind.output(&["wg", "show", "wg0"])?;
        let conversations: Vec<_> =
            captures.conversations().into_iter().map(|(what, count)| format!("{count:6} packets  {what}")).collect();
        body(&format!(
            "The gateway, 192.0.2.10, has its key in the enclave's image, and wg-server there verified what the enclave proved:\n{}\
             Its wg0 (wg show wg0):\n{}\
             {}\
             Meanwhile tcpdump on all of the parent's interfaces saw:\n{}\
             The enclave's question for aws.com is {} times in a capture of the gateway's wg0, and not once in the parent's.\n",
            indented(&proved),
            indented(&wg.lines().collect::<Vec<_>>()),
            transfer("UDP", server, &carried),
            indented(&conversations.iter().map(String::as_str).collect::<Vec<_>>()),
            captures.seen_by_gateway,
        ))
    }
}
