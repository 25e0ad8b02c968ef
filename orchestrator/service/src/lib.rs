//! A service: a program that an operator adds to an enclave. Its `[[services]]` table in the measured configuration says
//! what it may do; the file lies in the same folder and is measured with it.

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has failed, as it should")
)]

mod program;
mod table;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

pub use program::{check as check_program, sample as sample_program};
pub use table::{MAX_SERVICES, ServiceTable, check};

/// A program of the measured configuration, and what it may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Service {
    /// On the console, and nowhere else on the machine.
    pub name: String,
    /// The name of its file, beside the configuration.
    pub program: String,
    /// Without the program's own name.
    pub arguments: Vec<String>,
    /// All of it: nothing is inherited.
    pub environment: BTreeMap<String, String>,
    /// Private writable memory, in bytes (`RLIMIT_DATA`).
    pub memory: u64,
    /// The TCP ports that it may bind.
    pub listen: Vec<u16>,
    /// What becomes of it after it has ended.
    pub restart: Restart,
    /// Whether it may open vsock connections, which reach the parent without the tunnel.
    pub vsock: bool,
    /// User and group; nothing else on the machine has it.
    pub user: u32,
}

/// What PID 1 does when a service ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Starts it again. The machine goes down if it ends too often.
    #[default]
    Always,
    /// The same, unless it exited with status 0.
    OnFailure,
    /// Leaves it ended.
    Never,
}

impl Service {
    /// Checks its file in the configuration's folder `dir`: an executable that runs where there is no other file.
    ///
    /// # Errors
    /// One sentence with the service, the file and what would be right.
    pub fn check_file(&self, dir: &Path) -> Result<()> {
        let path = dir.join(&self.program);
        let check = || -> Result<()> {
            let mode = fs::metadata(&path)?.permissions().mode();
            ensure!(mode & 0o111 != 0, "it is not executable (mode {:04o}), expected mode 0755", mode & 0o7777);
            program::check(&fs::read(&path)?)
        };
        check().with_context(|| format!("services: {self}: program: {}", path.display()))
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// The files that the services of a configuration run; other tables and keys are not looked at.
///
/// # Errors
/// A text that is not TOML, or services without a program.
pub fn programs(config: &str) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct File {
        #[serde(default)]
        services: Vec<Named>,
    }
    #[derive(Deserialize)]
    struct Named {
        program: String,
    }
    let file: File = toml::from_str(config)?;
    Ok(file.services.into_iter().map(|service| service.program).collect())
}

#[cfg(test)]
mod tests;
