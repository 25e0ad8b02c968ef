//! A development chain on the host, and a client's proxy to an enclave.
//!
//! The enclave reaches the chain's node by a name of the lab's internet. Its TLS ends in the parent VM, and ssh carries
//! the connection on to the host. In the other direction, ssh carries the proxy's connections to the enclave.

use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use parent_vm::CHAIN_SERVICE;
use parent_vm::paths::CHAIN_SOCKET_PATH;

use super::Lab;
use super::daemon::Daemon;
use crate::payload;
use crate::ssh::{Forward, free_port};

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
