//! The sockets of processes that hold enclaves: `/run/nitro_enclaves/ENCLAVE-ID.sock`.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use crate::command::{Command, Description, ask};
use crate::failure::{Failure, Number, Result};

const DIR: &str = "/run/nitro_enclaves";

/// The socket of this process, removed when dropped.
#[derive(Debug)]
pub(crate) struct Socket {
    path: PathBuf,
    pub(crate) listener: UnixListener,
}

impl Socket {
    pub(crate) fn bind(enclave_id: &str) -> Result<Self> {
        let path = path(enclave_id);
        let listener =
            UnixListener::bind(&path).map_err(Failure::of(Number::Socket, format!("listen on {}", path.display())))?;
        Ok(Self { path, listener })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // If it stays, the next `describe-enclaves` removes it.
        drop(fs::remove_file(&self.path));
    }
}

/// The socket of an enclave's process.
pub(crate) fn path(enclave_id: &str) -> PathBuf {
    Path::new(DIR).join(format!("{enclave_id}.sock"))
}

/// The descriptions from all processes that answer, and the number of those that do not. Removes stale sockets.
pub(crate) fn describe_all() -> Result<(Vec<Description>, usize)> {
    let entries = fs::read_dir(DIR).map_err(Failure::of(Number::ReadFromDisk, format!("list {DIR}")))?;
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.map_err(Failure::of(Number::ReadFromDisk, format!("list {DIR}")))?.path());
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "sock"));
    paths.sort();
    let mut found = Vec::new();
    let mut failed = 0;
    for path in paths {
        match ask(&path, Command::Describe) {
            Ok(description) => found.push(description),
            Err(_) if is_stale(&path) => drop(fs::remove_file(&path)),
            Err(_) => failed += 1,
        }
    }
    Ok((found, failed))
}

fn is_stale(path: &Path) -> bool {
    let refused = std::os::unix::net::UnixStream::connect(path);
    refused.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}

/// The id of the running enclave with this name.
pub(crate) fn id_of(name: &str) -> Result<String> {
    let (found, _) = describe_all()?;
    let mut ids = found.into_iter().filter(|enclave| enclave.enclave_name == name).map(|enclave| enclave.enclave_id);
    match (ids.next(), ids.next()) {
        (Some(id), None) => Ok(id),
        (None, _) => Err(Failure::new(Number::EnclaveNaming, format!("no enclave is called {name}"))),
        (Some(_), Some(_)) => Err(Failure::new(Number::EnclaveNaming, format!("several enclaves are called {name}"))),
    }
}

/// The name, with a number appended if a running enclave has it.
pub(crate) fn free_name(name: &str, taken: &[Description]) -> String {
    let is_taken = |name: &str| taken.iter().any(|enclave| enclave.enclave_name == name);
    if !is_taken(name) {
        return name.to_owned();
    }
    (1..).map(|index| format!("{name}_{index}")).find(|name| !is_taken(name)).expect("fewer enclaves than numbers")
}
