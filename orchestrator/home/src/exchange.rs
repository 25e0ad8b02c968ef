//! Sends and receives [`Message`]s. Time limits are the caller's.

use std::io;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::message::{Header, Kind, Message, MessageError};

/// Why a message did not come or go.
#[derive(Debug, Error)]
pub enum ExchangeError {
    /// The connection ended, or broke.
    #[error("{0}")]
    Connection(&'static str, #[source] io::Error),
    /// The other side sent something else, or there is something else to send.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// The right message at the wrong time.
    #[error("a {actual:?} message, expected {expected}")]
    Unexpected {
        /// What came.
        actual: Kind,
        /// What should have come.
        expected: &'static str,
    },
}

/// Sends a message.
///
/// # Errors
/// One that cannot be sent, or a connection that broke.
pub async fn send<S: AsyncWrite + Unpin>(stream: &mut S, message: &Message) -> Result<(), ExchangeError> {
    let bytes = message.encode()?;
    let broken = |error| ExchangeError::Connection("send a message", error);
    stream.write_all(&bytes).await.map_err(broken)?;
    stream.flush().await.map_err(broken)
}

/// Receives a message of one of these kinds, and no byte behind it.
///
/// # Errors
/// Another message, none, or a connection that broke.
pub async fn receive<S: AsyncRead + Unpin>(
    stream: &mut S,
    kinds: &[Kind],
    expected: &'static str,
) -> Result<Message, ExchangeError> {
    let broken = |error| ExchangeError::Connection("receive a message", error);
    let mut header = [0; Header::LEN];
    stream.read_exact(&mut header).await.map_err(broken)?;
    let header = Header::decode(header)?;
    if !kinds.contains(&header.kind()) {
        return Err(ExchangeError::Unexpected { actual: header.kind(), expected });
    }
    let mut body = vec![0; header.body_len()];
    stream.read_exact(&mut body).await.map_err(broken)?;
    Ok(Message::decode(header, body)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nonce(mut bytes: &[u8]) -> Result<Message, ExchangeError> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(receive(&mut bytes, &[Kind::Nonce], "a nonce"))
    }

    #[test]
    fn a_message_arrives_and_what_follows_stays_in_the_stream() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut sent = Vec::new();
        runtime.block_on(send(&mut sent, &Message::Nonce([3; 32]))).unwrap();
        sent.extend(b"GET /");
        let mut rest = sent.as_slice();
        let received = runtime.block_on(receive(&mut rest, &[Kind::Nonce], "a nonce")).unwrap();
        assert_eq!((received, rest), (Message::Nonce([3; 32]), b"GET /".as_slice()));
    }

    #[test]
    fn another_message_is_refused_before_its_body_is_read() {
        let error = nonce(&[2, 0, 0x30, 0]).unwrap_err();
        assert_eq!(error.to_string(), "a Document message, expected a nonce");
    }

    #[test]
    fn http_in_place_of_a_nonce_is_no_message() {
        let error = nonce(b"HTTP/1.1 400 Bad Request\r\n").unwrap_err();
        assert_eq!(error.to_string(), "a message of kind 72, expected 1 to 4");
    }

    #[test]
    fn a_message_cut_anywhere_is_a_connection_that_ended() {
        let whole = Message::Nonce([3; 32]).encode().unwrap();
        for len in 0..whole.len() {
            assert!(matches!(nonce(&whole[..len]), Err(ExchangeError::Connection(..))), "{len}");
        }
    }
}
