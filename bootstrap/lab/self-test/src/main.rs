//! The agent as a program: a service of the lab's enclaves.

use std::io::Write;
use std::net::{Ipv6Addr, SocketAddr};
use std::process::ExitCode;

use anyhow::{Context, Result};

fn main() -> ExitCode {
    let Err(error) = run() else { return ExitCode::SUCCESS };
    // Without stderr, the error cannot be reported.
    drop(writeln!(std::io::stderr(), "error: {error:#}"));
    ExitCode::FAILURE
}

/// Serves on every address of the machine, on the port that is the only argument.
fn run() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(port), None) = (arguments.next(), arguments.next()) else {
        anyhow::bail!("expected one argument, the TCP port to listen on");
    };
    let port: u16 = port.parse().with_context(|| format!("`{}`: expected a TCP port", port.escape_debug()))?;
    let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(self_test::agent::serve(&[address]))
}
