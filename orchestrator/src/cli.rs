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
    /// Prints which rules of the configuration's policy allow or refuse a request, then exits: with 1 if any refuses. REQUEST is a file
    /// with the body of `POST /`, as clients send it.
    #[arg(long, value_name = "REQUEST", requires = "check")]
    pub(crate) explain: Option<PathBuf>,
    /// The key that signs, as its address. Default: a key without rules of its own.
    #[arg(long, value_name = "ADDRESS", requires = "explain")]
    pub(crate) key: Option<String>,
    /// The client that asks, by its name in the configuration; a hub by `home HOST:PORT`. Default: permissions and rules of clients are left out.
    #[arg(long, value_name = "NAME", requires = "explain")]
    pub(crate) client: Option<String>,
    /// Prints the explanation as JSON.
    #[arg(long, requires = "explain")]
    pub(crate) json: bool,
}

impl Cli {
    /// The text of `--help`.
    pub(crate) fn usage() -> String {
        Self::command().render_help().to_string()
    }
}
