//! The command line on the build host. In the enclave PID 1 has none: the kernel hands init whatever it does not know.

use std::path::PathBuf;

use clap::{CommandFactory, Parser};

/// The enclave's init: boots the machine, brings up the tunnel, supervises its processes. As PID 1 it takes no arguments.
#[derive(Debug, Parser)]
#[command(name = "orchestrator", version)]
pub(crate) struct Cli {
    /// Checks a measured configuration, with the code that reads it at boot, and exits.
    #[arg(long, value_name = "CONFIG")]
    pub(crate) check: Option<PathBuf>,
}

impl Cli {
    /// What `--help` prints.
    pub(crate) fn usage() -> String {
        Self::command().render_help().to_string()
    }
}
