//! The protocol between nitro-cli and the lab's host: a stream for each enclave, with lines of JSON.
//!
//! ```text
//! nitro-cli                         lab
//! Start, then the image's bytes ->
//!                                <- Started, or Refused
//! End, to terminate it           ->
//!                                <- Ended, for whatever reason
//! ```
//!
//! The end of the stream terminates the enclave.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The parent's socket for streams to the host.
pub const SOCKET_PATH: &str = "/run/lab/hypervisor.sock";

/// A request to start an enclave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// Its context id.
    pub cid: u32,
    /// Number of processors.
    pub cpus: u32,
    /// Its memory in MiB.
    pub memory_mib: u64,
    /// Debug mode: PCRs of zeros, and a readable console.
    pub is_debug: bool,
    /// Length of the image, which follows the request.
    pub image_bytes: u64,
}

/// A request to terminate the enclave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End;

/// A message from the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The VM is running.
    Started,
    /// The VM does not start; the reason.
    Refused(String),
    /// The VM has ended.
    Ended,
}

/// Writes a line.
///
/// # Errors
/// Those of the stream.
pub fn send(stream: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    stream.flush()
}

/// Reads a line; `None` at the end of the stream.
///
/// # Errors
/// Those of the stream, and a line that is not such a message.
pub fn receive<T: DeserializeOwned>(stream: &mut impl BufRead) -> io::Result<Option<T>> {
    let mut line = String::new();
    // Messages are shorter.
    let bytes = stream.take(64 << 10).read_line(&mut line)?;
    if bytes == 0 { Ok(None) } else { Ok(Some(serde_json::from_str(&line)?)) }
}

/// nitro-cli's end of a stream.
#[derive(Debug)]
pub(crate) struct Enclave {
    events: BufReader<UnixStream>,
}

impl Enclave {
    /// Asks the host to start an enclave of the image.
    pub(crate) fn start(start: &Start, image: &mut impl Read) -> io::Result<Self> {
        let mut stream = UnixStream::connect(SOCKET_PATH)?;
        send(&mut stream, start)?;
        io::copy(image, &mut stream)?;
        let mut events = BufReader::new(stream);
        match receive(&mut events)? {
            Some(Event::Started) => Ok(Self { events }),
            Some(Event::Refused(reason)) => Err(io::Error::other(reason)),
            Some(Event::Ended) | None => Err(io::Error::other("the hypervisor closed the stream")),
        }
    }

    /// A handle to terminate it.
    pub(crate) fn ender(&self) -> io::Result<Ender> {
        Ok(Ender(self.events.get_ref().try_clone()?))
    }

    /// Returns when the enclave has ended.
    pub(crate) fn wait(mut self) -> io::Result<()> {
        // The end of the stream also means that the enclave has ended.
        receive::<Event>(&mut self.events).map(drop)
    }
}

/// A handle to terminate an enclave.
#[derive(Debug)]
pub(crate) struct Ender(UnixStream);

impl Ender {
    /// Terminates the enclave; [`Enclave::wait`] then returns.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        send(&mut self.0, &End)?;
        self.0.shutdown(Shutdown::Write)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_lines_and_other_lines_are_none() {
        let start = Start { cid: 16, cpus: 2, memory_mib: 512, is_debug: false, image_bytes: 3 };
        let mut stream = Vec::new();
        send(&mut stream, &start).unwrap();
        stream.extend(b"eif");
        let mut reader = &stream[..];
        assert_eq!(receive(&mut reader).unwrap(), Some(start));
        assert_eq!(reader, b"eif", "the image is whole");
        assert_eq!(receive::<Event>(&mut &b""[..]).unwrap(), None);
        assert!(receive::<Event>(&mut &b"\"Strated\"\n"[..]).is_err());
    }
}
