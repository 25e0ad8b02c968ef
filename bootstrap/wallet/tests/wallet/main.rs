//! The wallet against an enclave, an AWS and a Lambda of the tests' own, over real sockets.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has failed")]

mod adopt;
mod aws;
mod cloud;
mod command;
mod enclave;
mod hub;
mod keys;
mod lambda;
mod migration;
mod program;
mod proxy;
mod real_signer;
mod server;
mod trust;

/// A published test key.
const KEY: &str = "4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318";
const ADDRESS: &str = "0x2c7536E3605D9C16a7a3D7b1898e529396a65c23";
/// Of a key policy.
const ADMIN: &str = "arn:aws:iam::111122223333:role/KeyAdmin";
const LAMBDA: &str = "arn:aws:iam::111122223333:role/WalletLambda";
const ROLE: &str = "arn:aws:iam::111122223333:role/EnclaveInstance";
