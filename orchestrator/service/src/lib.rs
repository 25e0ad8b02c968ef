//! A service is a program that an operator adds to an enclave. Its `[[services]]` table in the measured configuration
//! sets its permissions. The program is in the same folder and is also measured.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has failed"))]

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

/// A service's program and permissions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Service {
    /// Shown on the console.
    pub name: String,
    /// The name of its file in the configuration's folder.
    pub program: String,
    /// Without `argv[0]`.
    pub arguments: Vec<String>,
    /// The whole environment: the service inherits none.
    pub environment: BTreeMap<String, String>,
    /// Limit of private writable memory in bytes (`RLIMIT_DATA`).
    pub memory: u64,
    /// TCP ports that it may bind.
    pub listen: Vec<u16>,
    /// Whether PID 1 starts it again.
    pub restart: Restart,
    /// Whether it may open vsock connections, which bypass the tunnel.
    pub vsock: bool,
    /// UID and GID, which no other process has.
    pub user: u32,
}

/// What PID 1 does when a service ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Starts it again. The machine reboots if it ends too often.
    #[default]
    Always,
    /// Starts it again unless it exited with status 0.
    OnFailure,
    /// Does not start it again.
    Never,
}

impl Service {
    /// Checks its file in the configuration's folder `dir`: a static executable.
    ///
    /// # Errors
    /// One sentence with the service, the file and what was expected.
    pub fn check_file(&self, dir: &Path) -> Result<()> {
        let path = dir.join(&self.program);
        let check = || -> Result<()> {
            let mode = fs::metadata(&path)?.permissions().mode();
            ensure!(mode & 0o111 != 0, "not executable (mode {:04o}), expected mode 0755", mode & 0o7777);
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

/// The programs of a configuration's services. Ignores all other tables and keys.
///
/// # Errors
/// Text that is not TOML, or a service without a program.
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
