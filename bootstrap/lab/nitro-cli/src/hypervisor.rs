//! What nitro-cli and the lab say to each other: a stream for each enclave, with lines of JSON.
//!
//! ```text
//! nitro-cli                         lab
//! Start, then the image's bytes ->
//!                                <- Started, or Refused
//! End, if it is to end           ->
//!                                <- Ended, whoever ended it
//! ```
//!
//! A stream that ends, ends the enclave.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Where the parent's way to the lab begins.
pub const SOCKET_PATH: &str = "/run/lab/hypervisor.sock";

/// The enclave that is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// Its context id.
    pub cid: u32,
    /// How many.
    pub cpus: u32,
    /// Its memory.
    pub memory_mib: u64,
    /// Whether its PCRs are zeros and its console can be read.
    pub is_debug: bool,
    /// Length of the image, which follows.
    pub image_bytes: u64,
}

/// What nitro-cli says later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End;

/// What the lab says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// Its machine runs.
    Started,
    /// There is no such machine, and why.
    Refused(String),
    /// Its machine does not run any more.
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

/// Reads a line; nothing at the end of the stream.
///
/// # Errors
/// Those of the stream, and a line that is something else.
pub fn receive<T: DeserializeOwned>(stream: &mut impl BufRead) -> io::Result<Option<T>> {
    let mut line = String::new();
    // No message is longer.
    let bytes = stream.take(64 << 10).read_line(&mut line)?;
    if bytes == 0 { Ok(None) } else { Ok(Some(serde_json::from_str(&line)?)) }
}

/// nitro-cli's end of a stream.
#[derive(Debug)]
pub(crate) struct Enclave {
    events: BufReader<UnixStream>,
}

impl Enclave {
    /// Has the lab start an enclave of the image.
    pub(crate) fn start(start: &Start, image: &mut impl Read) -> io::Result<Self> {
        let mut stream = UnixStream::connect(SOCKET_PATH)?;
        send(&mut stream, start)?;
        io::copy(image, &mut stream)?;
        let mut events = BufReader::new(stream);
        match receive(&mut events)? {
            Some(Event::Started) => Ok(Self { events }),
            Some(Event::Refused(reason)) => Err(io::Error::other(reason)),
            Some(Event::Ended) | None => Err(io::Error::other("the hypervisor said no more")),
        }
    }

    /// For whoever ends it.
    pub(crate) fn ender(&self) -> io::Result<Ender> {
        Ok(Ender(self.events.get_ref().try_clone()?))
    }

    /// Returns when it has ended.
    pub(crate) fn wait(mut self) -> io::Result<()> {
        // Of a stream that is cut off, there is no more to be had either.
        receive::<Event>(&mut self.events).map(drop)
    }
}

/// Ends an enclave.
#[derive(Debug)]
pub(crate) struct Ender(UnixStream);

impl Ender {
    /// [`Enclave::wait`] returns when it is done.
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
