//! The service over real sockets: what a client sees, whatever it sends.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic fails the test")]

mod access;
mod documents;
mod endpoints;
mod harness;
mod home;
mod ledger;
mod limits;
mod memory;
mod nonces;
mod rpc;
mod windows;
