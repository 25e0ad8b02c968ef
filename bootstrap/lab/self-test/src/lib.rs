//! Bounded, hashed test traffic between two hosts: the lab's proof that the tunnel carries data intact.
//!
//! ```text
//! driver (lab, on the parent)          agent (in the enclave)             server (lab's internet)
//!    | one command, one JSON line  ->  |                                      |
//!    |                                 |  <- bytes, datagrams, round trips -> |
//!    |  <- one report, one JSON line   |                                      |
//! ```
//!
//! The agent serves nothing but the commands of [`command`], each bounded in bytes, time and number at once.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic fails the test"))]

pub mod agent;
pub mod command;
mod datagram;
pub mod driver;
mod flood;
mod line;
mod pattern;
mod reach;
mod resolve;
pub mod server;
mod stream;
mod udp;

pub use command::{Attempt, Command, Direction, Report, Transport};
pub use flood::flood;
