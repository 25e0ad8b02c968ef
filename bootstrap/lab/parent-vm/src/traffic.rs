//! Both ends of the test traffic, as programs on the parent: what the enclave's self-test agent does, without an agent.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use clap::Subcommand;

use crate::runtime::{current_thread, multi_thread};

/// Run by the benchmark, on the parent.
#[derive(Debug, Subcommand)]
pub enum Traffic {
    /// Serve tests on these addresses until stopped
    Serve {
        /// `ADDRESS:PORT`
        #[arg(required = true)]
        addresses: Vec<SocketAddr>,
    },
    /// Do one test from here, print its report
    Ask {
        /// The command as JSON
        command: String,
    },
}

/// Does it; the report, if there is one.
///
/// # Errors
/// Those of the server or of the test.
pub(crate) fn run(traffic: Traffic) -> Result<String> {
    match traffic {
        // As the lab's internet has it.
        Traffic::Serve { addresses } => {
            multi_thread()?.block_on(self_test::server::run(&addresses)).map(|()| String::new())
        }
        // As the agent has it.
        Traffic::Ask { command } => {
            let command = serde_json::from_str(&command).context("the test")?;
            let report = current_thread()?.block_on(self_test::agent::run(&command))?;
            Ok(format!("{}\n", serde_json::to_string(&report)?))
        }
    }
}
