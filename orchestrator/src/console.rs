//! The console, and the log of its lines that the relay sends to the parent: an operator's only views into the enclave. One that
//! is slow or gone must never block or kill a writer.

mod log_link;

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::time::{ClockId, clock_gettime};
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt;
use tunnel::log::Level as LogLevel;

use crate::{link, sys};
use log_link::LogLink;

pub(crate) use log_link::inherit;

const CONSOLE_PATH: &str = "/dev/console";

/// How long one write waits for a console that accepts no bytes.
const WRITE_TIMEOUT_MILLIS: u16 = 100;

/// How long [`drain`] waits.
const DRAIN: Duration = Duration::from_millis(500);

/// Makes /dev/console the standard error of this process and its children, and the log their standard output. Returns the log's
/// other end, for the relay.
///
/// Both are non-blocking: a console or a relay that does not read loses lines, but does not stop the machine.
pub(crate) fn open() -> Result<OwnedFd> {
    let adopt = || -> io::Result<()> {
        let flags = (OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits();
        let console = OpenOptions::new().write(true).custom_flags(flags).open(CONSOLE_PATH)?;
        Ok(nix::unistd::dup2_stderr(&console)?)
    };
    adopt().context(CONSOLE_PATH)?;
    let link = || -> io::Result<OwnedFd> {
        let (ours, theirs) = link::pair()?;
        nix::unistd::dup2_stdout(&ours)?;
        Ok(theirs)
    };
    let relays = link().context("the link to the relay, for the log")?;
    inherit();
    Ok(relays)
}

/// Sends this process's `tracing` events to the console, with the kernel's format of timestamps, and to the log.
pub(crate) fn log() {
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(|| Console)
        .with_timer(SinceBoot)
        .with_ansi(false)
        .with_target(false);
    // Time and level have fields of their own in it.
    let log = tracing_subscriber::fmt::layer()
        .with_writer(LogLink)
        .without_time()
        .with_level(false)
        .with_ansi(false)
        .with_target(false);
    // The library of the resolver has two lines for each query.
    let filter = Targets::new().with_default(Level::INFO).with_target("hickory_server", Level::WARN);
    let subscriber = tracing_subscriber::registry().with(lines).with(log).with(filter);
    // A second call, which only tests make, keeps the first subscriber.
    drop(tracing::subscriber::set_global_default(subscriber));
}

/// Writes text without a timestamp.
pub(crate) fn print(text: &str) {
    print_at(LogLevel::Info, text);
}

/// Writes the reason why a process ends.
pub(crate) fn print_error(text: &str) {
    print_at(LogLevel::Error, text);
}

fn print_at(level: LogLevel, text: &str) {
    drop(Console.write_all(text.as_bytes()));
    log_link::send(level, text);
}

/// Waits until the written bytes have left the machine, for at most [`DRAIN`].
pub(crate) fn drain() {
    let deadline = Instant::now() + DRAIN;
    let has_unsent = |end: &dyn Fn() -> io::Result<i32>| end().is_ok_and(|bytes| bytes > 0);
    while Instant::now() < deadline
        && (has_unsent(&|| sys::unsent(io::stderr().as_fd())) || has_unsent(&|| sys::unsent(io::stdout().as_fd())))
    {
        thread::sleep(Duration::from_millis(2));
    }
    // The counts exclude the UART's FIFO of 16 bytes, and what the relay has read and not sent.
    thread::sleep(Duration::from_millis(20));
}

/// Time since the kernel started, including suspended time.
pub(crate) fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

/// Standard error that drops what it cannot write.
struct Console;

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let console = io::stderr();
        loop {
            let error = match nix::unistd::write(&console, bytes) {
                Ok(0) => return Ok(bytes.len()),
                Ok(written) => return Ok(written),
                Err(error) => error,
            };
            let mut ready = [PollFd::new(console.as_fd(), PollFlags::POLLOUT)];
            let is_full = error == nix::errno::Errno::EAGAIN;
            if !is_full || !poll(&mut ready, PollTimeout::from(WRITE_TIMEOUT_MILLIS)).is_ok_and(|ready| ready > 0) {
                return Ok(bytes.len());
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct SinceBoot;

impl FormatTime for SinceBoot {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        let now = since_boot();
        write!(writer, "[{:5}.{:06}]", now.as_secs(), now.subsec_micros())
    }
}
