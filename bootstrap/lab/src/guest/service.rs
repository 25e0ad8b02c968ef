//! A program that is started again whenever it ends, as systemd would; and can be held.

use std::fs::{self, File, OpenOptions};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::process::Command;
use tokio::time::sleep;

use super::{LOG_DIR, RUN_DIR};

/// Between an end and the next start.
const PAUSE: Duration = Duration::from_millis(200);

/// One program. `RUN_DIR/NAME.pid` has its pid; while `RUN_DIR/NAME.hold` exists it is not started.
#[derive(Debug)]
pub(super) struct Service {
    name: &'static str,
    /// The program and its arguments.
    command: Vec<String>,
}

/// What keeps a service from being started while it exists.
pub(super) fn hold_path(name: &str) -> PathBuf {
    PathBuf::from(RUN_DIR).join(format!("{name}.hold"))
}

impl Service {
    pub(super) const fn new(name: &'static str, command: Vec<String>) -> Self {
        Self { name, command }
    }

    /// Keeps it running, for ever.
    pub(super) async fn keep(self) -> Result<()> {
        let pid_path = PathBuf::from(RUN_DIR).join(format!("{}.pid", self.name));
        let hold_path = hold_path(self.name);
        let (program, arguments) = self.command.split_first().context("a service without a program")?;
        loop {
            if !hold_path.exists() {
                let mut child = Command::new(program)
                    .args(arguments)
                    .stdin(Stdio::null())
                    .stdout(self.log()?)
                    .stderr(self.log()?)
                    .spawn()
                    .with_context(|| format!("start {program}"))?;
                if let Some(pid) = child.id() {
                    fs::write(&pid_path, format!("{pid}\n"))
                        .with_context(|| format!("write {}", pid_path.display()))?;
                }
                let status = child.wait().await.with_context(|| format!("wait for {}", self.name))?;
                fs::remove_file(&pid_path).with_context(|| format!("remove {}", pid_path.display()))?;
                tracing::warn!(service = self.name, %status, "a service ended");
            }
            sleep(PAUSE).await;
        }
    }

    fn log(&self) -> Result<File> {
        let path = PathBuf::from(LOG_DIR).join(format!("{}.log", self.name));
        OpenOptions::new().create(true).append(true).open(&path).with_context(|| format!("open {}", path.display()))
    }
}
