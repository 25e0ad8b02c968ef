//! The socket pair between PID 1 and one of its children: whole messages, in order.
//!
//! The messages are those of [`tunnel::control`] and [`tunnel::internal`].

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use tokio::io::unix::AsyncFd;
use tunnel::message::{self, MAX_LEN, Message, MessageError};

use crate::sys;

/// One end of the link.
pub(crate) struct Link(AsyncFd<OwnedFd>);

/// Both ends, not yet attached to a runtime.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    // SOCK_SEQPACKET keeps the boundaries of messages.
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?)
}

impl Link {
    /// Takes an end of [`pair`]; needs a runtime.
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        sys::register(socket).map(Self)
    }

    /// The next message, or none when the other side has closed its end; cancel safe.
    ///
    /// # Errors
    /// The socket's own, and [`MessageError`].
    pub(crate) async fn receive<M: Message>(&self) -> io::Result<Option<M>> {
        let mut buffer = [0; MAX_LEN];
        // MSG_TRUNC: the message's own length, so that one that is too long is not taken for its beginning.
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
        let interest = tokio::io::Interest::READABLE;
        let len = self.0.async_io(interest, |socket| Ok(recv(socket.as_raw_fd(), &mut buffer, flags)?)).await?;
        match buffer.get(..len) {
            Some([]) => Ok(None),
            Some(bytes) => message::decode(bytes).map(Some).map_err(io::Error::other),
            None => Err(io::Error::other(MessageError::Length(len))),
        }
    }

    /// Sends a message; waits while the other side's queue is full. Only for PID 1's children: PID 1 itself must not
    /// wait.
    ///
    /// # Errors
    /// The socket's own, and a message that is too long.
    pub(crate) async fn send<M: Message>(&self, message: &M) -> io::Result<()> {
        let bytes = message::encode(message).map_err(io::Error::other)?;
        let interest = tokio::io::Interest::WRITABLE;
        self.0.async_io(interest, |socket| put(socket, &bytes)).await
    }

    /// Sends a message now or not at all.
    ///
    /// # Errors
    /// `WouldBlock` when the other side's queue is full, the socket's own, and a message that is too long.
    pub(crate) fn try_send<M: Message>(&self, message: &M) -> io::Result<()> {
        put(self.0.get_ref(), &message::encode(message).map_err(io::Error::other)?)
    }
}

fn put(socket: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    // A message goes whole or not: these sockets keep boundaries.
    Ok(send(socket.as_raw_fd(), bytes, flags).map(drop)?)
}

#[cfg(test)]
mod tests {
    use tunnel::control::ToEnclave;

    use super::*;

    fn refused(reason: &str) -> ToEnclave {
        ToEnclave::Refused(reason.to_owned())
    }

    #[tokio::test]
    async fn messages_arrive_whole_and_in_order_and_then_the_end() {
        let (a, b) = pair().unwrap();
        let (a, b) = (Link::new(a).unwrap(), Link::new(b).unwrap());
        a.send(&refused("first")).await.unwrap();
        a.try_send(&refused("second")).unwrap();
        drop(a);
        assert_eq!(b.receive().await.unwrap(), Some(refused("first")));
        assert_eq!(b.receive().await.unwrap(), Some(refused("second")));
        assert_eq!(b.receive::<ToEnclave>().await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_message_longer_than_the_longest_is_refused_not_cut() {
        let (a, b) = pair().unwrap();
        let b = Link::new(b).unwrap();
        let longest = message::encode(&refused(&"x".repeat(MAX_LEN - 6))).unwrap();
        assert_eq!(longest.len(), MAX_LEN);
        // Cut to MAX_LEN it would be a good message.
        let too_long = [&longest[..], &[0]].concat();
        for bytes in [&too_long, &longest] {
            put(&a, bytes).unwrap();
        }
        let error = b.receive::<ToEnclave>().await.unwrap_err();
        assert_eq!(error.to_string(), "a message of 16001 bytes, expected 1 to 16000");
        assert!(b.receive::<ToEnclave>().await.unwrap().is_some());
    }

    #[tokio::test]
    async fn bytes_that_are_no_message_are_an_error() {
        let (a, b) = pair().unwrap();
        put(&a, &[0x82, 0x02, 0x81, 0x62, b'n', b'o', 0]).unwrap();
        assert!(Link::new(b).unwrap().receive::<ToEnclave>().await.is_err());
    }
}
