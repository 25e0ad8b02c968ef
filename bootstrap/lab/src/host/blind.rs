//! Blind mode: the gateway is a host of the lab's internet, and the parent only carries.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use parent_vm::paths::{GATEWAY_MEASUREMENTS_PATH, GATEWAY_PRIVATE_KEY_PATH, GATEWAY_RUNTIME_DIR, LAB, WG_SERVER};
use parent_vm::{ENCLAVE_CIDS, EnclaveId, GATEWAY_SERVICE, RELAY_SERVICE, WG_SERVER_SERVICE};
use self_test::{Command as Test, Report};

use super::enclave::SELF_TEST_PORT;
use super::{Enclave, Lab, Parent};
use crate::evidence;
use crate::payload;

const STATUS: [&str; 5] = [WG_SERVER, "status", "--json", "--runtime-dir", GATEWAY_RUNTIME_DIR];
/// How long a service may take until it serves.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(200);

/// A lab in blind mode, until [`Blind::end`], which is for whoever holds the lab to call.
#[derive(Debug)]
pub struct Blind<'lab> {
    lab: &'lab Lab,
    parent: Parent,
    eif_path: PathBuf,
}

/// What passed two places at the same time.
#[derive(Clone, Debug)]
pub struct Captures {
    /// Packets on all of the parent's interfaces, as tcpdump prints them; without the lab's own commands.
    pub parent: String,
    /// How often the traffic had the text that it was asked to have, on the parent.
    pub seen_by_parent: usize,
    /// The same on the gateway's wg0.
    pub seen_by_gateway: usize,
}

impl<'lab> Blind<'lab> {
    /// Puts `wg-server relay` in the place of the parent's wg-server, starts the gateway, and builds an image that pins its key.
    ///
    /// # Errors
    /// No lab is up, or a program that does not start.
    pub fn begin(lab: &'lab Lab) -> Result<Self> {
        let parent = lab.parent()?;
        let key = parent.shell(&format!("wg pubkey <{GATEWAY_PRIVATE_KEY_PATH}"))?;
        let eif_path = lab.progress.phase("the image that pins the gateway's key", |phase| {
            let dir = lab.layout.blind_dir();
            let from = lab.project.blind_dir().join("enclave");
            let config = lab.project.measured_config(&from, &lab.layout, dir.join("config"), phase)?;
            config.edit(|text| pin(key.trim(), text))?;
            lab.project.image(&[], &config, &dir, phase)
        })?;
        parent.write(GATEWAY_MEASUREMENTS_PATH, &payload::measurements_of(&eif_path)?)?;
        lab.progress.phase("the gateway, and the parent's relay", |_| {
            parent.hold(WG_SERVER_SERVICE)?;
            parent.release(GATEWAY_SERVICE)?;
            parent.release(RELAY_SERVICE)?;
            parent.wait_log(GATEWAY_SERVICE, "serving", PATIENCE)?;
            parent.wait_log(RELAY_SERVICE, "carrying for a gateway elsewhere", PATIENCE)
        })?;
        Ok(Self { lab, parent, eif_path })
    }

    /// Puts the parent's own wg-server back, and waits until the enclaves that run have found it. Those of blind mode never will: stop
    /// them before.
    ///
    /// # Errors
    /// No lab is up, a program that does not stop, or an enclave that does not come back.
    pub fn end(lab: &Lab) -> Result<()> {
        let parent = lab.parent()?;
        parent.hold(RELAY_SERVICE)?;
        parent.hold(GATEWAY_SERVICE)?;
        parent.release(WG_SERVER_SERVICE)?;
        for id in EnclaveId::first(ENCLAVE_CIDS.count()) {
            if lab.enclave(id).is_running()? {
                wait_peer(&parent, id)?;
            }
        }
        Ok(())
    }

    /// The image that pins the gateway's key; its measurements are beside it.
    pub fn eif_path(&self) -> &Path {
        &self.eif_path
    }

    /// Boots an enclave of that image in the place of `id`, and waits for its tunnel.
    ///
    /// # Errors
    /// It does not come up.
    pub fn boot(&self, id: EnclaveId) -> Result<Enclave<'lab>> {
        let enclave = self.lab.enclave(id);
        enclave.stop()?;
        enclave.start(Some(&self.eif_path))?;
        self.lab.progress.phase("its tunnel", |_| enclave.wait_tunnel())?;
        Ok(enclave)
    }

    /// Runs a command on the gateway.
    ///
    /// # Errors
    /// As [`Parent::output`].
    pub fn output(&self, arguments: &[impl AsRef<str>]) -> Result<String> {
        let words = arguments.iter().map(AsRef::as_ref);
        self.parent.output(&["ip", "netns", "exec", "gateway"].into_iter().chain(words).collect::<Vec<_>>())
    }

    /// What wg-server on the gateway shows.
    ///
    /// # Errors
    /// It does not run.
    pub fn status(&self) -> Result<String> {
        self.output(&[WG_SERVER, "status", "--runtime-dir", GATEWAY_RUNTIME_DIR])
    }

    /// Has an enclave's self-test agent do a test; asked through the tunnel, from the gateway.
    ///
    /// # Errors
    /// What the agent says went wrong.
    pub fn self_test(&self, id: EnclaveId, test: &Test) -> Result<Report> {
        let status = self.output(&STATUS)?;
        let addresses = evidence::leased_addresses(&status, id.cid())?;
        let address = addresses.first().with_context(|| format!("the gateway has no enclave {id}:\n{status}"))?;
        let agent = SocketAddr::new(*address, SELF_TEST_PORT).to_string();
        let line = self.output(&[LAB, "self-test", &agent, &serde_json::to_string(test)?])?;
        serde_json::from_str(&line).with_context(|| format!("read the report {line:?}"))
    }

    /// Captures on the parent and on the gateway's wg0 while something runs, and looks for `text` in the packets of both.
    ///
    /// # Errors
    /// tcpdump does not start, or those of `meanwhile`.
    pub fn capture(&self, text: &str, meanwhile: impl FnOnce() -> Result<()>) -> Result<Captures> {
        // In the parent's own namespace: all of its interfaces but the one that the lab's commands come in by.
        self.parent.shell(
            "cd /run/lab && rm -f parent.pcap gateway.pcap
             tcpdump -q -U -i any -w parent.pcap 'not tcp port 22' </dev/null >/dev/null 2>parent.tcpdump & echo $! >parent.tcpdump.pid
             ip netns exec gateway tcpdump -q -U -i wg0 -w gateway.pcap </dev/null >/dev/null 2>gateway.tcpdump & echo $! >gateway.tcpdump.pid
             for i in $(seq 100); do
               grep -q listening parent.tcpdump && grep -q listening gateway.tcpdump && exit 0
               sleep 0.1
             done
             cat parent.tcpdump gateway.tcpdump >&2; exit 1",
        )?;
        let done = meanwhile();
        self.parent.shell(
            "cd /run/lab && kill $(cat parent.tcpdump.pid gateway.tcpdump.pid) && sleep 0.5
             rm parent.tcpdump.pid gateway.tcpdump.pid",
        )?;
        done?;
        let count = |place: &str| -> Result<usize> {
            let line = "grep -a -o -F -e \"$1\" /run/lab/$2.pcap | wc -l";
            let count = self.parent.output(&["sh", "-c", line, "sh", text, place])?;
            count.trim().parse().with_context(|| format!("count {count:?}"))
        };
        Ok(Captures {
            parent: self.parent.shell("tcpdump -q -n -t -r /run/lab/parent.pcap 2>/dev/null")?,
            seen_by_parent: count("parent")?,
            seen_by_gateway: count("gateway")?,
        })
    }
}

impl Captures {
    /// Which conversations there were on the parent: `UDP 198.51.100.2 > 192.0.2.10.51820`, each with its number of packets.
    pub fn conversations(&self) -> Vec<(String, usize)> {
        let mut found = std::collections::BTreeMap::new();
        for line in self.parent.lines() {
            *found.entry(conversation(line)).or_insert(0) += 1;
        }
        found.into_iter().collect()
    }

    /// Those that are neither WireGuard's datagrams nor a control stream between parent and gateway.
    pub fn unexpected(&self) -> Vec<String> {
        let is_expected = |what: &str| {
            let is_between = what.contains("198.51.100.2") && what.contains("192.0.2.10");
            let is_ours = what.starts_with("UDP ") && what.contains("192.0.2.10 port 51820")
                || what.starts_with("TCP ") && what.contains("192.0.2.10 port 821");
            let is_neighbours = what.contains(" ARP, ") || what.starts_with("ICMP6 ");
            is_between && is_ours || is_neighbours
        };
        self.conversations().into_iter().map(|(what, _)| what).filter(|what| !is_expected(what)).collect()
    }
}

/// `uplink0 Out IP 198.51.100.2.40000 > 192.0.2.10.51820: UDP, length 148`, without the ports that the kernel chose.
fn conversation(line: &str) -> String {
    let Some((ends, what)) = line.split_once(": ") else { return line.to_owned() };
    let Some((from, to)) = ends.split_once(" > ") else { return line.to_owned() };
    let from = from.rsplit(' ').next().unwrap_or(from);
    let protocol: String = what.chars().take_while(char::is_ascii_alphanumeric).collect();
    format!("{} {} > {}", protocol.to_uppercase(), well_known(from), well_known(to))
}

/// Until wg-server has verified its document, and seen its handshake.
fn wait_peer(parent: &Parent, id: EnclaveId) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        let status = parent.output(&[WG_SERVER, "status", "--json"]).unwrap_or_default();
        if evidence::document(&status, id.cid()).is_some() {
            return Ok(());
        }
        ensure!(Instant::now() < end, "enclave {id} does not find the parent's wg-server: {status}");
        sleep(POLL);
    }
}

/// `ADDRESS.PORT` as tcpdump has it: the port is named if somebody listens on it.
fn well_known(end: &str) -> String {
    let port_dots = if end.contains(':') { 1 } else { 4 };
    match end.rsplit_once('.').filter(|_| end.matches('.').count() == port_dots) {
        Some((address, port)) if port == "51820" || port.len() < 5 => format!("{address} port {port}"),
        Some((address, _)) => address.to_owned(),
        None => end.to_owned(),
    }
}

/// The configuration of blind mode with the gateway's real key.
fn pin(key: &str, text: &str) -> Result<String> {
    let line = text.lines().find(|line| line.starts_with("gateway_key = ")).context("no gateway_key to replace")?;
    ensure!(!key.is_empty(), "the gateway has no key");
    Ok(text.replacen(line, &format!("gateway_key = \"{key}\""), 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::Project;

    #[test]
    fn packets_of_one_conversation_are_one_line() {
        let parent = "\
uplink0 Out IP 198.51.100.2.40123 > 192.0.2.10.51820: UDP, length 148
uplink0 Out IP 198.51.100.2.40123 > 192.0.2.10.51820: UDP, length 96
uplink0 In  IP 192.0.2.10.51820 > 198.51.100.2.40123: UDP, length 92
uplink0 Out IP 198.51.100.2.38000 > 192.0.2.10.821: tcp 8
uplink0 Out ARP, Request who-has 198.51.100.1 tell 198.51.100.2, length 28
uplink0 In  IP 192.0.2.1 > 198.51.100.2: ICMP host unreachable
";
        let captures = Captures { parent: parent.to_owned(), seen_by_parent: 0, seen_by_gateway: 1 };
        let found = captures.conversations();
        assert_eq!(captures.unexpected().len(), 1, "the ICMP: {found:?}");
        for expected in [
            ("UDP 198.51.100.2 > 192.0.2.10 port 51820", 2),
            ("UDP 192.0.2.10 port 51820 > 198.51.100.2", 1),
            ("TCP 198.51.100.2 > 192.0.2.10 port 821", 1),
            ("ICMP 192.0.2.1 > 198.51.100.2", 1),
        ] {
            assert!(found.contains(&(expected.0.to_owned(), expected.1)), "{expected:?} in {found:?}");
        }
    }

    #[test]
    fn the_configuration_of_blind_mode_gets_the_gateway_s_key() {
        let path = Project::find(None).unwrap().blind_dir().join("enclave/enclave.toml");
        let text = pin("a key", &std::fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!(text.matches("gateway_key").count(), 1);
        assert!(text.contains("\ngateway_key = \"a key\"\n"), "{text}");
    }
}
