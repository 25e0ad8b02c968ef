//! `run-enclave`: starts the process that holds the enclave, and shows what it says until the enclave has booted.

use std::io::BufReader;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::failure::{Failure, Number, Result};
use crate::hypervisor::receive;
use crate::sockets;

/// Its arguments, as the process gets them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Wanted {
    pub(crate) eif_path: PathBuf,
    pub(crate) name: String,
    /// Nothing: one that is free.
    pub(crate) cid: Option<u32>,
    pub(crate) memory_mib: u64,
    pub(crate) cpu_ids: Vec<u32>,
    pub(crate) is_debug: bool,
}

/// What the process says before it is alone.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Said {
    /// For standard error.
    Progress(String),
    /// For standard output: the enclave runs.
    Running(Value),
    /// It does not.
    Failed(Failure),
}

/// The verb that a process is started with.
pub(crate) const PROCESS_VERB: &str = "enclave-process";

/// What `run-enclave` prints; `progress` takes the lines before it.
pub(crate) fn run(mut wanted: Wanted, mut progress: impl FnMut(&str)) -> Result<Value> {
    let (running, _) = sockets::describe_all()?;
    wanted.name = sockets::free_name(&wanted.name, &running);
    let program = std::env::current_exe().map_err(Failure::of(Number::ProcessSpawn, "find this program"))?;
    let arguments = serde_json::to_string(&wanted).map_err(Failure::of(Number::Serde, "write the arguments"))?;
    // It leaves this session by itself, and is PID 1's when this process ends.
    let process =
        Command::new(program).arg(PROCESS_VERB).arg(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut process = process.map_err(Failure::of(Number::ProcessSpawn, "start the enclave's process"))?;
    let mut said = process.stdout.take().map(BufReader::new);
    while let Some(stream) = &mut said {
        match receive(stream).map_err(Failure::of(Number::Serde, "hear of the enclave's process"))? {
            Some(Said::Progress(line)) => progress(&line),
            Some(Said::Running(what)) => return Ok(what),
            Some(Said::Failed(failure)) => return Err(failure),
            None => break,
        }
    }
    let status = process.wait().map_err(Failure::of(Number::ProcessSpawn, "wait for the enclave's process"))?;
    let what = format!("the enclave's process ended before the enclave ran: {status}");
    Err(Failure::new(Number::EnclaveProcessConnection, what))
}
