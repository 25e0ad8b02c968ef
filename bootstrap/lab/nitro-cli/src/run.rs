//! `run-enclave`: starts the process that holds the enclave, and shows what it says until the enclave has booted.

use std::io::{BufRead, BufReader};
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
    /// It does not: for standard error, too.
    Failed(Failure),
}

/// What AWS's says of a process that gave no description of an enclave.
const FAILED: &str = "Failed connections: 1";
/// The verb that a process is started with.
pub(crate) const PROCESS_VERB: &str = "enclave-process";

/// What `run-enclave` prints; `show` takes the lines for standard error.
pub(crate) fn run(mut wanted: Wanted, mut show: impl FnMut(&str)) -> Result<Value> {
    let (running, _) = sockets::describe_all()?;
    wanted.name = sockets::free_name(&wanted.name, &running);
    let program = std::env::current_exe().map_err(Failure::of(Number::ProcessSpawn, "find this program"))?;
    let arguments = serde_json::to_string(&wanted).map_err(Failure::of(Number::Serde, "write the arguments"))?;
    // It leaves this session by itself, and is PID 1's when this process ends.
    let process =
        Command::new(program).arg(PROCESS_VERB).arg(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut process = process.map_err(Failure::of(Number::ProcessSpawn, "start the enclave's process"))?;
    let said = process.stdout.take().map(BufReader::new);
    if let Some(running) = said.map_or(Ok(None), |said| hear(said, &mut show))? {
        return Ok(running);
    }
    let status = process.wait().map_err(Failure::of(Number::ProcessSpawn, "wait for the enclave's process"))?;
    show(FAILED);
    let what = format!("the enclave's process ended before the enclave ran: {status}");
    Err(Failure::new(Number::EnclaveProcessConnection, what))
}

/// What describes the enclave, if it runs. As AWS's, it shows the process's error, with its number, and goes on: that is not its own.
fn hear(mut said: impl BufRead, mut show: impl FnMut(&str)) -> Result<Option<Value>> {
    while let Some(what) = receive(&mut said).map_err(Failure::of(Number::Serde, "hear of the enclave's process"))? {
        match what {
            Said::Progress(line) => show(&line),
            Said::Failed(failure) => show(&failure.to_string()),
            Said::Running(what) => return Ok(Some(what)),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::hypervisor::send;

    fn heard(said: &[Said]) -> (Option<Value>, Vec<String>) {
        let (mut stream, mut shown) = (Vec::new(), Vec::new());
        said.iter().for_each(|said| send(&mut stream, said).unwrap());
        let running = hear(&stream[..], |line| shown.push(line.to_owned())).unwrap();
        (running, shown)
    }

    #[test]
    fn an_error_of_the_process_is_shown_with_its_number_and_is_not_that_of_run_enclave() {
        let failure = Failure::new(Number::InsufficientMemoryRequested, "16 MiB");
        let (running, shown) = heard(&[Said::Progress("Start".to_owned()), Said::Failed(failure)]);
        assert_eq!(running, None);
        let [progress, error] = &shown[..] else { panic!("{shown:?}") };
        assert!(progress == "Start" && error.starts_with("[ E26 ] 16 MiB\n"), "{shown:?}");
    }

    #[test]
    fn an_enclave_that_runs_is_described_and_one_whose_process_is_silent_is_not() {
        let description = json!({"EnclaveCID": 16});
        assert_eq!(heard(&[Said::Running(description.clone())]), (Some(description), Vec::new()));
        assert_eq!(heard(&[]), (None, Vec::new()));
    }
}
