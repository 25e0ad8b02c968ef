//! `lab console`.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use parent_vm::EnclaveId;

use crate::host::Lab;

const POLL: Duration = Duration::from_millis(100);

/// Prints the console so far; with `follow`, until the enclave ends.
pub(super) fn show(lab: &Lab, id: EnclaveId, follow: bool) -> Result<ExitCode> {
    let enclave = lab.enclave(id);
    let path = enclave.console().path().to_owned();
    let mut file = File::open(&path)
        .with_context(|| format!("enclave {id} has no console (`lab status` shows what is running)"))?;
    let mut out = std::io::stdout();
    loop {
        let was_running = enclave.is_running()?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).with_context(|| format!("read {}", path.display()))?;
        match out.write_all(&text).and_then(|()| out.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
            result => result.context("write to stdout")?,
        }
        if !follow || !was_running {
            return Ok(ExitCode::SUCCESS);
        }
        sleep(POLL);
    }
}
