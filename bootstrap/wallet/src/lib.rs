//! The signer's client. It stores encrypted keys in Secrets Manager, and sends requests to the enclave once it has verified it.
//!
//! | module | what it owns |
//! |---|---|
//! | [`key_file`] | secret keys in files |
//! | [`aws`] | encryption with KMS, storage in Secrets Manager |
//! | [`key_policy`] | the KMS key policy under which only this enclave decrypts |
//! | [`trust`] | verification of a connection by its document; no I/O |
//! | [`enclave`] | the connection, over TLS 1.3 |
//! | [`proxy`] | connections to enclaves, for this host's programs |
//! | [`hub`] | connections from enclaves that call home, for the same |
//! | [`pool`] | what these two have in common |
//! | [`lambda`] | the same as an AWS Lambda function |

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has failed"))]

pub mod aws;
pub mod enclave;
pub mod hub;
pub mod key_file;
pub mod key_policy;
pub mod lambda;
pub mod pool;
pub mod proxy;
pub mod report;
pub mod tls;
pub mod trust;

mod http;
