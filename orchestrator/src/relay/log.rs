//! The log: takes the lines of all processes from their socket, and sends them to the parent, a limited number per second.
//!
//! A parent that reads slowly or not at all costs the oldest lines, whose number the next line carries.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::pending;
use std::time::Instant;

use anyhow::{Result, anyhow};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::sync::Notify;
use tokio::time::sleep_until;
use tunnel::control;
use tunnel::log::{Line, MAX_TEXT};

use crate::budget::Budget;
use crate::link::Link;

/// What waits for the parent, at most: some thousand lines.
const MAX_BYTES: usize = 256 << 10;
/// A line's own, besides its text.
const LINE_BYTES: usize = 64;
/// Taken from the socket. What comes faster is lost there, and its writers count it.
const TAKEN_PER_SECOND: u32 = 1000;
/// Sent to the parent.
const SENT_PER_SECOND: u32 = 100;

/// What outlives each log stream.
pub(super) struct Log {
    /// None if the log stays in the enclave.
    lines: Option<Link>,
    backlog: RefCell<Backlog>,
    has_line: Notify,
    sent: RefCell<Budget>,
}

/// The lines that wait for the parent.
#[derive(Debug, Default)]
struct Backlog {
    lines: VecDeque<Line>,
    bytes: usize,
    /// The line that is being sent, which a stream that ends may not have taken.
    unsent: Option<Line>,
    /// Lines that were dropped before the first one.
    lost: u64,
    /// What came after the last one, and was none.
    garbage: u64,
}

impl Log {
    pub(super) fn new(lines: Option<Link>) -> Self {
        let sent = RefCell::new(Budget::new(SENT_PER_SECOND));
        Self { lines, backlog: RefCell::default(), has_line: Notify::new(), sent }
    }

    /// Takes lines from the socket, for ever.
    pub(super) async fn gather(&self) -> Infallible {
        let Some(lines) = &self.lines else { return pending().await };
        let mut taken = Budget::new(TAKEN_PER_SECOND);
        loop {
            wait(taken.open_at()).await;
            taken.spend(Instant::now());
            let line = lines.receive::<Line>().await;
            match line {
                Ok(Some(line)) if line.text.len() <= MAX_TEXT => {
                    self.backlog.borrow_mut().push(line);
                    self.has_line.notify_one();
                }
                // A process that was taken over may write anything, also an empty datagram, or shut the socket down for all.
                // Neither the relay nor the stream may end for it.
                Ok(_) | Err(_) => self.backlog.borrow_mut().garbage += 1,
            }
        }
    }

    /// Waits for ever if the log stays in the enclave.
    pub(super) async fn when_used<T>(&self, dial: impl AsyncFn() -> Result<T>) -> Result<T> {
        match self.lines {
            Some(_) => dial().await,
            None => pending().await,
        }
    }

    /// Sends lines until the stream ends; returns why it ended.
    pub(super) async fn send(&self, stream: impl AsyncRead + AsyncWrite) -> String {
        self.backlog.borrow_mut().put_back();
        let (mut reader, mut writer) = tokio::io::split(stream);
        let end = async {
            match reader.read_u8().await {
                Ok(byte) => anyhow!("the parent sends on the log stream, a byte {byte:#04x}"),
                Err(error) => anyhow::Error::from(error),
            }
        };
        let send = async {
            loop {
                let line = self.next().await;
                if let Err(error) = control::write(&mut writer, &line).await {
                    break anyhow::Error::from(error);
                }
                self.backlog.borrow_mut().unsent = None;
            }
        };
        tokio::select! {
            end = end => format!("{end:#}"),
            end = send => format!("{end:#}"),
        }
    }

    /// The oldest line, when there is one and it may be sent.
    async fn next(&self) -> Line {
        let open_at = self.sent.borrow().open_at();
        wait(open_at).await;
        loop {
            let line = self.backlog.borrow_mut().next();
            if let Some(line) = line {
                self.sent.borrow_mut().spend(Instant::now());
                return line;
            }
            self.has_line.notified().await;
        }
    }
}

async fn wait(until: Option<Instant>) {
    if let Some(until) = until {
        sleep_until(until.into()).await;
    }
}

impl Backlog {
    /// Drops the oldest lines if there is no room.
    fn push(&mut self, mut line: Line) {
        line.lost = line.lost.saturating_add(std::mem::take(&mut self.garbage));
        self.bytes += size(&line);
        self.lines.push_back(line);
        self.make_room();
    }

    /// The oldest line, to be sent.
    fn next(&mut self) -> Option<Line> {
        self.unsent = self.pop();
        self.unsent.clone()
    }

    fn pop(&mut self) -> Option<Line> {
        let mut line = self.lines.pop_front()?;
        self.bytes -= size(&line);
        line.lost = line.lost.saturating_add(std::mem::take(&mut self.lost));
        Some(line)
    }

    /// Has the line that was not sent, or not whole, be the next.
    fn put_back(&mut self) {
        let Some(mut line) = self.unsent.take() else { return };
        // What was dropped meanwhile came after it.
        let dropped = std::mem::take(&mut self.lost);
        if let Some(next) = self.lines.front_mut() {
            next.lost = next.lost.saturating_add(dropped);
        } else {
            line.lost = line.lost.saturating_add(dropped);
        }
        self.bytes += size(&line);
        self.lines.push_front(line);
        self.make_room();
    }

    fn make_room(&mut self) {
        while self.bytes > MAX_BYTES
            && let Some(oldest) = self.pop()
        {
            self.lost = oldest.lost.saturating_add(1);
        }
    }
}

fn size(line: &Line) -> usize {
    LINE_BYTES + line.text.len()
}

#[cfg(test)]
mod tests;
