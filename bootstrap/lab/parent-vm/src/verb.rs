//! The verbs of `lab` that run inside the parent VM only.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Subcommand;

use crate::enclave_id::EnclaveId;
use crate::runtime::{current_thread, multi_thread};
use crate::{allocator, chain, internet, record, serve, set_up, traffic};

/// What the host, the units and the tests call on the parent.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// What the parent's units run
    #[command(hide = true, subcommand)]
    ParentVm(Part),
    /// Both ends of the benchmark's traffic
    #[command(hide = true, subcommand)]
    Traffic(traffic::Traffic),
    /// Send vsock connection requests to an enclave without waiting for answers
    #[command(hide = true)]
    Flood {
        /// CID of the enclave
        enclave: EnclaveId,
        /// A port that nobody listens on
        port: u32,
        /// How many
        count: u32,
    },
    /// Play the gateway until an enclave has answered, and print the answer in base64
    #[command(hide = true)]
    Record(record::Options),
    /// Send one command to a self-test agent, and print its report
    #[command(hide = true)]
    SelfTest {
        /// Where the agent listens
        agent: SocketAddr,
        /// The command as JSON
        command: String,
    },
}

/// What a unit of the parent runs.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum Part {
    /// Create the lab's internet, and what wg-server needs of its host
    SetUp {
        /// Without what user data does
        #[arg(long)]
        first_boot: bool,
    },
    /// Serve raw vsock streams, and forward nitro-cli's streams to the host
    Serve,
    /// Run the self-test server of the lab's internet
    Internet,
    /// Serve the development chain's node in the lab's internet
    Chain,
    /// Set memory and processors aside for enclaves
    Allocate,
}

/// Runs the verb; what to print.
///
/// # Errors
/// Those of the verb.
pub fn run(verb: Verb) -> Result<String> {
    match verb {
        Verb::ParentVm(part) => part.run(),
        Verb::Traffic(traffic) => traffic::run(traffic),
        Verb::Flood { enclave, port, count } => {
            current_thread()?.block_on(self_test::flood(enclave.cid().0, port, count, Duration::ZERO))?;
            Ok(String::new())
        }
        Verb::Record(options) => {
            let answer = current_thread()?.block_on(record::record(&options))?;
            Ok(format!("{}\n", STANDARD.encode(answer)))
        }
        Verb::SelfTest { agent, command } => {
            let command = serde_json::from_str(&command).context("the self-test command")?;
            let test = async { self_test::driver::Driver::connect(agent).await?.run(&command).await };
            let report = current_thread()?.block_on(test)?;
            Ok(format!("{}\n", serde_json::to_string(&report)?))
        }
    }
}

impl Part {
    fn run(self) -> Result<String> {
        match self {
            Self::SetUp { first_boot } => set_up::run(first_boot)?,
            Self::Serve => multi_thread()?.block_on(serve::run())?,
            Self::Allocate => return Ok(format!("{}\n", allocator::allocate()?)),
            Self::Chain => current_thread()?.block_on(chain::serve())?,
            Self::Internet => multi_thread()?.block_on(self_test::server::run(&internet::SELF_TEST_SERVERS))?,
        }
        Ok(String::new())
    }
}
