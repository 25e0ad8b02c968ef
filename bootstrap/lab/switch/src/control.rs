//! The control socket: `lab fault` on one side, the switch on the other.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use tracing::{debug, info};

use super::fault::{Request, Response};
use super::hub::Hub;

/// Longest line, either way: the state of 16 Ki connections fits.
const MAX_LINE: u64 = 16 * 1024 * 1024;
/// For the client, and for the switch.
const PATIENCE: Duration = Duration::from_secs(5);

/// The control socket, in the switch's folder.
pub fn socket_path(dir: &Path) -> PathBuf {
    dir.join("switch.sock")
}

/// Sends a request to the switch in `dir`.
///
/// # Errors
/// No switch is running there, or it does not answer in time.
pub fn ask(dir: &Path, request: &Request) -> anyhow::Result<Response> {
    let path = socket_path(dir);
    let exchange = || -> anyhow::Result<Response> {
        let mut stream = UnixStream::connect(&path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        write_line(&mut stream, request)?;
        let line = read_line(&mut BufReader::new(&stream))?.context("no answer")?;
        Ok(serde_json::from_str(&line)?)
    };
    exchange().with_context(|| format!("ask the switch on {}", path.display()))
}

/// Answers on the control socket, one client after the other, until the socket fails.
pub(crate) fn serve(listener: &UnixListener, hub: &Hub) -> anyhow::Result<()> {
    loop {
        let (stream, _) = listener.accept().context("accept on the control socket")?;
        if let Err(error) = answer(stream, hub) {
            debug!(error = format!("{error:#}"), "control client");
        }
    }
}

fn answer(mut stream: UnixStream, hub: &Hub) -> anyhow::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some(line) = read_line(&mut reader)? {
        let response = match serde_json::from_str(&line) {
            Ok(request) => {
                info!(?request, "control");
                hub.apply(&request)
            }
            Err(error) => Response::Refused { reason: error.to_string() },
        };
        write_line(&mut stream, &response)?;
    }
    Ok(())
}

fn write_line(stream: &mut UnixStream, value: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(stream.write_all(&line)?)
}

/// The next line, or `None` at the end.
fn read_line(reader: &mut impl BufRead) -> anyhow::Result<Option<String>> {
    let mut line = String::new();
    let len = reader.take(MAX_LINE).read_line(&mut line)?;
    Ok((len > 0).then_some(line))
}
