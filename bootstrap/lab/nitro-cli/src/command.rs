//! Commands to a process that holds an enclave: one line each way.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Number, Result};
use crate::hypervisor::{receive, send};

/// A command.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Command {
    /// Answered by a [`Description`].
    Describe,
    /// Answered by a [`Description`], when the enclave has ended.
    Terminate,
}

/// An element of the output of `describe-enclaves`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Description {
    pub(crate) enclave_name: String,
    #[serde(rename = "EnclaveID")]
    pub(crate) enclave_id: String,
    #[serde(rename = "ProcessID")]
    pub(crate) process_id: u32,
    #[serde(rename = "EnclaveCID")]
    pub(crate) enclave_cid: u32,
    #[serde(rename = "NumberOfCPUs")]
    pub(crate) number_of_cpus: usize,
    #[serde(rename = "CPUIDs")]
    pub(crate) cpu_ids: Vec<u32>,
    #[serde(rename = "MemoryMiB")]
    pub(crate) memory_mib: u64,
    pub(crate) state: State,
    pub(crate) flags: Flags,
    pub(crate) measurements: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum State {
    Running,
    Terminating,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum Flags {
    None,
    DebugMode,
}

/// Sends a command to the process behind a socket.
pub(crate) fn ask(socket: &Path, command: Command) -> Result<Description> {
    let failed = || format!("send a command to the enclave's process on {}", socket.display());
    let mut stream = UnixStream::connect(socket).map_err(Failure::of(Number::Socket, failed()))?;
    send(&mut stream, &command).map_err(Failure::of(Number::Socket, failed()))?;
    let answer = receive(&mut BufReader::new(stream)).map_err(Failure::of(Number::Serde, failed()))?;
    answer.ok_or_else(|| Failure::new(Number::EnclaveProcessConnection, format!("{}: no answer", failed())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_has_the_names_of_aws() {
        let description = Description {
            enclave_name: "signer".to_owned(),
            enclave_id: "i-0000000000000000-enc10".to_owned(),
            process_id: 7,
            enclave_cid: 16,
            number_of_cpus: 2,
            cpu_ids: vec![1, 3],
            memory_mib: 512,
            state: State::Running,
            flags: Flags::DebugMode,
            measurements: BTreeMap::from([("PCR0".to_owned(), "00".to_owned())]),
        };
        let expected = serde_json::json!({
            "EnclaveName": "signer", "EnclaveID": "i-0000000000000000-enc10", "ProcessID": 7, "EnclaveCID": 16, "NumberOfCPUs": 2,
            "CPUIDs": [1, 3], "MemoryMiB": 512, "State": "RUNNING", "Flags": "DEBUG_MODE", "Measurements": {"PCR0": "00"},
        });
        assert_eq!(serde_json::to_value(description).unwrap(), expected);
    }
}
