//! The enclave's signer: an Ethereum transaction goes in as JSON over TLS that ends here, a signature comes out if the
//! measured policy allows it.
//!
//! | inside, without I/O | what it owns |
//! |---|---|
//! | [`policy`] | what may be signed; a refusal names its rule |
//! | [`pool`] | what no node would take |
//! | [`nonces`] | which transaction a nonce has been spent on |
//! | [`permission`] | who may use which keys |
//! | [`config`] | the `[signer]` table of the measured configuration |
//!
//! Requests and answers are in [`signer_api`], for clients too. [`service::Service::serve`] is the shell around it all. Where keys come from is the caller's: [`keys::Keys`] and [`keys::Attestor`].

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        reason = "a test that panics has failed, as it should"
    )
)]

pub mod config;
pub mod keys;
pub mod nonces;
pub mod permission;
pub mod policy;
pub mod pool;
pub mod service;

mod cache;
mod metrics;
mod tls;
