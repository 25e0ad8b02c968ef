//! Prometheus on the host, which watches the parent and an enclave's signer by the files that ship.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use parent_vm::EnclaveId;
use tempfile::TempDir;

use super::Lab;
use super::daemon::Daemon;
use crate::process::last_lines;
use crate::ssh::{Forward, free_port};

/// As `config/monitoring/prometheus.yml` has it.
const WG_SERVER: &str = "127.0.0.1:9586";
const SIGNER: &str = "203.0.113.2:443";

/// A running Prometheus.
#[derive(Debug)]
pub struct Prometheus {
    _daemon: Daemon,
    _forwards: [Forward; 2],
    _dir: TempDir,
    promtool: PathBuf,
    url: String,
    monitoring_dir: PathBuf,
}

impl Prometheus {
    /// Starts it with the rules and the configuration of `config/monitoring/`, but for the targets' addresses, the client certificate,
    /// which a signer with `open = true` does not need, and the interval, which is a second.
    ///
    /// # Errors
    /// No lab is running, Prometheus cannot be fetched, or it does not start.
    pub fn start(lab: &Lab, id: EnclaveId) -> Result<Self> {
        let monitoring_dir = lab.project.monitoring_dir();
        let programs = last_line(&mut Command::new(monitoring_dir.join("environment.sh")))?;
        let programs = Path::new(&programs).join("bin");
        let addresses = lab.enclave(id).addresses()?;
        let address = addresses.into_iter().find(IpAddr::is_ipv4).context("no IPv4 address")?;
        let [port, wg_server, signer] = [free_port()?, free_port()?, free_port()?];
        let parent = lab.parent()?;
        let forwards = [
            parent.forward(["-L", &format!("127.0.0.1:{wg_server}:{WG_SERVER}")])?,
            parent.forward(["-L", &format!("127.0.0.1:{signer}:{address}:443")])?,
        ];
        let dir = tempfile::tempdir().context("make a folder")?;
        let config = lab.project.monitoring_config_dir();
        let text = fs::read_to_string(config.join("prometheus.yml")).context("read prometheus.yml")?;
        let mut text = text.lines().filter(|line| !line.contains("_file:")).collect::<Vec<_>>().join("\n");
        for (from, to) in [
            (WG_SERVER, format!("127.0.0.1:{wg_server}")),
            (SIGNER, format!("127.0.0.1:{signer}")),
            ("scrape_interval: 15s", "scrape_interval: 1s".to_owned()),
            ("evaluation_interval: 15s", "evaluation_interval: 1s".to_owned()),
        ] {
            ensure!(text.contains(from), "prometheus.yml: expected `{from}`");
            text = text.replace(from, &to);
        }
        fs::write(dir.path().join("prometheus.yml"), text).context("write prometheus.yml")?;
        fs::copy(config.join("alerts.yml"), dir.path().join("alerts.yml")).context("copy alerts.yml")?;
        let mut command = Command::new(programs.join("prometheus"));
        command
            .arg(format!("--config.file={}", dir.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let mut daemon = Daemon::start(command, lab.layout.log_path("prometheus"))?;
        daemon.wait_port(port)?;
        let (promtool, url) = (programs.join("promtool"), format!("http://127.0.0.1:{port}"));
        Ok(Self { _daemon: daemon, _forwards: forwards, _dir: dir, promtool, url, monitoring_dir })
    }

    /// The series that an expression has now, as lines.
    ///
    /// # Errors
    /// Prometheus does not answer, or does not accept the expression.
    pub fn query(&self, expression: &str) -> Result<Vec<String>> {
        let mut command = Command::new(&self.promtool);
        let said = run(command.args(["query", "instant", &self.url, expression]), "")?;
        Ok(said.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect())
    }

    /// The names of the alerts whose expressions are true, with `pending` or `firing`.
    ///
    /// # Errors
    /// As [`Prometheus::query`].
    pub fn alerts(&self) -> Result<BTreeMap<String, String>> {
        let lines = self.query("ALERTS")?;
        let label = |line: &str, name: &str| {
            let value = line.split(&format!("{name}=\"")).nth(1).and_then(|rest| rest.split('"').next());
            value.map(str::to_owned).with_context(|| format!("{line}: no label {name}"))
        };
        lines.iter().map(|line| Ok((label(line, "alertname")?, label(line, "alertstate")?))).collect()
    }

    /// Every expression of the dashboard that ships, for all enclaves.
    ///
    /// # Errors
    /// The dashboard cannot be read.
    pub fn expressions(&self) -> Result<Vec<String>> {
        let mut command = Command::new("python3");
        let said = run(command.arg("-B").arg(self.monitoring_dir.join("expressions.py")), "")?;
        Ok(said.lines().map(str::to_owned).collect())
    }

    /// Has promtool judge a page of metrics.
    ///
    /// # Errors
    /// What it criticises.
    pub fn check_page(&self, page: &str) -> Result<()> {
        run(Command::new(&self.promtool).args(["check", "metrics"]), page).map(drop)
    }
}

fn last_line(command: &mut Command) -> Result<String> {
    let said = run(command, "")?;
    Ok(said.lines().last().with_context(|| format!("{command:?} prints nothing"))?.to_owned())
}

fn run(command: &mut Command, input: &str) -> Result<String> {
    let doing = format!("run {}", command.get_program().display());
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| doing.clone())?;
    // The pages are smaller than a pipe. A program that does not read says why below.
    drop(child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().with_context(|| doing.clone())?;
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        bail!("{doing}: {}\n{}\n{}", output.status, last_lines(&said, 12), last_lines(&errors, 12));
    }
    Ok(said.into_owned())
}
