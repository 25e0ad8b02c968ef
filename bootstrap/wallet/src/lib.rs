//! The signer's client. Keys go encrypted into Secrets Manager; requests go to the enclave, which has to prove itself first.
//!
//! | module | what it owns |
//! |---|---|
//! | [`key_file`] | secret keys in files |
//! | [`aws`] | KMS encrypts, Secrets Manager keeps |
//! | [`key_policy`] | the KMS key's policy: only this enclave decrypts |
//! | [`trust`] | whether a document makes a connection the enclave's; no I/O |
//! | [`enclave`] | the connection, over TLS 1.3 |
//! | [`lambda`] | the same, asked for by AWS Lambda's events |

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has failed, as it should")
)]

pub mod aws;
pub mod enclave;
pub mod key_file;
pub mod key_policy;
pub mod lambda;
pub mod report;
pub mod tls;
pub mod trust;

mod http;
