//! The console: the operator's only window, which may be slow, or gone, and must never stop or kill the writer.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::time::{ClockId, clock_gettime};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use crate::sys;

const CONSOLE_PATH: &str = "/dev/console";

/// How long one write waits for a console that takes nothing.
const PATIENCE_MILLIS: u16 = 100;

/// How long the last words may take.
const DRAIN: Duration = Duration::from_millis(500);

/// Makes /dev/console this process's standard output and error; children inherit it.
///
/// It is opened once more, non-blocking: a console that nobody reads costs lines, not the machine.
pub(crate) fn open() -> Result<()> {
    let adopt = || -> io::Result<()> {
        let flags = (OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits();
        let console = OpenOptions::new().write(true).custom_flags(flags).open(CONSOLE_PATH)?;
        nix::unistd::dup2_stdout(&console)?;
        nix::unistd::dup2_stderr(&console)?;
        Ok(())
    };
    adopt().context(CONSOLE_PATH)
}

/// Sends this process's `tracing` events to the console, stamped like the kernel's own lines.
pub(crate) fn log() {
    let subscriber = tracing_subscriber::fmt()
        .with_writer(|| Console)
        .with_timer(SinceBoot)
        .with_ansi(false)
        .with_target(false)
        .with_max_level(tracing::Level::INFO)
        .finish();
    // A second call, which only a test can make, keeps the first subscriber.
    drop(tracing::subscriber::set_global_default(subscriber));
}

/// Writes text as it is, line by line.
pub(crate) fn print(text: &str) {
    drop(Console.write_all(text.as_bytes()));
}

/// Waits, but not for long, until what was written has left the machine.
pub(crate) fn drain() {
    let deadline = Instant::now() + DRAIN;
    while Instant::now() < deadline && sys::unsent(io::stderr().as_fd()).is_ok_and(|bytes| bytes > 0) {
        thread::sleep(Duration::from_millis(2));
    }
    // The UART's own FIFO, 16 bytes, is not in that count.
    thread::sleep(Duration::from_millis(5));
}

/// Time since the kernel started, suspended time included.
pub(crate) fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

/// Standard error without errors.
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
            if !is_full || !poll(&mut ready, PollTimeout::from(PATIENCE_MILLIS)).is_ok_and(|ready| ready > 0) {
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
