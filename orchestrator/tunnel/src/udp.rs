//! The UDP socket between the pump and WireGuard: many datagrams per system call, one peer.
//!
//! `recvmmsg` takes up to 32 datagrams straight into frames. On the way out, runs of datagrams of one size leave as one
//! send that the kernel cuts apart (`UDP_SEGMENT`), several such sends in one `sendmmsg`, gathered from the buffer that
//! the stream was read into. Nothing asks for `UDP_GRO`: on the socket that wg0 sends to, over loopback, it coalesces
//! nothing.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::task::{Context, Poll, ready};

use tokio::io::Interest;

use crate::counters::count;
use crate::datagram::{Received, Sent, Sink, Source};
use crate::frame::Frame;
use crate::sys::{self, Arrival, RECEIVE_BATCH, RawAddress, Run, SEND_BATCH, SEND_RUNS};

/// The most segments in one send (UDP_MAX_SEGMENTS, linux/udp.h).
const MAX_SEGMENTS: usize = 64;

/// The most bytes in one send: what fits into an IPv4 packet, cut apart or not.
const MAX_SEND: usize = 65_507;

/// What each direction of the socket may hold, in bytes of kernel memory: half of that is datagrams.
const BUFFER: libc::c_int = 4 << 20;

/// A bound UDP socket and the one address that it exchanges datagrams with.
#[derive(Debug)]
pub struct UdpSocket {
    socket: tokio::net::UdpSocket,
    peer: SocketAddr,
    /// Whether `UDP_SEGMENT` has worked so far, or was not tried.
    segments: bool,
}

impl UdpSocket {
    /// Takes a bound socket; everything it sends goes to `peer`, what comes from elsewhere is refused.
    ///
    /// It becomes non-blocking (for every process that shares it), and its buffers are raised as [`raise_buffers`] can.
    /// Panics outside of a tokio runtime.
    ///
    /// # Errors
    /// The socket is not a UDP socket, or cannot be watched.
    pub fn new(socket: std::net::UdpSocket, peer: SocketAddr) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        raise_buffers(&socket)?;
        Ok(Self { socket: tokio::net::UdpSocket::from_std(socket)?, peer, segments: true })
    }

    /// Both directions, to be used at once; without a lock.
    pub fn split(&mut self) -> (Receiver<'_>, Sender<'_>) {
        let Self { socket, peer, segments } = self;
        let receiver = Receiver { socket, peer: *peer };
        (receiver, Sender { socket, peer: RawAddress::from(*peer), segments })
    }
}

/// Raises what the kernel holds for `socket`, in both directions, to 4 MiB.
///
/// Without CAP_NET_ADMIN the kernel stops at `net.core.rmem_max`, and this raises as far as that. A process about to
/// drop its privileges, or to hand the socket to one without, calls this first; the sizes stay.
///
/// # Errors
/// Not a socket.
pub fn raise_buffers(socket: &std::net::UdpSocket) -> io::Result<()> {
    let set = |option| sys::set_option(socket.as_fd(), libc::SOL_SOCKET, option, BUFFER);
    set(libc::SO_RCVBUFFORCE).or_else(|_| set(libc::SO_RCVBUF))?;
    set(libc::SO_SNDBUFFORCE).or_else(|_| set(libc::SO_SNDBUF))
}

/// The receiving direction of a [`UdpSocket`].
#[derive(Debug)]
pub struct Receiver<'a> {
    socket: &'a tokio::net::UdpSocket,
    peer: SocketAddr,
}

impl Source for Receiver<'_> {
    fn poll_receive(&mut self, cx: &mut Context<'_>, batch: &mut [Frame]) -> Poll<io::Result<Received>> {
        let mut arrivals = [Arrival::NONE; RECEIVE_BATCH];
        loop {
            ready!(self.socket.poll_recv_ready(cx))?;
            let mut count = 0;
            let asked = batch.len().min(RECEIVE_BATCH);
            let result = self.socket.try_io(Interest::READABLE, || {
                count = sys::receive(self.socket.as_fd(), batch, &mut arrivals)?;
                // Fewer than asked for: nothing is left. Saying so spares the call that would find that out; a datagram
                // that came since is a new event, which tokio does not lose.
                if count < asked { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            return Poll::Ready(match result {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && count == 0 => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(self.accept(batch, &arrivals, count)),
                Err(error) if is_fatal(&error) => Err(error),
                Err(_) => Ok(Received { errors: 1, ..Received::default() }),
                Ok(()) => Ok(self.accept(batch, &arrivals, count)),
            });
        }
    }
}

impl Receiver<'_> {
    fn accept(&self, batch: &mut [Frame], arrivals: &[Arrival], count: usize) -> Received {
        let mut received = Received { frames: count, ..Received::default() };
        for (frame, arrival) in batch.iter_mut().zip(arrivals).take(count) {
            if arrival.source.parse() != Some(self.peer) {
                frame.clear();
                received.foreign += 1;
            } else if arrival.is_truncated || frame.fill(arrival.len).is_err() {
                frame.clear();
                received.unfit += 1;
            }
        }
        received
    }
}

/// The sending direction of a [`UdpSocket`].
#[derive(Debug)]
pub struct Sender<'a> {
    socket: &'a tokio::net::UdpSocket,
    peer: RawAddress,
    segments: &'a mut bool,
}

impl Sink for Sender<'_> {
    fn poll_send(&mut self, cx: &mut Context<'_>, datagrams: &[&[u8]]) -> Poll<io::Result<Sent>> {
        let mut may_retry = true;
        loop {
            ready!(self.socket.poll_send_ready(cx))?;
            let mut runs = [Run { datagrams: 0, segment: None }; SEND_RUNS];
            let runs = plan(datagrams, *self.segments, &mut runs);
            let result = self
                .socket
                .try_io(Interest::WRITABLE, || sys::send(self.socket.as_fd(), &mut self.peer, datagrams, runs));
            let Some(first) = runs.first() else { return Poll::Ready(Ok(Sent::default())) };
            return Poll::Ready(match result {
                Ok(messages) => Ok(runs.iter().take(messages).fold(Sent::default(), |sent, run| Sent {
                    datagrams: sent.datagrams + run.datagrams,
                    segmented: sent.segmented + u64::from(run.segment.is_some()),
                    ..sent
                })),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) if is_fatal(&error) => Err(error),
                Err(error) if first.segment.is_some() && cannot_segment(&error) => {
                    *self.segments = false;
                    continue;
                }
                // What ICMP said about an earlier datagram is told once, in place of sending: the second try sends.
                Err(_) if may_retry => {
                    may_retry = false;
                    continue;
                }
                Err(_) => Ok(Sent { datagrams: first.datagrams, dropped: count(first.datagrams), segmented: 0 }),
            });
        }
    }
}

/// The runs that carry the front of `datagrams`: each of datagrams of one size, of which only the last may be shorter.
fn plan<'r>(datagrams: &[&[u8]], segments: bool, runs: &'r mut [Run; SEND_RUNS]) -> &'r [Run] {
    let mut rest = datagrams.get(..datagrams.len().min(SEND_BATCH)).expect("at most all datagrams");
    let mut planned = 0;
    for slot in runs.iter_mut() {
        let Some(first) = rest.first() else { break };
        let len = if segments { run_length(first.len(), rest) } else { 1 };
        let segment =
            (len > 1).then(|| u16::try_from(first.len()).expect("a run of several is no longer than MAX_SEND"));
        *slot = Run { datagrams: len, segment };
        rest = rest.get(len..).expect("a run is of the datagrams that are left");
        planned += 1;
    }
    runs.get(..planned).expect("one run for each slot that the loop has seen")
}

fn run_length(segment: usize, datagrams: &[&[u8]]) -> usize {
    let mut bytes = 0;
    let mut len = 0;
    for datagram in datagrams.iter().take(MAX_SEGMENTS) {
        bytes += datagram.len();
        if bytes > MAX_SEND || datagram.len() > segment {
            break;
        }
        len += 1;
        if datagram.len() < segment {
            break;
        }
    }
    len.max(1)
}

/// Whether the way to the peer, or its device, cannot cut sends apart (a segment over the path's MTU, a device without
/// checksums): single datagrams may still go, fragmented if need be.
fn cannot_segment(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EMSGSIZE | libc::EIO))
}

/// Whether the socket itself is of no use: anything else concerns a datagram, or passes.
fn is_fatal(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBADF | libc::ENOTSOCK | libc::EFAULT | libc::EOPNOTSUPP) | None)
}

#[cfg(test)]
mod tests;
