//! A program of the host, beside the lab's machines.

use std::fs::File;
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process::last_lines;

const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

/// A program of the host that runs as long as this value.
#[derive(Debug)]
pub(super) struct Daemon {
    child: Child,
    log_path: PathBuf,
}

impl Daemon {
    pub(super) fn start(mut command: Command, log_path: PathBuf) -> Result<Self> {
        let log = File::create(&log_path).with_context(|| format!("write {}", log_path.display()))?;
        let name = command.get_program().to_owned();
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        Ok(Self { child: child.with_context(|| format!("start {}", name.display()))?, log_path })
    }

    /// Waits until it listens.
    pub(super) fn wait_port(&mut self, port: u16) -> Result<()> {
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

    pub(super) fn log(&self) -> Result<String> {
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
