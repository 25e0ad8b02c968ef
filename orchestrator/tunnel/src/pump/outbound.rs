//! From UDP into the stream.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;

use crate::counters::{Counters, count};
use crate::datagram::Source;
use crate::frame::{Frame, MAX_FRAME, MAX_WRITE};
use crate::liveness::Seen;
use crate::pump::End;
use crate::queue::{self, MAX_FRAMES_PER_WRITE, Pushed, Queue};

/// Datagrams received in one call, at most.
const BATCH: usize = 32;

/// Bytes received in one call, about: twice a write, and little enough to be in the cache when it is written.
const BATCH_BYTES: usize = 64 << 10;

/// The direction towards the stream.
#[derive(Debug)]
pub(super) struct Outbound {
    queue: Queue,
    /// What the next datagrams are received into.
    batch: Vec<Frame>,
    /// How many of these, by the size of the last ones.
    expected: usize,
    written: u64,
    initiations: u64,
}

impl Outbound {
    pub(super) fn new(queue_bytes: usize, queue_frames: usize) -> Self {
        Self {
            queue: Queue::new(queue_bytes, queue_frames),
            batch: std::iter::repeat_with(Frame::new).take(BATCH).collect(),
            expected: BATCH,
            written: 0,
            initiations: 0,
        }
    }

    /// Starts over for another stream, which must not begin in the middle of a frame.
    pub(super) fn clear(&mut self, counters: &Counters) {
        counters.to_stream_dropped.add(count(self.queue.clear()));
        self.written = 0;
        self.initiations = 0;
    }

    pub(super) fn seen(&self) -> Seen {
        Seen {
            written: self.written,
            is_waiting: !self.queue.is_empty(),
            initiations: self.initiations,
            ..Seen::default()
        }
    }

    /// Receives once and writes what there is; whether anything could be done.
    pub(super) fn turn<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut W,
        source: &mut impl Source,
        counters: &Counters,
    ) -> Result<bool, End> {
        let asked = self.expected;
        let received = self.receive(cx, source, counters)?;
        // With more to receive, a write waits until it is full.
        let enough = if received == asked { MAX_WRITE - MAX_FRAME } else { 1 };
        let mut has_written = false;
        while self.queue.bytes() >= enough && self.write(cx, writer, counters)? {
            has_written = true;
        }
        Ok(received > 0 || has_written)
    }

    fn receive(&mut self, cx: &mut Context<'_>, source: &mut impl Source, counters: &Counters) -> Result<usize, End> {
        let batch = self.batch.get_mut(..self.expected).expect("BATCH frames, and BATCH is the most that is expected");
        let received = match source.poll_receive(cx, batch) {
            Poll::Pending => return Ok(0),
            Poll::Ready(received) => received.map_err(End::Receive)?,
        };
        let mut dropped = 0;
        let mut longest = 1;
        for frame in self.batch.iter_mut().take(received.frames).filter(|frame| !frame.bytes().is_empty()) {
            longest = longest.max(frame.bytes().len());
            self.initiations += u64::from(queue::is_initiation(frame.datagram()));
            dropped += u64::from(self.queue.push(frame) != Pushed::Queued);
        }
        self.expected = (BATCH_BYTES / longest).clamp(2, BATCH);
        counters.to_stream_dropped.add(dropped);
        counters.to_stream_foreign.add(received.foreign);
        counters.to_stream_unfit.add(received.unfit);
        counters.udp_errors.add(received.errors);
        // An error is something done, too: the next call may bring datagrams.
        Ok(received.frames.max(usize::from(received.errors > 0)))
    }

    fn write<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut W,
        counters: &Counters,
    ) -> Result<bool, End> {
        let mut slices = [IoSlice::new(&[]); MAX_FRAMES_PER_WRITE];
        let used = self.queue.next_write(&mut slices);
        let slices = slices.get(..used).expect("the queue fills the slices that it was given");
        let written = match Pin::new(writer).poll_write_vectored(cx, slices) {
            Poll::Pending => return Ok(false),
            Poll::Ready(Ok(0)) => return Err(End::Write(io::ErrorKind::WriteZero.into())),
            Poll::Ready(written) => written.map_err(End::Write)?,
        };
        counters.to_stream_frames.add(self.queue.written(written));
        counters.to_stream_bytes.add(count(written));
        counters.to_stream_writes.add(1);
        self.written += count(written);
        Ok(true)
    }
}
