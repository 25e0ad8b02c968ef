//! Rules for typed data (EIP-712).
//!
//! ```toml
//! [[signer.policy.typed_data]]
//! chain_id = 1                                                               # the domain's chainId
//! verifying_contract = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48"            # the domain's verifyingContract
//! type = "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"
//! fields = { owner = "any", spender = ["0x…"], value = { max = "1000", decimals = 6, is_payment = true }, nonce = "any", deadline = "any" }
//! ```
//!
//! `type` is what EIP-712 calls `encodeType`: the primary type, and behind it the types that it is made of, by name. A message of another
//! type is another message, however similar. Each field has to pass its rule, see [`super::argument`]. A payment without `token` is in
//! the verifying contract's token, as for the permits of EIP-2612. Those of Permit2 name the field: `token = "token"`.
//!
//! Without a rule for its domain and type, typed data is refused.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use ethereum::abi::{StructType, Value};
use ethereum::address::Address;
use ethereum::transaction::MAX_CHAIN_ID;
use ethereum::typed_data::{self, TypedData};
use serde::Deserialize;

use super::argument::{Argument, Payment};
use super::written::Written;

/// Empty: no typed data is signed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Messages(Vec<Message>);

/// What may be signed for one contract of one type.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Message {
    chain_id: u64,
    contract: Address,
    ty: StructType,
    fields: Vec<(String, Argument)>,
}

/// `[[signer.policy.typed_data]]` as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MessageTable {
    chain_id: u64,
    verifying_contract: String,
    #[serde(rename = "type")]
    ty: String,
    fields: BTreeMap<String, Written>,
}

impl Messages {
    /// Reads the tables at `path`.
    ///
    /// # Errors
    /// One sentence with the key and what is expected.
    pub(super) fn read(path: &str, tables: &[MessageTable]) -> Result<Self> {
        ensure!(!tables.is_empty(), "{path}: an empty list, expected tables or no such key");
        let mut messages: Vec<Message> = Vec::new();
        for (at, table) in tables.iter().enumerate() {
            let path = format!("{path}[{at}]");
            let message = table.read(&path)?;
            ensure!(
                !messages.iter().any(|other| other.is_about(
                    message.chain_id,
                    message.contract,
                    &message.ty.description
                )),
                "{path}: the same chain, contract and type as in another table, expected each once"
            );
            messages.push(message);
        }
        Ok(Self(messages))
    }

    /// Whether any field may be a payment.
    pub(super) fn pay(&self) -> bool {
        self.0.iter().any(|message| Argument::pays(&message.fields))
    }

    /// Judges a message.
    pub(super) fn check(&self, data: &TypedData) -> Result<(), String> {
        if self.0.is_empty() {
            return Err("no typed data is signed".to_owned());
        }
        let name = data.primary_type();
        let (Some(chain_id), Some(contract)) = (chain_id(data), data.domain().verifying_contract) else {
            return Err(format!("{name}: its domain has no chainId or no verifyingContract, expected both"));
        };
        let Some(message) = self.find(data) else {
            let known = self.0.iter().filter(|message| message.contract == contract && message.chain_id == chain_id);
            let known: Vec<_> = known.map(|message| message.ty.description.as_str()).collect();
            let expected = if known.is_empty() { "another contract or chain".to_owned() } else { known.join(" or ") };
            return Err(format!(
                "{} for {contract} on chain {chain_id} has no rule, expected {expected}",
                data.description()
            ));
        };
        let checked = Argument::check_all(&message.fields, "", &values(data.message()));
        checked.map_err(|problem| format!("{name} for {contract} on chain {chain_id}: {problem}"))
    }

    /// What a message pays, as its rules say.
    pub(super) fn payments(&self, data: &TypedData) -> Vec<Payment> {
        let mut payments = Vec::new();
        if let Some(message) = self.find(data) {
            Argument::payments(&message.fields, &values(data.message()), message.contract, &mut payments);
        }
        payments
    }

    fn find(&self, data: &TypedData) -> Option<&Message> {
        let (chain_id, contract) = (chain_id(data)?, data.domain().verifying_contract?);
        self.0.iter().find(|message| message.is_about(chain_id, contract, data.description()))
    }
}

impl Message {
    fn is_about(&self, chain_id: u64, contract: Address, description: &str) -> bool {
        (self.chain_id, self.contract, self.ty.description.as_str()) == (chain_id, contract, description)
    }
}

impl MessageTable {
    fn read(&self, path: &str) -> Result<Message> {
        let chain_id = self.chain_id;
        ensure!(
            (1..=MAX_CHAIN_ID).contains(&chain_id),
            "{path}.chain_id: {chain_id} is not a chain id, expected 1 to {MAX_CHAIN_ID}"
        );
        let contract = &self.verifying_contract;
        let contract =
            contract.parse().with_context(|| format!("{path}.verifying_contract: `{}`", contract.escape_debug()))?;
        let ty: StructType = self.ty.parse().with_context(|| format!("{path}.type"))?;
        let fields = Argument::read_all(&format!("{path}.fields"), &self.fields, &ty.fields)?;
        Ok(Message { chain_id, contract, ty, fields })
    }
}

/// The chain of the domain, if it is one.
pub(super) fn chain_id(data: &TypedData) -> Option<u64> {
    data.domain().chain_id?.to_u128()?.try_into().ok()
}

/// The fields of a struct in the order of its type.
fn values(of: &typed_data::Struct) -> Vec<Value> {
    of.iter().map(|(_, field)| value(field)).collect()
}

fn value(of: &typed_data::Value) -> Value {
    match of {
        typed_data::Value::Uint(number) => Value::Uint(*number),
        typed_data::Value::Int(number) => Value::Int(*number),
        typed_data::Value::Bool(is_true) => Value::Bool(*is_true),
        typed_data::Value::Address(address) => Value::Address(*address),
        typed_data::Value::FixedBytes(bytes) | typed_data::Value::Bytes(bytes) => Value::Bytes(bytes.clone()),
        typed_data::Value::String(text) => Value::String(text.clone()),
        typed_data::Value::Array(elements) => Value::List(elements.iter().map(value).collect()),
        typed_data::Value::Struct(fields) => Value::List(values(fields)),
    }
}

#[cfg(test)]
mod tests;
