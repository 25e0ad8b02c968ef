//! The datagram side of the pump, as two halves that can be waited for at once.

use std::io;
use std::task::{Context, Poll};

use crate::frame::Frame;

/// What one [`Source::poll_receive`] brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// How many frames of the batch were used; refused datagrams leave theirs empty.
    pub frames: usize,
    /// Datagrams from another address than the peer's, refused.
    pub foreign: u64,
    /// Datagrams that are empty or longer than a frame can carry, refused.
    pub unfit: u64,
    /// Errors that concern single datagrams, such as a closed port at the peer.
    pub errors: u64,
}

/// What became of the datagrams of one [`Sink::poll_send`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Datagrams that are done with, from the front: sent, or lost as `dropped` says.
    pub datagrams: usize,
    /// Those among them that the kernel refused (a closed port, no memory, no route).
    pub dropped: u64,
    /// Sends of several datagrams that the kernel cut apart (`UDP_SEGMENT`).
    pub segmented: u64,
}

/// Where datagrams come from.
pub trait Source {
    /// Receives into the front of `batch`, with [`Frame::fill`], as many as there are.
    ///
    /// Ready with no frame is allowed; the caller asks again. Errors end the pump, so they are those after which the
    /// socket cannot be used.
    fn poll_receive(&mut self, cx: &mut Context<'_>, batch: &mut [Frame]) -> Poll<io::Result<Received>>;
}

/// Where datagrams go.
pub trait Sink {
    /// Sends datagrams from the front of `datagrams`, in order; ready as soon as at least one is done with.
    ///
    /// Errors end the pump, so they are those after which the socket cannot be used.
    fn poll_send(&mut self, cx: &mut Context<'_>, datagrams: &[&[u8]]) -> Poll<io::Result<Sent>>;
}
