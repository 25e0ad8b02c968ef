//! A stand-in for AWS KMS in the lab and in tests. Like KMS, it verifies requests' signatures and attestation
//! documents, evaluates key policies, binds ciphertexts to their encryption context, and encrypts answers to attested
//! requests.
//!
//! ```no_run
//! # async fn example(tls: std::sync::Arc<rustls::ServerConfig>) -> anyhow::Result<()> {
//! use kms_stand_in::{Config, Server, StandIn};
//!
//! let config = Config::read("kms.toml".as_ref())?;
//! let server = Server::bind("127.0.0.1:0".parse()?, tls, StandIn::new(config)?.into()).await?;
//! println!("https://{}", server.address());
//! server.run().await?;
//! # Ok(())
//! # }
//! ```
//!
//! It refuses policies, parameters and operations of KMS that it does not support. It does not protect secrets, but it
//! does not log them.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic fails the test"))]

mod access_key;
mod arn;
mod blob;
mod cms;
mod config;
mod context;
mod failure;
mod fault;
mod key;
mod log;
mod operation;
mod pairs;
mod policy;
mod recipient;
mod server;
mod service;
mod signature;
#[cfg(test)]
mod test_client;
pub mod tls;

pub use config::{Config, Tls};
pub use fault::{Fault, Faults};
pub use server::Server;
pub use service::{Answer, StandIn};
