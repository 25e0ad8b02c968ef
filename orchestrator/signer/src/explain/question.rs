//! What is asked for, in either form of a body.

use anyhow::{Context, Result, bail, ensure};
use ethereum::address::Address;
use ethereum::signable::Signable;
use signer_api::key::KeyReference;
use signer_api::request::SignRequest;
use signer_api::rpc::{Body, Call, Signing, TransactionCall, is_rpc};

use crate::config::Config;

/// A request to sign.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) subject: Signable,
    pub(super) key: Key,
}

/// How a request names its key.
#[derive(Debug)]
pub(super) enum Key {
    /// In the signer's own form.
    Reference(KeyReference),
    /// In JSON-RPC: `from`.
    Account(Address),
}

impl Question {
    /// Reads a body of `POST /`.
    ///
    /// # Errors
    /// It is none, or asks for no signature.
    pub(super) fn read(config: &Config, body: &[u8]) -> Result<Self> {
        if !is_rpc(body) {
            let SignRequest { subject, key, .. } = SignRequest::parse(body).context("the request")?;
            return Ok(Self { subject, key: Key::Reference(key) });
        }
        let text = match Body::parse(body) {
            Ok(Body::Single(text)) => text,
            Ok(Body::Batch(calls)) => bail!("the request: a batch of {}, expected one call", calls.len()),
            Err(error) => bail!("the request: {}", error.message),
        };
        let call = match Call::parse(text) {
            Ok(call) => call,
            Err(malformed) => bail!("the request: {}", malformed.error.message),
        };
        Self::of_call(config, &call).with_context(|| format!("the request, {}", signer_api::shown(&call.method)))
    }

    fn of_call(config: &Config, call: &Call<'_>) -> Result<Self> {
        if let Some(signing) = Signing::of_method(&call.method, call.params) {
            let Signing { from, subject } = signing?;
            return Ok(Self { subject, key: Key::Account(from) });
        }
        let is_transaction = ["eth_signTransaction", "eth_sendTransaction", "account_signTransaction"];
        ensure!(is_transaction.contains(&&*call.method), "it signs nothing, expected a method that does");
        let call = TransactionCall::read(call.params)?;
        let mut chains = config.policy.chain_ids().into_iter();
        let only_chain = chains.next().filter(|_| chains.next().is_none());
        let from = call.from;
        Ok(Self { subject: Signable::Transaction(call.transaction(only_chain)?), key: Key::Account(from) })
    }
}
