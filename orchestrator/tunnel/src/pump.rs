//! The pump: datagrams from UDP into a stream as frames, and frames from the stream out to UDP, both at once.
//!
//! Towards the stream, datagrams are received into frames and written from there: a stream that is slower than UDP
//! fills a bounded [`Queue`], and what does not fit is dropped, so that UDP is always drained. Towards UDP, datagrams
//! are sent from the buffer that the stream was read into; a slow UDP side holds back the peer, as a stream does.
//! Nothing is allocated, and no datagram copied in this process, after [`Pump::new`].
//!
//! `benches/relay.rs` compares it with a plain loop of one call per datagram; docs/benchmark.md has the results. At
//! 15,400 bytes the loop needs less CPU time: a wake-up often brings one datagram there, and `epoll_wait` is an extra
//! call. Both directions share one task, which spares them a lock.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{self, Instant, MissedTickBehavior};

use crate::counters::Counters;
use crate::datagram::{Sink, Source};
use crate::frame::FrameError;
use crate::liveness::{Dead, Limits, Liveness, Seen};
use crate::pump::inbound::Inbound;
use crate::pump::outbound::Outbound;

mod inbound;
mod outbound;

/// How often a stream is checked for being dead.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Turns of both directions before other tasks of the same thread get theirs.
const TURNS: usize = 16;

/// The sizes and limits of a pump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Bytes that wait for the stream, at most.
    pub queue_bytes: usize,
    /// Datagrams that wait for the stream, at most; each costs up to 16,000 bytes while it waits.
    pub queue_frames: usize,
    /// Bytes taken from the stream in one read, at most.
    pub read_bytes: usize,
    /// When the stream counts as dead.
    pub limits: Limits,
}

impl Default for Settings {
    fn default() -> Self {
        Self { queue_bytes: 1 << 20, queue_frames: 512, read_bytes: 64 << 10, limits: Limits::default() }
    }
}

/// Why a pump ended.
#[derive(Debug)]
pub enum End {
    /// The peer closed the stream between two frames.
    Closed,
    /// The peer closed the stream within a frame, of which so many bytes had come.
    Cut(usize),
    /// The peer sent bytes that are not a frame.
    Frame(FrameError),
    /// The stream reported an error while reading.
    Read(io::Error),
    /// The stream reported an error while writing.
    Write(io::Error),
    /// The datagram side cannot receive any more; another stream will not help.
    Receive(io::Error),
    /// The datagram side cannot send any more; another stream will not help.
    Send(io::Error),
    /// The stream takes nothing, see [`crate::liveness`].
    Stalled(Duration),
    /// The stream takes handshakes and brings no answer, see [`crate::liveness`].
    Unanswered(u64),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the peer closed the stream"),
            Self::Cut(bytes) => write!(f, "the stream ended {bytes} bytes into a frame"),
            Self::Frame(error) => write!(f, "the peer sent {error}"),
            Self::Read(error) => write!(f, "read from the stream: {error}"),
            Self::Write(error) => write!(f, "write to the stream: {error}"),
            Self::Receive(error) => write!(f, "receive datagrams: {error}"),
            Self::Send(error) => write!(f, "send datagrams: {error}"),
            Self::Stalled(time) => write!(f, "the stream has taken nothing for {time:.0?}"),
            Self::Unanswered(count) => write!(f, "{count} handshakes went into the stream, nothing came back"),
        }
    }
}

/// Carries datagrams between a UDP side and one stream after another; owns every buffer that this takes.
#[derive(Debug)]
pub struct Pump {
    outbound: Outbound,
    inbound: Inbound,
    limits: Limits,
}

impl Pump {
    /// A pump with all its buffers.
    pub fn new(settings: Settings) -> Self {
        Self {
            outbound: Outbound::new(settings.queue_bytes, settings.queue_frames),
            inbound: Inbound::new(settings.read_bytes),
            limits: settings.limits,
        }
    }

    /// Pumps until something ends it, and says what.
    ///
    /// The prefaces have been exchanged. `writer` must do vectored writes (all of tokio's sockets and
    /// [`crate::vsock::Stream`] do), or else every frame becomes a write of its own. The future may be dropped at any
    /// time; after that, as after its end, a frame may be cut, and the stream is to be dropped too.
    pub async fn run<R, W, I, O>(
        &mut self,
        reader: &mut R,
        writer: &mut W,
        source: &mut I,
        sink: &mut O,
        counters: &Counters,
    ) -> End
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
        I: Source,
        O: Sink,
    {
        let Self { outbound, inbound, limits } = self;
        outbound.clear(counters);
        inbound.clear();
        let mut liveness = Liveness::new(*limits);
        let mut looks = pin!(time::interval(LOOK_EVERY));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut turns = |cx: &mut Context<'_>| {
            while looks.as_mut().poll_tick(cx).is_ready() {
                let seen = Seen { read: inbound.read(), ..outbound.seen() };
                if let Some(dead) = liveness.look(Instant::now(), seen) {
                    return Err(End::from(dead));
                }
            }
            for _ in 0..TURNS {
                let out = outbound.turn(cx, writer, source, counters)?;
                let back = inbound.turn(cx, reader, sink, counters)?;
                if !out && !back {
                    return Ok(());
                }
            }
            cx.waker().wake_by_ref();
            Ok(())
        };
        poll_fn(|cx| match turns(cx) {
            Ok(()) => Poll::Pending,
            Err(end) => Poll::Ready(end),
        })
        .await
    }
}

impl From<Dead> for End {
    fn from(dead: Dead) -> Self {
        match dead {
            Dead::Stalled(time) => Self::Stalled(time),
            Dead::Unanswered(count) => Self::Unanswered(count),
        }
    }
}

#[cfg(test)]
mod tests;
