//! The service over real sockets: what a client sees, whatever it sends.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has failed, as it should")]

mod access;
mod documents;
mod endpoints;
mod harness;
mod limits;
mod memory;
mod nonces;
