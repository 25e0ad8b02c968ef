//! How much memory clients can make the service hold.
//!
//! | what | for each | at most |
//! |---|---|---|
//! | a connection's buffers, see [`PER_CONNECTION`] | connection | 280 KiB |
//! | buffers towards a service, see [`PER_SERVICE`] | connection to a hub | 96 KiB |
//! | bodies longer than [`ORDINARY_BODY`], and what is made of them until the answer has left | all together | [`BODIES`], 32 MiB |
//! | an answer of an upstream, as it came and as it is passed on, and its connection | question under way, and connection kept | [`UPSTREAMS`], 29 MiB |
//! | a request while it is read and signed, which is done for one at a time | process | [`TRANSIENT`], 16 MiB |
//!
//! [`MOST_MEMORY`] is their sum, 241 MiB: 512 connections, 64 that end, and 16 to hubs. The signer's process may have 640 MiB: an allocation beyond would end it, and
//! with it what it remembers of nonces.

use std::sync::Arc;

use hyper::body::Bytes;
use signer_api::request::MAX_BODY;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{turns, upstream};
use crate::home;

/// Connections at once.
pub(super) const CONNECTIONS: usize = 512;

/// Connections that have been told to end and have not yet.
pub(super) const ENDING: usize = 64;

/// The longest head of a request; a longer one is refused with 431.
pub(super) const MAX_HEAD: usize = 16 * KIB;

/// Lines of a request's head.
pub(super) const MAX_HEADERS: usize = 100;

/// What a TLS session may hold of what it sends. The longest record fits.
pub(super) const TLS_OUT: usize = 16 * KIB;

/// A body up to here takes no room of [`BODIES`]: whoever fills that delays no ordinary request.
pub(super) const ORDINARY_BODY: usize = 16 * KIB;

/// The longest answer of a service to a hub; it takes room of [`BODIES`] as a body does.
pub(super) const MAX_SERVICE_ANSWER: usize = 2 * MAX_BODY;

/// For all longer bodies together.
pub(super) const BODIES: usize = 32 * MIB;

/// The most memory that clients can make the service hold, whatever they send and however they read.
pub const MOST_MEMORY: usize = (CONNECTIONS + ENDING + home::MAX_ALL) * PER_CONNECTION
    + home::MAX_ALL * PER_SERVICE
    + BODIES
    + UPSTREAMS
    + TRANSIENT;

/// What one connection holds.
const PER_CONNECTION: usize = {
    // rustls keeps a handshake message of up to 64 KiB, one record as it came, and one that is opened.
    let tls = 64 * KIB + 18 * KIB + TLS_OUT;
    // hyper's buffer for heads doubles as it grows, and a frame may keep the one before alive; it writes into 8 KiB.
    let http = 3 * MAX_HEAD + 8 * KIB;
    // 100 names and values, hashed.
    let headers = 16 * KIB;
    // The longest without a room of its own: a document in base64.
    let answer = 32 * KIB;
    // The state of the connection and of its request.
    let task = 46 * KIB;
    // What JSON-RPC has read of an ordinary body, beside the body.
    let parsed = ORDINARY_BODY;
    tls + http + headers + answer + ORDINARY_BODY + parsed + task
};

/// Questions to upstreams that are under way, and connections that are kept for the next ones.
const UPSTREAMS: usize = turns::UNDER_WAY * (2 * upstream::MAX_ANSWER + UPSTREAM_CONNECTION)
    + crate::upstream::MAX_UPSTREAMS * upstream::IDLE * UPSTREAM_CONNECTION;

/// TLS and HTTP as above, but for the answer.
const UPSTREAM_CONNECTION: usize = 64 * KIB + 18 * KIB + TLS_OUT + 3 * MAX_HEAD + 8 * KIB + 16 * KIB;
/// As above: a service has hyper's buffers without TLS, and its answer a first part without room.
const PER_SERVICE: usize = 3 * MAX_HEAD + 8 * KIB + 16 * KIB + ORDINARY_BODY + 8 * KIB;

/// A body of nothing but `0,` becomes 4 MiB of references, and its copies as it grows are two at a time.
const TRANSIENT: usize = 16 * MIB;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

const _: () = assert!(
    PER_CONNECTION <= 280 * KIB && PER_SERVICE <= 96 * KIB && UPSTREAMS <= 29 * MIB && MOST_MEMORY <= 241 * MIB,
    "the table above says otherwise"
);
const _: () = assert!(BODIES >= 2 * MAX_BODY, "one client's body could keep everybody else's out");

/// Room for long bodies, shared by all connections.
#[derive(Clone)]
pub(super) struct Budget(Arc<Semaphore>);

/// What a request holds of it; given back when it is dropped.
#[derive(Default)]
pub(super) struct Room {
    permit: Option<OwnedSemaphorePermit>,
    /// In KiB.
    held: u32,
}

impl Budget {
    /// Of so many bytes.
    pub(super) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes / KIB)))
    }

    /// Makes `room` large enough for a buffer of `bytes`. False: there is not that much left.
    #[must_use]
    pub(super) fn grow(&self, room: &mut Room, bytes: usize) -> bool {
        let wanted = bytes.saturating_sub(ORDINARY_BODY).div_ceil(KIB);
        let Ok(wanted) = u32::try_from(wanted) else { return false };
        let Some(more) = wanted.checked_sub(room.held).filter(|more| *more > 0) else { return true };
        let Ok(permit) = Arc::clone(&self.0).try_acquire_many_owned(more) else { return false };
        match &mut room.permit {
            Some(held) => held.merge(permit),
            none @ None => *none = Some(permit),
        }
        room.held = wanted;
        true
    }
}

impl Room {
    /// An answer that holds this room until hyper has handed its last byte to TLS.
    pub(super) fn hold(self, answer: Vec<u8>) -> Bytes {
        struct Held {
            answer: Vec<u8>,
            _room: Room,
        }
        impl AsRef<[u8]> for Held {
            fn as_ref(&self) -> &[u8] {
                &self.answer
            }
        }
        Bytes::from_owner(Held { answer, _room: self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_the_budget_is_not_given_and_comes_back_when_it_is_dropped() {
        let budget = Budget::new(64 * KIB);
        let (mut first, mut second) = (Room::default(), Room::default());
        assert!(budget.grow(&mut first, ORDINARY_BODY + 40 * KIB));
        assert!(!budget.grow(&mut second, ORDINARY_BODY + 25 * KIB));
        assert!(budget.grow(&mut second, ORDINARY_BODY + 24 * KIB));
        // To grow takes the difference only, and to shrink gives nothing back.
        assert!(!budget.grow(&mut first, ORDINARY_BODY + 41 * KIB));
        assert!(budget.grow(&mut first, 1));
        let answer = second.hold(vec![1; 3]);
        assert!(!budget.grow(&mut first, ORDINARY_BODY + 41 * KIB), "an answer that has not left gave its room back");
        drop(answer);
        assert!(budget.grow(&mut first, ORDINARY_BODY + 64 * KIB));
    }

    #[test]
    fn an_ordinary_body_needs_no_room() {
        let budget = Budget::new(0);
        let mut room = Room::default();
        assert!(budget.grow(&mut room, ORDINARY_BODY));
        assert!(!budget.grow(&mut room, ORDINARY_BODY + 1));
    }
}
