//! Frames that wait for the stream: bounded in bytes and in number, WireGuard's handshakes and keepalives first.

use std::collections::VecDeque;
use std::io::IoSlice;

use crate::frame::{Frame, MAX_WRITE};

/// The most frames that go into one write: enough of those at the ordinary MTU of 1,420 to fill it.
pub const MAX_FRAMES_PER_WRITE: usize = 64;

/// The first byte of a WireGuard handshake initiation (whitepaper, 5.4.2).
const INITIATION: u8 = 1;
/// The first byte of a cookie reply; between the two is the handshake response.
const COOKIE_REPLY: u8 = 3;
/// The first byte of transport data.
const TRANSPORT: u8 = 4;
/// A transport message without an inner packet: type, receiver, counter and the tag.
const KEEPALIVE_LEN: usize = 32;

/// What became of a datagram that was offered to the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It waits.
    Queued,
    /// It waits, and an ordinary datagram that waited was dropped for it.
    Displaced,
    /// It was dropped: there is no room.
    Dropped,
}

/// Frames that wait for the stream.
///
/// One that has been written in part is always finished first; of the others, handshakes and keepalives overtake, and
/// when there is no room, ordinary datagrams that came last are the ones dropped. Nothing is allocated after `new`.
#[derive(Debug)]
pub struct Queue {
    /// Ready to be filled; the last one used is the first one used again, while it is still in the cache.
    free: Vec<Frame>,
    started: Option<Started>,
    urgent: VecDeque<Frame>,
    ordinary: VecDeque<Frame>,
    /// Bytes that wait, those of a started frame included.
    bytes: usize,
    max_bytes: usize,
}

#[derive(Debug)]
struct Started {
    frame: Frame,
    written: usize,
}

impl Queue {
    /// An empty queue that holds at most `max_bytes` and `max_frames`.
    pub fn new(max_bytes: usize, max_frames: usize) -> Self {
        Self {
            free: std::iter::repeat_with(Frame::new).take(max_frames).collect(),
            started: None,
            urgent: VecDeque::with_capacity(max_frames),
            ordinary: VecDeque::with_capacity(max_frames),
            bytes: 0,
            max_bytes,
        }
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Takes the frame's contents and leaves an empty one in its place; when dropped, the frame is left as it is.
    pub fn push(&mut self, frame: &mut Frame) -> Pushed {
        let is_urgent = is_urgent(frame.datagram());
        let mut pushed = Pushed::Queued;
        while !self.has_room_for(frame) {
            let Some(dropped) = is_urgent.then(|| self.ordinary.pop_back()).flatten() else { return Pushed::Dropped };
            self.bytes -= dropped.bytes().len();
            self.free.push(dropped);
            pushed = Pushed::Displaced;
        }
        let Some(free) = self.free.pop() else { return Pushed::Dropped };
        let frame = std::mem::replace(frame, free);
        self.bytes += frame.bytes().len();
        if is_urgent {
            self.urgent.push_back(frame)
        } else {
            self.ordinary.push_back(frame)
        }
        pushed
    }

    fn has_room_for(&self, frame: &Frame) -> bool {
        !self.free.is_empty() && self.bytes + frame.bytes().len() <= self.max_bytes
    }

    /// Points `slices` at what goes into the next write, at most [`MAX_WRITE`] bytes, and says how many slices.
    pub fn next_write<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let started = self
            .started
            .iter()
            .map(|s| s.frame.bytes().get(s.written..).expect("a started frame is not written to its end"));
        let waiting = self.urgent.iter().chain(&self.ordinary).map(Frame::bytes);
        let mut room = MAX_WRITE;
        let mut count = 0;
        for (slice, bytes) in slices.iter_mut().zip(started.chain(waiting)) {
            let Some(left) = room.checked_sub(bytes.len()) else { break };
            room = left;
            *slice = IoSlice::new(bytes);
            count += 1;
        }
        count
    }

    /// The stream took the first `written` bytes of [`Queue::next_write`]; returns how many frames are finished.
    pub fn written(&mut self, mut written: usize) -> u64 {
        let mut finished = 0;
        while written > 0 {
            let Some(mut head) = self.started.take().or_else(|| self.start()) else { break };
            let taken = written.min(head.frame.bytes().len() - head.written);
            written -= taken;
            self.bytes -= taken;
            head.written += taken;
            if head.written == head.frame.bytes().len() {
                finished += 1;
                self.free.push(head.frame);
            } else {
                self.started = Some(head);
            }
        }
        finished
    }

    fn start(&mut self) -> Option<Started> {
        let frame = self.urgent.pop_front().or_else(|| self.ordinary.pop_front())?;
        Some(Started { frame, written: 0 })
    }

    /// Drops everything, for another stream; returns how many frames that were.
    pub fn clear(&mut self) -> usize {
        let before = self.free.len();
        self.free.extend(self.started.take().map(|started| started.frame));
        self.free.extend(self.urgent.drain(..));
        self.free.extend(self.ordinary.drain(..));
        self.bytes = 0;
        self.free.len() - before
    }
}

/// Whether the datagram starts a handshake.
pub fn is_initiation(datagram: &[u8]) -> bool {
    datagram.first() == Some(&INITIATION)
}

/// Whether the datagram keeps the tunnel alive: any handshake message, and transport data without an inner packet.
pub fn is_urgent(datagram: &[u8]) -> bool {
    match datagram.first() {
        Some(&(INITIATION..=COOKIE_REPLY)) => true,
        Some(&TRANSPORT) => datagram.len() == KEEPALIVE_LEN,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
