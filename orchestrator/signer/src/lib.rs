//! The enclave's signer: it takes an Ethereum transaction as JSON over TLS that terminates here, and signs it if the measured
//! policy allows it.
//!
//! | module without I/O | what it owns |
//! |---|---|
//! | [`policy`] | what may be signed; a refusal names its rule |
//! | [`pool`] | transactions that no node would accept |
//! | [`nonces`] | which transaction a nonce has been spent on |
//! | [`windows`] | how much has been signed in a time |
//! | [`spent`] | both, spent at once |
//! | [`ledger`] | the same for all enclaves of a fleet, in a bucket that they share |
//! | [`permission`] | who may use which keys |
//! | [`explain`] | which rule decides about a request, on a host without keys |
//! | [`config`] | the `[signer]` table of the measured configuration |
//! | [`home`] | its `[[home]]` tables: the hubs that the signer calls |
//! | [`upstream`] | its `[signer.upstream]` tables: the nodes that it asks |
//!
//! Requests and answers are in [`signer_api`], for clients too. [`service::Service::serve`] is the shell around it all. The caller supplies keys,
//! documents and the bucket: [`keys::Keys`], [`keys::Attestor`] and [`ledger::Store`].

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        reason = "a panic fails the test"
    )
)]

pub mod config;
pub mod explain;
pub mod home;
pub mod keys;
pub mod ledger;
pub mod nonces;
pub mod permission;
pub mod policy;
pub mod pool;
pub mod service;
pub mod spent;
pub mod upstream;
pub mod windows;

mod cache;
mod metrics;
mod tls;
