//! Blind mode: the gateway is a host of the lab's internet, and the parent only relays.

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
/// For a service to start.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(200);

/// A lab in blind mode. The caller ends it with [`Blind::end`].
#[derive(Debug)]
pub struct Blind<'lab> {
    lab: &'lab Lab,
    parent: Parent,
    eif_path: PathBuf,
}

impl<'lab> Blind<'lab> {
    /// Builds an image with the gateway's key, and replaces the parent's wg-server by a gateway on another host and
    /// `wg-server relay` on the parent.
    ///
    /// # Errors
    /// No lab is running, or a service does not start.
    pub fn begin(lab: &'lab Lab) -> Result<Self> {
        let parent = lab.parent()?;
        let key = parent.shell(&format!("wg pubkey <{GATEWAY_PRIVATE_KEY_PATH}"))?;
        let eif_path = lab.progress.phase("build an image with the gateway's key", |phase| {
            let dir = lab.layout.blind_dir();
            let from = lab.project.blind_dir().join("enclave");
            let config = lab.project.measured_config(&from, &lab.layout, dir.join("config"), phase)?;
            config.edit(|text| pin(key.trim(), text))?;
            lab.project.image(&[], &config, &dir, phase)
        })?;
        parent.write(GATEWAY_MEASUREMENTS_PATH, &payload::measurements_of(&eif_path)?)?;
        lab.progress.phase("start the gateway, and the relay on the parent", |_| {
            parent.hold(WG_SERVER_SERVICE)?;
            parent.release(GATEWAY_SERVICE)?;
            parent.release(RELAY_SERVICE)?;
            parent.wait_log(GATEWAY_SERVICE, "serving", PATIENCE)?;
            parent.wait_log(RELAY_SERVICE, "carrying for a gateway elsewhere", PATIENCE)
        })?;
        Ok(Self { lab, parent, eif_path })
    }

    /// Starts the parent's own wg-server again, and waits until the running enclaves are its peers. Stop enclaves of
    /// blind mode first: they accept only the other gateway.
    ///
    /// # Errors
    /// No lab is running, a service does not stop, or an enclave does not become a peer.
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

    /// The image with the gateway's key, with its measurements in the same folder.
    pub fn eif_path(&self) -> &Path {
        &self.eif_path
    }

    /// Replaces the enclave `id` with one of that image, and waits for its tunnel.
    ///
    /// # Errors
    /// The enclave does not boot, or its tunnel does not come up.
    pub fn boot(&self, id: EnclaveId) -> Result<Enclave<'lab>> {
        let enclave = self.lab.enclave(id);
        enclave.stop()?;
        enclave.start(Some(&self.eif_path))?;
        self.lab.progress.phase("wait for the tunnel", |_| enclave.wait_tunnel())?;
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

    /// `wg-server status` on the gateway.
    ///
    /// # Errors
    /// wg-server is not running there.
    pub fn status(&self) -> Result<String> {
        self.output(&[WG_SERVER, "status", "--runtime-dir", GATEWAY_RUNTIME_DIR])
    }

    /// Runs a test on an enclave's self-test agent, from the gateway through the tunnel.
    ///
    /// # Errors
    /// The agent's error.
    pub fn self_test(&self, id: EnclaveId, test: &Test) -> Result<Report> {
        let status = self.output(&STATUS)?;
        let addresses = evidence::leased_addresses(&status, id.cid())?;
        let address = addresses.first().with_context(|| format!("the gateway knows no enclave {id}:\n{status}"))?;
        let agent = SocketAddr::new(*address, SELF_TEST_PORT).to_string();
        let line = self.output(&[LAB, "self-test", &agent, &serde_json::to_string(test)?])?;
        serde_json::from_str(&line).with_context(|| format!("read the report {line:?}"))
    }

    /// Captures packets on the parent and on the gateway's wg0 while `meanwhile` runs, and counts `text` in both.
    ///
    /// # Errors
    /// tcpdump does not start, or the error of `meanwhile`.
    pub fn capture(&self, text: &str, meanwhile: impl FnOnce() -> Result<()>) -> Result<Captures> {
        // All interfaces of the parent, without the ssh connection that carries the lab's commands.
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

/// Waits until wg-server has verified the enclave's document.
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
            bail!("enclave {id} is not a peer of the parent's wg-server:\n{}", status?);
        }
        sleep(POLL);
    }
}

/// Replaces the key in the configuration of blind mode.
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
