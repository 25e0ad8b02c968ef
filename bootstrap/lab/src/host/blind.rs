//! Blind mode: the gateway is a host of the lab's internet, and the parent only carries.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use parent_vm::paths::{GATEWAY_MEASUREMENTS_PATH, GATEWAY_PRIVATE_KEY_PATH, GATEWAY_RUNTIME_DIR, LAB, WG_SERVER};
use parent_vm::{ENCLAVE_CIDS, EnclaveId, GATEWAY_SERVICE, RELAY_SERVICE, WG_SERVER_SERVICE};
use self_test::{Command as Test, Report};

use super::capture::Captures;
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

/// Until wg-server has verified its document, and seen its handshake.
fn wait_peer(parent: &Parent, id: EnclaveId) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        // wg-server may just be starting.
        let status = parent.output(&[WG_SERVER, "status", "--json"]);
        if let Ok(status) = &status
            && evidence::document(status, id.cid()).with_context(|| format!("read {status}"))?.is_some()
        {
            return Ok(());
        }
        if Instant::now() > end {
            bail!("enclave {id} does not find the parent's wg-server:\n{}", status?);
        }
        sleep(POLL);
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
    fn the_configuration_of_blind_mode_gets_the_gateway_s_key() {
        let path = Project::find(None).unwrap().blind_dir().join("enclave/enclave.toml");
        let text = pin("a key", &std::fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!(text.matches("gateway_key").count(), 1);
        assert!(text.contains("\ngateway_key = \"a key\"\n"), "{text}");
    }
}
