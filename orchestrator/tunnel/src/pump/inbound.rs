//! From the stream out to UDP.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};

use crate::counters::{Counters, count};
use crate::datagram::Sink;
use crate::frame::Decoder;
use crate::pump::End;

/// Datagrams sent in one call.
const BATCH: usize = 64;

/// The direction out of the stream.
#[derive(Debug)]
pub(super) struct Inbound {
    decoder: Decoder,
    read: u64,
}

impl Inbound {
    pub(super) fn new(read_bytes: usize) -> Self {
        Self { decoder: Decoder::new(read_bytes), read: 0 }
    }

    /// Starts over for another stream.
    pub(super) fn clear(&mut self) {
        self.decoder.clear();
        self.read = 0;
    }

    /// Bytes that came out of this stream.
    pub(super) fn read(&self) -> u64 {
        self.read
    }

    /// Reads once, and sends what has come whole; whether anything could be done.
    pub(super) fn turn<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        sink: &mut impl Sink,
        counters: &Counters,
    ) -> Result<bool, End> {
        let mut has_sent = false;
        // Everything whole goes out before the next read, so that a read always has room.
        loop {
            match self.send(cx, sink, counters)? {
                Poll::Pending => return Ok(has_sent),
                Poll::Ready(0) => break,
                Poll::Ready(_) => has_sent = true,
            }
        }
        Ok(self.read_once(cx, reader, counters)? || has_sent)
    }

    fn send(&mut self, cx: &mut Context<'_>, sink: &mut impl Sink, counters: &Counters) -> Result<Poll<usize>, End> {
        let mut datagrams: [&[u8]; BATCH] = [&[]; BATCH];
        let whole = self.decoder.peek(&mut datagrams).map_err(End::Frame)?;
        if whole == 0 {
            return Ok(Poll::Ready(0));
        }
        let datagrams = datagrams.get(..whole).expect("the decoder fills the slots that it was given");
        let sent = match sink.poll_send(cx, datagrams) {
            Poll::Pending => return Ok(Poll::Pending),
            Poll::Ready(sent) => sent.map_err(End::Send)?,
        };
        self.decoder.consume(sent.datagrams);
        counters.to_udp_datagrams.add(count(sent.datagrams));
        counters.to_udp_dropped.add(sent.dropped);
        counters.to_udp_segmented.add(sent.segmented);
        Ok(Poll::Ready(sent.datagrams))
    }

    fn read_once<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        counters: &Counters,
    ) -> Result<bool, End> {
        let mut space = ReadBuf::new(self.decoder.space());
        match Pin::new(reader).poll_read(cx, &mut space) {
            Poll::Pending => return Ok(false),
            Poll::Ready(read) => read.map_err(End::Read)?,
        }
        let len = space.filled().len();
        if len == 0 {
            let begun = self.decoder.pending().len();
            return Err(if begun == 0 { End::Closed } else { End::Cut(begun) });
        }
        self.decoder.filled(len);
        let len = count(len);
        self.read += len;
        counters.to_udp_bytes.add(len);
        Ok(true)
    }
}
