//! A development chain on the host, and a client's proxy to an enclave.
//!
//! The enclave reaches the chain's node by a name of the lab's internet. Its TLS ends in the parent VM, and ssh carries
//! the connection on to the host. In the other direction, ssh carries the proxy's connections to the enclave.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use parent_vm::CHAIN_SERVICE;
use parent_vm::paths::CHAIN_SOCKET_PATH;

use super::Lab;
use crate::payload;
use crate::process::last_lines;
use crate::ssh::{Forward, free_port};

const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

/// A running development chain, which the enclaves reach as `https://rpc.internet.example`.
#[derive(Debug)]
pub struct Chain {
    _node: Daemon,
    port: u16,
    _forward: Forward,
}

/// A running `wallet proxy` in front of one enclave.
#[derive(Debug)]
pub struct Proxy {
    proxy: Daemon,
    port: u16,
    _forward: Forward,
}

impl Chain {
    /// Starts `anvil`.
    ///
    /// # Errors
    /// No lab is running, or a program that does not start.
    pub fn start(lab: &Lab, anvil: &Path) -> Result<Self> {
        let port = free_port()?;
        let mut command = Command::new(anvil);
        command.args(["--port", &port.to_string(), "--hardfork", "prague", "--accounts", "1"]);
        // As on other chains, a block follows: clients that miss one wait for the next.
        command.args(["--mixed-mining", "--block-time", "1"]);
        let mut node = Daemon::start(command, lab.layout.log_path("anvil"))?;
        node.wait_port(port)?;
        let parent = lab.parent()?;
        let forward = parent.forward(["-R", &format!("{CHAIN_SOCKET_PATH}:127.0.0.1:{port}")])?;
        parent.release(CHAIN_SERVICE)?;
        Ok(Self { _node: node, port, _forward: forward })
    }

    /// The node's URL on the host.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Proxy {
    /// Starts `wallet proxy` for the enclave with this address, if it runs the image `eif`.
    ///
    /// # Errors
    /// No lab is running, or the proxy ends.
    pub fn start(lab: &Lab, address: IpAddr, eif: &Path) -> Result<Self> {
        let [port, carried] = [free_port()?, free_port()?];
        let forward = lab.parent()?.forward(["-L", &format!("127.0.0.1:{carried}:{address}:443")])?;
        let mut command = Command::new(&lab.programs.wallet);
        command
            .args(["proxy", "--url", &format!("https://127.0.0.1:{carried}")])
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .arg("--measurements")
            .arg(payload::measurements_of(eif)?)
            .arg("--root")
            .arg(lab.layout.root_path());
        let mut proxy = Daemon::start(command, lab.layout.log_path("wallet-proxy"))?;
        proxy.wait_port(port)?;
        Ok(Self { proxy, port, _forward: forward })
    }

    /// Where clients connect.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What it has logged.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn log(&self) -> Result<String> {
        self.proxy.log()
    }
}

/// A program of the host that runs as long as this value.
#[derive(Debug)]
struct Daemon {
    child: Child,
    log_path: PathBuf,
}

impl Daemon {
    fn start(mut command: Command, log_path: PathBuf) -> Result<Self> {
        let log = File::create(&log_path).with_context(|| format!("write {}", log_path.display()))?;
        let name = command.get_program().to_owned();
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        Ok(Self { child: child.with_context(|| format!("start {}", name.display()))?, log_path })
    }

    /// Waits until it listens.
    fn wait_port(&mut self, port: u16) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            let status = self.child.try_wait().context("wait")?;
            if status.is_some() || Instant::now() > end {
                let log = last_lines(&self.log()?, 12);
                let state = status.map_or_else(|| "does not listen".to_owned(), |status| status.to_string());
                bail!("{state}; the end of {}:\n{log}", self.log_path.display());
            }
            sleep(POLL);
        }
        Ok(())
    }

    fn log(&self) -> Result<String> {
        std::fs::read_to_string(&self.log_path).with_context(|| format!("read {}", self.log_path.display()))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}
