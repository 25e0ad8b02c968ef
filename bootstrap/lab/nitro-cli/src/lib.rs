//! nitro-cli for the lab's parent. Verbs, arguments, JSON, error numbers and exit statuses are those of aws-nitro-enclaves-cli 1.4;
//! only what its driver does with the hypervisor, the lab does.
//!
//! `run-enclave` leaves one process, which holds the enclave: it ends with it, and the enclave with the process. The other verbs ask
//! these processes, by their sockets in `/run/nitro_enclaves`.

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
