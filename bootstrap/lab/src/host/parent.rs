//! The parent as tests and verbs use it.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use self_test::{Command as Test, Report};

use crate::console::Console;
use crate::guest;
use crate::layout::Layout;
use crate::machine::PARENT;
use crate::plan::Plan;
use crate::ssh::Ssh;

/// The parent's machine, which is up.
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

    /// A command to run as the caller likes, with exactly these arguments.
    pub fn command(&self, arguments: &[impl AsRef<str>], is_terminal: bool) -> Command {
        if is_terminal { self.ssh.interactive(arguments) } else { self.ssh.command(arguments) }
    }

    /// What a command writes to stdout.
    ///
    /// # Errors
    /// Another exit status than 0, with what it wrote to stderr.
    pub fn output(&self, arguments: &[impl AsRef<str>]) -> Result<String> {
        let output = self.ssh.output(arguments)?;
        let line = || arguments.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(" ");
        ensure!(
            output.status.success(),
            "on the parent: {}: {}: {}",
            line(),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
        String::from_utf8(output.stdout).with_context(|| format!("on the parent: {}: its output is no text", line()))
    }

    /// As [`Parent::output`] of a shell's command line.
    ///
    /// # Errors
    /// As [`Parent::output`].
    pub fn shell(&self, line: &str) -> Result<String> {
        self.output(&["sh", "-c", line])
    }

    /// What `wg show wg0` prints.
    ///
    /// # Errors
    /// No wg0.
    pub fn wg_show(&self) -> Result<String> {
        self.output(&["wg", "show", "wg0"])
    }

    /// BIND's query log on the parent.
    ///
    /// # Errors
    /// The parent cannot be reached.
    pub fn query_log(&self) -> Result<String> {
        self.shell("cat /var/log/wg-server/query.log 2>/dev/null || true")
    }

    /// What wg-server logged.
    ///
    /// # Errors
    /// The parent cannot be reached.
    pub fn wg_server_log(&self) -> Result<String> {
        self.shell(&format!("cat {}/wg-server.log 2>/dev/null || true", guest::LOG_DIR))
    }

    /// Sends a signal (`TERM`, `KILL`, ...) to a service: `wg-server`, `internet-dns`. It is started again at once unless held.
    ///
    /// # Errors
    /// The service does not run.
    pub fn signal(&self, service: &str, signal: &str) -> Result<()> {
        let dir = guest::RUN_DIR;
        self.shell(&format!("kill -{signal} $(cat {dir}/{service}.pid)")).map(drop)
    }

    /// Stops a service until [`Parent::release`].
    ///
    /// # Errors
    /// It does not end within ten seconds.
    pub fn hold(&self, service: &str) -> Result<()> {
        let path = format!("{}/{service}", guest::RUN_DIR);
        self.shell(&format!(
            "touch {path}.hold; kill $(cat {path}.pid) 2>/dev/null
             for i in $(seq 100); do [ -e {path}.pid ] || exit 0; sleep 0.1; done
             echo '{service} does not end' >&2; exit 1"
        ))
        .map(drop)
    }

    /// Lets a held service start again.
    ///
    /// # Errors
    /// The parent cannot be reached.
    pub fn release(&self, service: &str) -> Result<()> {
        self.shell(&format!("rm -f {}/{service}.hold", guest::RUN_DIR)).map(drop)
    }

    /// Has the self-test agent on `agent` (an enclave's `ADDRESS:PORT`) do a test.
    ///
    /// # Errors
    /// What the agent says went wrong.
    pub fn self_test(&self, agent: std::net::SocketAddr, test: &Test) -> Result<Report> {
        let line =
            self.output(&["/payload/bin/lab", "self-test", &agent.to_string(), &serde_json::to_string(test)?])?;
        serde_json::from_str(&line).with_context(|| format!("read the report {line:?}"))
    }

    pub(crate) const fn console(&self) -> &Console {
        &self.console
    }
}
