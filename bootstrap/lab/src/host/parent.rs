//! Commands on the parent, and its services.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parent_vm::EnclaveId;
use parent_vm::paths::{
    KEY_POLICY_PATH, KMS, KMS_CONFIG_PATH, KMS_FAULT_PATH, LAB, MEASUREMENTS_PATH, PARENT_CONFIG_PATH, QUERY_LOG_PATH,
    WG_SERVER,
};
use self_test::{Command as Test, Report};
use sha2::{Digest, Sha256};

use crate::console::Console;
use crate::evidence;
use crate::layout::Layout;
use crate::payload;
use crate::plan::Plan;
use crate::process::PARENT;
use crate::ssh::{Forward, Ssh};

/// The running parent.
#[derive(Clone, Debug)]
pub struct Parent {
    ssh: Ssh,
    console: Console,
}

impl Parent {
    pub(super) fn new(layout: &Layout, ssh: Ssh) -> Self {
        Self { ssh, console: Console::new(layout.console_path(PARENT)) }
    }

    pub(super) fn of(layout: &Layout) -> Result<Self> {
        let plan = Plan::load(layout)?;
        Ok(Self::new(layout, Ssh::new(layout, plan.ssh_port)))
    }

    /// A command with exactly these arguments, for the caller to run.
    pub fn command(&self, arguments: &[impl AsRef<str>], is_terminal: bool) -> Command {
        if is_terminal { self.ssh.interactive(arguments) } else { self.ssh.command(arguments) }
    }

    /// Forwards a port or a socket, as ssh's option says, until the value is dropped. Removes a socket of that path.
    pub(super) fn forward(&self, option: [&str; 2]) -> Result<Forward> {
        let [_, what] = option;
        if let Some((path, _)) = what.split_once(':').filter(|(path, _)| path.starts_with('/')) {
            self.output(&["rm", "-f", path])?;
        }
        self.ssh.forward(option)
    }

    /// Runs a command; its stdout.
    ///
    /// # Errors
    /// An exit status other than 0, with the command's stderr.
    pub fn output(&self, arguments: &[impl AsRef<str>]) -> Result<String> {
        let line = arguments.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(" ");
        self.output_of(&line, arguments)
    }

    /// As [`Parent::output`], with `name` in errors.
    pub(super) fn output_of(&self, name: &str, arguments: &[impl AsRef<str>]) -> Result<String> {
        let output = self.ssh.output(arguments)?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "on the parent: {name}: {}: {}", output.status, stderr.trim());
        String::from_utf8(output.stdout).with_context(|| format!("on the parent: {name}: its output is not UTF-8"))
    }

    /// As [`Parent::output`], for a shell command.
    ///
    /// # Errors
    /// As [`Parent::output`].
    pub fn shell(&self, line: &str) -> Result<String> {
        self.output(&["sh", "-c", line])
    }

    /// The output of `wg show wg0`.
    ///
    /// # Errors
    /// There is no wg0.
    pub fn wg_show(&self) -> Result<String> {
        self.output(&["wg", "show", "wg0"])
    }

    /// BIND's query log on the parent.
    ///
    /// # Errors
    /// The parent cannot be reached.
    pub fn query_log(&self) -> Result<String> {
        self.shell(&format!("cat {QUERY_LOG_PATH} 2>/dev/null || true"))
    }

    /// wg-server's log.
    ///
    /// # Errors
    /// The parent cannot be reached.
    pub fn wg_server_log(&self) -> Result<String> {
        self.service_log(parent_vm::WG_SERVER_SERVICE)
    }

    /// Sends a signal (`TERM`, `KILL`) to a service such as `wg-server`. systemd restarts a service that ends.
    ///
    /// # Errors
    /// The service is not running.
    pub fn signal(&self, service: &str, signal: &str) -> Result<()> {
        self.output(&["systemctl", "kill", "--kill-whom=main", "--signal", signal, service]).map(drop)
    }

    /// Stops a service, and keeps it stopped until [`Parent::release`], also for units that want it.
    ///
    /// # Errors
    /// The service does not stop.
    pub fn hold(&self, service: &str) -> Result<()> {
        let line = "touch \"$2\" && systemctl stop \"$1\"";
        self.output(&["sh", "-c", line, "sh", service, &parent_vm::held_path(service)]).map(drop)
    }

    /// As [`Parent::hold`], but kills the service first. wg-server then leaves wg0 and its sessions.
    ///
    /// # Errors
    /// As [`Parent::hold`].
    pub(crate) fn hold_killed(&self, service: &str) -> Result<()> {
        self.signal(service, "KILL")?;
        self.hold(service)
    }

    /// Starts a stopped service.
    ///
    /// # Errors
    /// The service does not start.
    pub fn release(&self, service: &str) -> Result<()> {
        let line = "rm -f \"$2\" && systemctl start \"$1\"";
        self.output(&["sh", "-c", line, "sh", service, &parent_vm::held_path(service)]).map(drop)
    }

    /// As [`Parent::trust_any`], for one image.
    ///
    /// # Errors
    /// As [`Parent::trust_any`].
    pub fn trust(&self, eif: &Path) -> Result<()> {
        self.trust_any(&[eif])
    }

    /// Makes wg-server accept only enclaves that run one of these images. Restarts wg-server, unless it is held.
    ///
    /// # Errors
    /// An image without measurements in its folder, or wg-server is not up within 30 s.
    pub fn trust_any(&self, eifs: &[&Path]) -> Result<()> {
        let paths = numbered(MEASUREMENTS_PATH, eifs.len());
        for (path, eif) in paths.iter().zip(eifs) {
            self.write(path, &payload::measurements_of(eif)?)?;
        }
        let list = format!("s|^measurements_paths = .*|measurements_paths = {paths:?}|");
        self.output(&["sed", "-i", &list, PARENT_CONFIG_PATH])?;
        let restart = "systemctl is-active --quiet \"$1\" || exit 0
             systemctl restart \"$1\" || exit
             for i in $(seq 300); do ! \"$2\" status >/dev/null 2>&1 || exit 0; sleep 0.1; done
             echo 'not up within 30 s' >&2; exit 1";
        self.output(&["sh", "-c", restart, "sh", parent_vm::WG_SERVER_SERVICE, WG_SERVER])
            .context("restart wg-server")
            .map(drop)
    }

    /// Replaces the key policy of KMS in the lab's internet. Restarts KMS, with the same key.
    ///
    /// # Errors
    /// A policy that the stand-in refuses; the old one stays. And as [`Parent::wait_aws`].
    pub fn set_key_policy(&self, json: &str) -> Result<()> {
        let replace = "cp \"$2\" \"$2.old\" && printf %s \"$1\" >\"$2\" || exit
            \"$3\" check --config \"$4\" >/dev/null || { mv \"$2.old\" \"$2\"; exit 1; }";
        self.output(&["sh", "-c", replace, "sh", json, KEY_POLICY_PATH, KMS, KMS_CONFIG_PATH])
            .context("replace the key policy")?;
        self.hold(parent_vm::KMS_SERVICE)?;
        self.release(parent_vm::KMS_SERVICE)?;
        self.wait_aws()
    }

    /// Waits until all AWS services of the lab's internet accept connections.
    ///
    /// # Errors
    /// One of them does not within a minute.
    pub fn wait_aws(&self) -> Result<()> {
        for server in &parent_vm::AWS_SERVERS {
            let serves = "for i in $(seq 120); do
                  [ -z \"$(ip netns exec internet ss -Hltn \"src $1 and sport = :443\")\" ] || exit 0
                  sleep 0.5
                done; journalctl --no-pager -n 5 -u 'internet-*' >&2; exit 1";
            let names = server.names.join(", ");
            self.output(&["sh", "-c", serves, "sh", server.address]).with_context(|| format!("wait for {names}"))?;
        }
        Ok(())
    }

    /// Injects a fault into the lab's KMS, in the syntax of its fault file. `None` ends it.
    ///
    /// # Errors
    /// The parent cannot be reached.
    pub fn set_kms_fault(&self, fault: Option<&str>) -> Result<()> {
        match fault {
            Some(fault) => self.output(&["sh", "-c", "printf '%s\\n' \"$1\" >\"$2\"", "sh", fault, KMS_FAULT_PATH]),
            None => self.output(&["rm", "-f", KMS_FAULT_PATH]),
        }
        .map(drop)
    }

    /// Copies a text file from the host to the parent.
    pub(super) fn write(&self, path: &str, from: &Path) -> Result<()> {
        let text = fs::read_to_string(from).with_context(|| format!("read {}", from.display()))?;
        self.output(&["sh", "-c", "printf %s \"$1\" >\"$2\"", "sh", &text, path]).map(drop)
    }

    /// Copies a file from the host to the parent, unless it is there.
    pub(super) fn install(&self, path: &str, from: &Path) -> Result<()> {
        let bytes = fs::read(from).with_context(|| format!("read {}", from.display()))?;
        let sum = format!("{:x}", Sha256::digest(&bytes));
        let is_there = self.output(&["sh", "-c", "! [ -e \"$1\" ] || sha256sum \"$1\"", "sh", path])?;
        if is_there.split(' ').next() == Some(sum.as_str()) {
            return Ok(());
        }
        let line = "mkdir -p \"${1%/*}\" && cat >\"$1\"";
        let mut ssh = self.ssh.command(&["sh", "-c", line, "sh", path]);
        let ssh = ssh.stdin(File::open(from).with_context(|| format!("read {}", from.display()))?);
        let output = ssh.output().context("run ssh")?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "on the parent: write {path}: {}: {}", output.status, stderr.trim());
        Ok(())
    }

    /// False if the service has ended or failed, and no job will start it.
    pub(super) fn is_starting(&self, service: &str) -> Result<bool> {
        let state = self.output(&["systemctl", "show", "--property=ActiveState,Job", "--value", service])?;
        let mut lines = state.lines();
        let state = lines.next().with_context(|| format!("systemctl shows no state of {service}"))?;
        // Without a job systemd prints 0, or nothing.
        let has_job = lines.next().is_some_and(|job| !matches!(job.trim(), "" | "0"));
        Ok(has_job || !matches!(state, "inactive" | "failed"))
    }

    /// The end of a service's log.
    pub(super) fn last_words(&self, service: &str) -> Result<String> {
        self.output(&["journalctl", "--no-pager", "--quiet", "--output=cat", "--lines=20", "--unit", service])
    }

    /// The log of a service, such as `wg-gateway`.
    ///
    /// # Errors
    /// The parent cannot be reached.
    pub fn service_log(&self, service: &str) -> Result<String> {
        self.output(&["journalctl", "--no-pager", "--output=cat", "--unit", service])
    }

    /// Waits until a service has logged `text` since its last start.
    pub(super) fn wait_log(&self, service: &str, text: &str, patience: Duration) -> Result<()> {
        let line = "life=$(systemctl show -P InvocationID \"$2\")
                    said() { journalctl --no-pager --output=cat \"_SYSTEMD_INVOCATION_ID=$life\" \"$@\"; }
                    for i in $(seq \"$3\"); do said | grep -q -F -e \"$1\" && exit 0; sleep 1; done
                    said -n 5 >&2; exit 1";
        let seconds = patience.as_secs().to_string();
        self.output(&["sh", "-c", line, "sh", text, service, &seconds])
            .with_context(|| format!("wait until {service} says {text:?}"))
            .map(drop)
    }

    /// `wg-server attest` on the document of an enclave's present keys: its output, or as an error its refusal.
    ///
    /// # Errors
    /// The enclave is not a peer, or the parent cannot be reached.
    pub fn attest(&self, enclave: EnclaveId, arguments: &[&str]) -> Result<Result<String, String>> {
        let status = self.output(&[WG_SERVER, "status", "--json"])?;
        let document = evidence::document(&status, enclave.cid())
            .with_context(|| format!("read {status}"))?
            .with_context(|| format!("wg-server has no document of enclave {enclave}:\n{status}"))?;
        let attest = "base64 -d >/run/lab/document <<END\n$1\nEND\nshift; exec /usr/local/bin/wg-server attest \"$@\" /run/lab/document";
        let output = self.ssh.output(&[&["sh", "-c", attest, "sh", &document], arguments].concat())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) })
    }

    /// Runs a test on the self-test agent at `agent`.
    ///
    /// # Errors
    /// The agent's error.
    pub fn self_test(&self, agent: std::net::SocketAddr, test: &Test) -> Result<Report> {
        let line = self.output(&[LAB, "self-test", &agent.to_string(), &serde_json::to_string(test)?])?;
        serde_json::from_str(&line).with_context(|| format!("read the report {line:?}"))
    }

    pub(crate) const fn console(&self) -> &Console {
        &self.console
    }
}

/// The names of several files, of which the first is `path` itself.
pub(super) fn numbered(path: &str, count: usize) -> Vec<String> {
    let name = |number| if number == 0 { path.to_owned() } else { path.replace(".json", &format!("-{number}.json")) };
    (0..count).map(name).collect()
}
