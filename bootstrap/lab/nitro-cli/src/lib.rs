//! The stand-in for nitro-cli on the lab's parent. Verbs, arguments, JSON, error numbers and exit statuses are those
//! of aws-nitro-enclaves-cli 1.4. The lab's host does what AWS's driver and hypervisor do.
//!
//! `run-enclave` leaves one process, which holds the enclave: if one ends, so does the other. The other verbs send
//! commands to these processes, over their sockets in `/run/nitro_enclaves`.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic, reason = "a test that panics has failed"))]

pub mod cli;
mod command;
mod eif;
mod failure;
mod heartbeat;
pub mod hypervisor;
mod log;
mod process;
mod run;
mod sockets;
