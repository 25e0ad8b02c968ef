//! `run-enclave`: starts the process that holds the enclave, and shows its messages until the enclave has booted.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::failure::{Failure, Number, Result};
use crate::hypervisor::receive;
use crate::sockets;

/// The arguments of the process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Wanted {
    pub(crate) eif_path: PathBuf,
    pub(crate) name: String,
    /// Absent: a free one.
    pub(crate) cid: Option<u32>,
    pub(crate) memory_mib: u64,
    pub(crate) cpu_ids: Vec<u32>,
    pub(crate) is_debug: bool,
}

/// A message of the process until the enclave has booted.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Said {
    /// Progress, for standard error.
    Progress(String),
    /// The enclave is running. For standard output.
    Running(Value),
    /// The enclave does not run. For standard error.
    Failed(Failure),
}

/// AWS's message about a process that did not describe an enclave.
const FAILED: &str = "Failed connections: 1";
/// The verb of the process.
pub(crate) const PROCESS_VERB: &str = "enclave-process";

/// Runs the verb; its output. `show` takes the lines for standard error.
pub(crate) fn run(mut wanted: Wanted, mut show: impl FnMut(&str)) -> Result<Value> {
    let (running, _) = sockets::describe_all()?;
    wanted.name = sockets::free_name(&wanted.name, &running);
    let program = std::env::current_exe().map_err(Failure::of(Number::ProcessSpawn, "find this program"))?;
    let arguments = serde_json::to_string(&wanted).map_err(Failure::of(Number::Serde, "write the arguments"))?;
    // It leaves this session itself. When this process ends, PID 1 becomes its parent.
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

/// The description of the enclave, if it runs. Like AWS's, it shows an error of the process with its number, and then
/// exits with a number of its own.
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
