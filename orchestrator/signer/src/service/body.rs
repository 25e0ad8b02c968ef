//! A request's body, copied into one buffer that grows to the limit and not beyond.
//!
//! The frames of a chunked body are the client's to choose, down to a byte each: none is kept.

use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::{Body as _, Bytes, Incoming};
use signer_api::RequestError;
use signer_api::request::MAX_BODY;
use thiserror::Error;
use tokio::time::{Duration, timeout};
use zeroize::Zeroizing;

use super::budget::{Budget, Room};
use super::failure::Failure;

/// A body that has arrived. It may hold credentials, so it is zeroed.
#[derive(Default)]
pub(super) struct Body {
    pub(super) bytes: Zeroizing<Vec<u8>>,
    /// What its client takes of the budget until its answer has left.
    pub(super) room: Room,
}

/// Why there is no body.
#[derive(Debug, Error)]
pub(super) enum BodyError {
    #[error("the body is too long, expected at most {MAX_BODY} bytes")]
    TooLong,
    #[error("no room for another long body; retry")]
    Busy,
    #[error("the body did not arrive within {0:?}")]
    Late(Duration),
    #[error("{0}, expected a whole body")]
    Broken(hyper::Error),
}

/// The first buffer; most bodies are shorter.
const FIRST: usize = 1024;

/// Reads all of `incoming`.
///
/// # Errors
/// Too long, too slow, broken off, or more than there is room for.
pub(super) async fn read(mut incoming: Incoming, budget: &Budget, limit: Duration) -> Result<Body, BodyError> {
    // What says that it is too long is not read at all.
    if incoming.size_hint().lower() > MAX_BODY as u64 {
        return Err(BodyError::TooLong);
    }
    let reading = async {
        let mut body = Body::default();
        while let Some(frame) = incoming.frame().await {
            // A trailer is of no use to anybody here.
            let Ok(data) = frame.map_err(BodyError::Broken)?.into_data() else { continue };
            body.append(&data, budget, MAX_BODY)?;
        }
        Ok(body)
    };
    timeout(limit, reading).await.unwrap_or(Err(BodyError::Late(limit)))
}

impl Body {
    /// Adds a part, if there is room and all of it is not longer than `max`.
    pub(super) fn append(&mut self, data: &Bytes, budget: &Budget, max: usize) -> Result<(), BodyError> {
        let len = self.bytes.len().saturating_add(data.len());
        if len > max {
            return Err(BodyError::TooLong);
        }
        if len > self.bytes.capacity() {
            let capacity = len.max(2 * self.bytes.capacity()).clamp(FIRST, max);
            if !budget.grow(&mut self.room, capacity) {
                return Err(BodyError::Busy);
            }
            // By hand: a Vec that grows by itself leaves its old bytes behind.
            let mut grown = Zeroizing::new(Vec::with_capacity(capacity));
            grown.extend_from_slice(&self.bytes);
            self.bytes = grown;
        }
        self.bytes.extend_from_slice(data);
        Ok(())
    }
}

impl From<BodyError> for Failure {
    fn from(error: BodyError) -> Self {
        let (status, code) = match error {
            BodyError::Broken(_) => return RequestError::new("body", error.to_string()).into(),
            BodyError::TooLong => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            BodyError::Busy => (StatusCode::TOO_MANY_REQUESTS, "busy"),
            BodyError::Late(_) => (StatusCode::REQUEST_TIMEOUT, "timeout"),
        };
        // The rest of a body that was not read is not read for the next request either.
        Self { ends_connection: true, ..Self::new(status, code, error.to_string()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_of_single_bytes_takes_one_buffer_within_its_limit() {
        let budget = Budget::new(MAX_BODY);
        let mut body = Body::default();
        for _ in 0..MAX_BODY {
            body.append(&Bytes::from_static(b"x"), &budget, MAX_BODY).unwrap();
        }
        assert_eq!((body.bytes.len(), body.bytes.capacity()), (MAX_BODY, MAX_BODY));
        assert!(matches!(body.append(&Bytes::from_static(b"x"), &budget, MAX_BODY), Err(BodyError::TooLong)));
    }

    #[test]
    fn a_body_is_what_arrived_whatever_its_pieces() {
        let text: Vec<u8> = (0..=u8::MAX).cycle().take(70_000).collect();
        for piece in [1, 7, 1024, 65_536] {
            let budget = Budget::new(MAX_BODY);
            let mut body = Body::default();
            for chunk in text.chunks(piece) {
                body.append(&Bytes::copy_from_slice(chunk), &budget, MAX_BODY).unwrap();
            }
            assert!(*body.bytes == text, "pieces of {piece}");
        }
    }
}
