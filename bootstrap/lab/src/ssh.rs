//! Commands on the parent.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};

use crate::layout::Layout;

/// The ssh client of one lab: its keys and its connection.
#[derive(Clone, Debug)]
pub(crate) struct Ssh {
    dir: PathBuf,
    socket_path: PathBuf,
    port: u16,
}

/// Files for the parent's sshd: the name in `/payload/ssh`, and the file in the lab's folder.
pub(crate) const PAYLOAD: [(&str, &str); 2] =
    [("ssh_host_ed25519_key", "host_key"), ("authorized_keys", "client_key.pub")];

impl Ssh {
    pub(crate) fn new(layout: &Layout, port: u16) -> Self {
        Self { dir: layout.ssh_dir(), socket_path: layout.ssh_socket_path(), port }
    }

    /// Creates the keys of both sides.
    pub(crate) fn make_keys(&self) -> Result<()> {
        for name in ["host_key", "client_key"] {
            let path = self.dir.join(name);
            if path.exists() {
                continue;
            }
            let output = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", "enclave-wireguard lab", "-f"])
                .arg(&path)
                .output()
                .context("run ssh-keygen (apt-get install --no-install-recommends openssh-client)")?;
            ensure!(output.status.success(), "ssh-keygen: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let host_key = fs::read_to_string(self.dir.join("host_key.pub")).context("read the host key")?;
        let known = format!("[127.0.0.1]:{} {host_key}", self.port);
        fs::write(self.dir.join("known_hosts"), known).context("write known_hosts")
    }

    /// The connection that all commands share. It runs until the parent shuts down.
    pub(crate) fn master(&self) -> Command {
        let mut command = self.base();
        command.args(["-M", "-N", "-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=6", "root@127.0.0.1"]);
        command
    }

    /// A command with exactly these arguments, whatever characters they contain.
    pub(crate) fn command(&self, arguments: &[impl AsRef<str>]) -> Command {
        let mut command = self.base();
        command.args(["-o", "ControlMaster=no", "root@127.0.0.1"]).arg(shell_line(arguments));
        command
    }

    /// As [`Ssh::command`], with a terminal.
    pub(crate) fn interactive(&self, arguments: &[impl AsRef<str>]) -> Command {
        let mut command = self.base();
        command.args(["-o", "ControlMaster=no", "-t", "root@127.0.0.1"]).arg(shell_line(arguments));
        command
    }

    /// Runs a command; its output.
    pub(crate) fn output(&self, arguments: &[impl AsRef<str>]) -> Result<Output> {
        self.command(arguments).stdin(Stdio::null()).output().context("run ssh")
    }

    /// Forwards a port or a socket over the shared connection, as `-L` or `-R` says, until the value is dropped.
    pub(crate) fn forward(&self, option: [&str; 2]) -> Result<Forward> {
        let forward = Forward { ssh: self.clone(), option: option.map(str::to_owned) };
        forward.control("forward")?;
        Ok(forward)
    }

    pub(crate) fn has_master(&self) -> bool {
        self.socket_path.exists()
    }

    fn base(&self) -> Command {
        let mut command = Command::new("ssh");
        let option = |name: &str, path: &PathBuf| format!("{name}=\"{}\"", path.display());
        command
            .args(["-F", "none", "-q", "-p", &self.port.to_string()])
            .arg("-i")
            .arg(self.dir.join("client_key"))
            .args(["-o", &option("UserKnownHostsFile", &self.dir.join("known_hosts"))])
            .args(["-o", &option("ControlPath", &self.socket_path)])
            .args(["-o", "StrictHostKeyChecking=yes", "-o", "GlobalKnownHostsFile=none", "-o", "BatchMode=yes"])
            .args(["-o", "IdentitiesOnly=yes", "-o", "ConnectTimeout=10"]);
        command
    }
}

/// What ssh forwards, as long as this value lives.
#[derive(Debug)]
pub(crate) struct Forward {
    ssh: Ssh,
    option: [String; 2],
}

impl Forward {
    fn control(&self, verb: &str) -> Result<()> {
        let output = self.ssh.base().args(["-O", verb]).args(&self.option).arg("root@127.0.0.1").output();
        let output = output.context("run ssh")?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "ssh -O {verb} {}: {}", self.option.join(" "), stderr.trim());
        Ok(())
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        // The connection may have ended before.
        let _cancelled = self.control("cancel");
    }
}

/// A free TCP port on the host's loopback.
pub(crate) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port")?;
    Ok(listener.local_addr()?.port())
}

/// Quotes arguments for a POSIX shell.
fn shell_line(arguments: &[impl AsRef<str>]) -> String {
    let quote = |word: &str| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+".contains(c);
        if !word.is_empty() && word.chars().all(is_plain) {
            word.to_owned()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    };
    arguments.iter().map(|word| quote(word.as_ref())).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_the_parent_as_they_are() {
        let words = ["printf", "%s\n", "it's", "$HOME", "", "a b", "*", "plain-1"];
        let line = shell_line(&words);
        let output = Command::new("sh").args(["-c", &format!("printf '%s\\n' {line}")]).output().unwrap();
        let expected: String = words.iter().map(|word| format!("{word}\n")).collect();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    }
}
