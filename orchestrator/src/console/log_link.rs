//! This process's end of the log: a datagram socket, as standard output, to the relay. See [`tunnel::log`].

use std::io::{self, Write};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::libc::STDOUT_FILENO;
use nix::sys::socket::{MsgFlags, send as send_to};
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;
use tunnel::log::{Level as LogLevel, Line, pieces};
use tunnel::message;

use super::since_boot;

/// Whether standard output is the log. It is not on the build host, and not before PID 1 has made it.
static IS_LOG: AtomicBool = AtomicBool::new(false);

/// Lines that this process could not send since the last one that it sent.
static LOST: AtomicU64 = AtomicU64::new(0);

/// Declares standard output to be the log: for PID 1, and for the children that have inherited it.
pub(crate) fn inherit() {
    IS_LOG.store(true, Ordering::Relaxed);
}

/// Sends the lines now or not at all, and counts those that are lost.
pub(super) fn send(level: LogLevel, text: &str) {
    if IS_LOG.load(Ordering::Relaxed) {
        send_on(STDOUT_FILENO, &LOST, level, text);
    }
}

fn send_on(socket: RawFd, lost_before: &AtomicU64, level: LogLevel, text: &str) {
    let uptime = since_boot();
    for piece in pieces(text).filter(|piece| !piece.is_empty()) {
        let lost = lost_before.swap(0, Ordering::Relaxed);
        let line = Line { level, uptime, lost, text: piece.to_owned() };
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let sent = message::encode(&line).is_ok_and(|bytes| send_to(socket, &bytes, flags).is_ok());
        if !sent {
            lost_before.fetch_add(lost.saturating_add(1), Ordering::Relaxed);
        }
    }
}

/// Makes writers of events, each for the level of its event.
pub(super) struct LogLink;

/// The writer of one event.
pub(super) struct Event(LogLevel);

impl MakeWriter<'_> for LogLink {
    type Writer = Event;

    fn make_writer(&self) -> Event {
        Event(LogLevel::Info)
    }

    fn make_writer_for(&self, event: &Metadata<'_>) -> Event {
        Event(match *event.level() {
            Level::ERROR => LogLevel::Error,
            Level::WARN => LogLevel::Warning,
            _ => LogLevel::Info,
        })
    }
}

impl Write for Event {
    /// Takes the whole event, which comes in one piece.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        send(self.0, &String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;
    use crate::link::{self, Link};

    async fn read(relay: &Link) -> (String, u64) {
        let line: Line = relay.receive().await.unwrap().unwrap();
        (line.text, line.lost)
    }

    #[tokio::test]
    async fn a_process_does_not_wait_and_its_next_line_says_how_many_were_lost() {
        let (ours, theirs) = link::pair().unwrap();
        let (relay, lost) = (Link::new(theirs).unwrap(), AtomicU64::new(0));
        let send = |text: &str| send_on(ours.as_raw_fd(), &lost, LogLevel::Info, text);
        send("one\n\ntwo\n");
        assert_eq!(read(&relay).await, ("one".to_owned(), 0));
        assert_eq!(read(&relay).await, ("two".to_owned(), 0));
        let mut sent = 0;
        while lost.load(Ordering::Relaxed) < 3 {
            send(&"x".repeat(1000));
            sent += 1;
        }
        for _ in 0..sent - 3 {
            assert_eq!(read(&relay).await.1, 0);
        }
        send("after");
        assert_eq!(read(&relay).await, ("after".to_owned(), 3));
        drop(relay);
        send("nobody is there\nat all");
        assert_eq!(lost.load(Ordering::Relaxed), 2);
    }
}
