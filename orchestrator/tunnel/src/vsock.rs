//! Streams over `AF_VSOCK`: connecting and listening, with large buffers, and halves without a lock.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::time::timeout;
use tokio_vsock::{VMADDR_CID_ANY, VsockAddr, VsockListener, VsockStream};

use crate::port::{Cid, Port};
use crate::sys;

/// One direction of a split [`Stream`]; neither waits for the other.
pub use tokio::net::unix::{ReadHalf, WriteHalf};

/// Bytes that the peer may send before this side has read them.
///
/// The default of 256 KiB is used up by about 455 tiny packets, and more reset the stream (virtio_transport_common.c
/// counts each packet's bookkeeping against the buffer).
const BUFFER: u64 = 4 << 20;

/// SO_VM_SOCKETS_BUFFER_SIZE (vm_sockets.h).
const BUFFER_SIZE: i32 = 0;
/// SO_VM_SOCKETS_BUFFER_MAX_SIZE (vm_sockets.h); a size above it is cut down without a word.
const BUFFER_MAX_SIZE: i32 = 2;

/// What went wrong, and where.
#[derive(Debug, Error)]
pub enum VsockError {
    /// No connection.
    #[error("connect to vsock CID {cid} port {port}")]
    Connect {
        /// The machine.
        cid: Cid,
        /// Its port.
        port: Port,
        /// Why; [`io::ErrorKind::TimedOut`] when the deadline passed.
        source: io::Error,
    },
    /// The port cannot be had, or waited on.
    #[error("listen on vsock port {port}")]
    Listen {
        /// The port.
        port: Port,
        /// Why.
        source: io::Error,
    },
    /// A connection could not be taken; the listener goes on.
    #[error("accept on vsock port {port}")]
    Accept {
        /// The port.
        port: Port,
        /// Why.
        source: io::Error,
    },
}

/// A connected vsock stream.
#[derive(Debug)]
pub struct Stream(UnixStream);

impl Stream {
    /// tokio-vsock connects and accepts; after that, one connected stream socket is as good as another, and tokio's own
    /// has what tokio-vsock's lacks: vectored writes, and halves without a mutex.
    fn new(stream: VsockStream) -> io::Result<Self> {
        let stream = std::os::unix::net::UnixStream::from(OwnedFd::from(stream));
        UnixStream::from_std(stream).map(Self)
    }

    /// Both directions, to be used at once.
    pub fn split(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        self.0.split()
    }
}

/// Connects within `deadline`.
///
/// # Errors
/// Nobody listens there, no vsock here, or the deadline passed.
pub async fn connect(cid: Cid, port: Port, deadline: Duration) -> Result<Stream, VsockError> {
    let connected = timeout(deadline, VsockStream::connect(VsockAddr::new(cid.0, port.0))).await;
    connected
        .unwrap_or_else(|elapsed| Err(io::Error::new(io::ErrorKind::TimedOut, elapsed)))
        // Only now: a socket that connects takes its buffer from its transport.
        .and_then(|stream| raise_buffer(stream.as_fd()).and_then(|()| Stream::new(stream)))
        .map_err(|source| VsockError::Connect { cid, port, source })
}

/// Listens on a port for connections from any machine on the host.
///
/// # Errors
/// The port is taken, below 1024 without CAP_NET_BIND_SERVICE, or there is no vsock here.
pub fn listen(port: Port) -> Result<Listener, VsockError> {
    VsockListener::bind(VsockAddr::new(VMADDR_CID_ANY, port.0))
        // Accepted sockets inherit it.
        .and_then(|listener| raise_buffer(listener.as_fd()).map(|()| Listener { listener, port }))
        .map_err(|source| VsockError::Listen { port, source })
}

/// A vsock port that connections come in on.
#[derive(Debug)]
pub struct Listener {
    listener: VsockListener,
    port: Port,
}

impl Listener {
    /// The next connection, and the machine it comes from; cancel safe.
    ///
    /// # Errors
    /// This connection could not be taken; the listener is still good.
    pub async fn accept(&self) -> Result<(Stream, Cid), VsockError> {
        let accepted = self.listener.accept().await;
        accepted
            .and_then(|(stream, address)| Ok((Stream::new(stream)?, Cid(address.cid()))))
            .map_err(|source| VsockError::Accept { port: self.port, source })
    }
}

fn raise_buffer(socket: BorrowedFd<'_>) -> io::Result<()> {
    sys::set_vsock_option(socket, BUFFER_MAX_SIZE, BUFFER)?;
    sys::set_vsock_option(socket, BUFFER_SIZE, BUFFER)
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
