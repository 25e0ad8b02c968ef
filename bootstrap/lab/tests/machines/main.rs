//! Tests that need real kernels, in the lab's VMs.
//!
//! They share one lab and run one at a time: `cargo test --release --workspace --test machines -- --test-threads=1`.
//! Append a module's name to run only its tests.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that panics has failed"
)]

mod attestation;
mod aws;
mod blind;
mod boot;
mod clients;
mod deadlock;
mod drain;
mod faults;
mod home;
mod host_changes;
mod ledger;
mod lifecycle;
mod lists;
mod logs;
mod metrics;
mod monitoring;
mod nitro;
mod pages;
mod renewal;
mod services;
mod shared_lab;
mod shared_ledger;
mod signing;
mod traffic;
mod tunnel;
mod upgrade;
mod watchdog;
