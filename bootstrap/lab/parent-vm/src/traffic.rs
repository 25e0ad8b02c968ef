//! `lab traffic`: both ends of the benchmark's traffic, as programs on the parent.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use clap::Subcommand;

use crate::runtime::{current_thread, multi_thread};

/// One end of the benchmark's traffic.
#[derive(Debug, Subcommand)]
pub enum Traffic {
    /// Serve tests on these addresses until a signal
    Serve {
        /// `ADDRESS:PORT`
        #[arg(required = true)]
        addresses: Vec<SocketAddr>,
    },
    /// Run one test from here, and print its report
    Ask {
        /// The command as JSON
        command: String,
    },
}

/// Serves, or runs the test; the report, if there is one.
///
/// # Errors
/// Those of the server or of the test.
pub(crate) fn run(traffic: Traffic) -> Result<String> {
    match traffic {
        // With as many threads as the server of the lab's internet.
        Traffic::Serve { addresses } => {
            multi_thread()?.block_on(self_test::server::run(&addresses)).map(|()| String::new())
        }
        // With one thread, like the enclave's agent.
        Traffic::Ask { command } => {
            let command = serde_json::from_str(&command).context("the test")?;
            let report = current_thread()?.block_on(self_test::agent::run(&command))?;
            Ok(format!("{}\n", serde_json::to_string(&report)?))
        }
    }
}
