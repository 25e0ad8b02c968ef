//! The client's side of the status socket.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;
use tunnel::port::Cid;

use super::{DEADLINE, Renewing, Report, Request, Vitals};
use crate::drain::Draining;
use crate::refused;

/// A report of 64 enclaves has about 64 KiB, and one of all the addresses that can be open fewer than 6 MiB.
const MAX_REPORT_LEN: u64 = 8 << 20;

/// Asks the daemon for its report.
pub(crate) fn ask(path: &Path) -> Result<Report> {
    request(path, Request::Status)
}

/// Asks the daemon for new keys.
pub(crate) fn renew(path: &Path, cid: Option<Cid>) -> Result<Renewing> {
    request(path, Request::Renew { cid: cid.map(|cid| cid.0) })
}

/// Asks the daemon for refused packets.
pub(crate) fn refused(path: &Path, first: u64) -> Result<refused::Report> {
    request(path, Request::Refused { first })
}

/// Asks the daemon to begin or end a drain.
pub(crate) fn drain(path: &Path, is_on: bool) -> Result<Draining> {
    let done: Result<Draining, String> = request(path, Request::Drain { is_on })?;
    done.map_err(anyhow::Error::msg)
}

/// Asks the daemon what the watchdog judges an enclave by.
pub(crate) fn vitals(path: &Path, cid: u32) -> Result<Vitals> {
    request(path, Request::Vitals { cid })
}

fn request<T: DeserializeOwned>(path: &Path, request: Request) -> Result<T> {
    let doing = || format!("ask {}", path.display());
    let text = exchange(path, request).map_err(|error| match meaning(error.kind()) {
        Some(meaning) => anyhow::Error::new(error).context(meaning),
        None => error.into(),
    });
    let text = text.with_context(doing)?;
    ensure!(
        !text.is_empty(),
        "ask {}: wg-server closed the connection without an answer because it is stopping; try again",
        path.display()
    );
    serde_json::from_str(&text).context("read the answer, expected a wg-server of this version").with_context(doing)
}

/// What an error of the socket means, and what to do.
fn meaning(error: ErrorKind) -> Option<String> {
    if matches!(error, ErrorKind::NotFound | ErrorKind::ConnectionRefused) {
        Some("wg-server does not run: `systemctl status wg-server`".to_owned())
    } else if error == ErrorKind::PermissionDenied {
        Some("only root and wg-server's own user may connect; run the command with sudo".to_owned())
    } else if matches!(error, ErrorKind::WouldBlock | ErrorKind::TimedOut) {
        Some(format!(
            "wg-server runs, but has not answered within {} s: it is stopped (SIGSTOP, a debugger), or the host has no CPU for \
             it; meanwhile enclaves get no new keys. `ps -o pid,stat,cmd -C wg-server` shows T if it is stopped, and \
             `kill -CONT PID` continues it",
            DEADLINE.as_secs()
        ))
    } else {
        None
    }
}

pub(super) fn exchange(path: &Path, request: Request) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    stream.write_all(&serde_json::to_vec(&request)?)?;
    stream.shutdown(Shutdown::Write)?;
    let mut text = String::new();
    (&stream).take(MAX_REPORT_LEN).read_to_string(&mut text)?;
    Ok(text)
}
