//! The command line on the build host. PID 1 ignores its arguments: the kernel passes it every option it does not know.

use std::path::PathBuf;

use clap::{CommandFactory, Parser};

/// The enclave's init: boots the machine, brings up the tunnel, supervises its processes. PID 1 takes no arguments.
#[derive(Debug, Parser)]
#[command(name = "orchestrator", version)]
pub(crate) struct Cli {
    /// Checks a measured configuration with the code that reads it at boot, then exits.
    #[arg(long, value_name = "CONFIG")]
    pub(crate) check: Option<PathBuf>,
}

impl Cli {
    /// The text of `--help`.
    pub(crate) fn usage() -> String {
        Self::command().render_help().to_string()
    }
}
