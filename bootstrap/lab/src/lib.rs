//! A Nitro host on a laptop: parent and enclaves in QEMU on one vsock switch.
//!
//! [`Lab`] has the verbs of the command line as functions, for tests.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has failed"))]

mod authority;
mod bench;
pub mod cli;
mod console;
mod evidence;
mod fault;
mod host;
mod key_policy;
mod layout;
mod lock;
mod measured_config;
mod payload;
mod plan;
mod process;
mod programs;
mod progress;
mod project;
mod qemu;
mod rogue;
mod ssh;
mod transcript;
mod web_authority;

pub use console::Console;
pub use fault::FaultCommand;
pub use host::{
    Blind, Captures, Chain, Clients, Enclave, Handshake, Hub, Lab, More, Options, Parent, Prometheus, Proxy, Status,
    URL, Variant, Wallet,
};
pub use parent_vm::EnclaveId;
pub use qemu::TCG;
pub use rogue::Rogue;
pub use self_test::{Attempt, Command as Test, Direction, Report, Transport};
