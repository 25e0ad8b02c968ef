//! The hash of EIP-712, by alloy-dyn-abi. Its own reader of JSON is not used: it passes over members that a type does not have, takes
//! any spelling of a number, and does not know where in the data an error is.

use std::collections::BTreeMap;

use alloy_dyn_abi::DynSolValue;
use alloy_dyn_abi::eip712::{PropertyDef, Resolver as Inner, TypeDef};
use alloy_primitives::{I256, U256, keccak256};

use super::{Struct, TypedDataError, Value};

/// Types as alloy has them.
#[derive(Debug)]
pub(super) struct Resolver(Inner);

impl Resolver {
    /// Of definitions whose names have been checked.
    pub(super) fn new(definitions: &BTreeMap<String, Vec<(String, String)>>) -> Result<Self, TypedDataError> {
        let mut inner = Inner::default();
        for (name, members) in definitions {
            let property = |(name, text): &(String, String)| PropertyDef::new(text, name);
            let properties = members.iter().map(property).collect::<Result<_, _>>();
            let definition = properties.and_then(|properties| TypeDef::new(name, properties));
            inner.ingest(definition.map_err(|error| TypedDataError::new(name, error.to_string()))?);
        }
        Ok(Self(inner))
    }

    /// The hash of a type's description, and its length.
    pub(super) fn describe(&self, name: &str) -> Result<([u8; 32], usize), TypedDataError> {
        let description = self.0.encode_type(name).map_err(|error| TypedDataError::new(name, error.to_string()))?;
        Ok((keccak256(&description).0, description.len()))
    }

    /// The description of the message's type, and what is signed.
    pub(super) fn hash(&self, domain: &Struct, message: &Struct) -> Result<(String, [u8; 32]), TypedDataError> {
        let error = |error: alloy_dyn_abi::Error| TypedDataError::new("message", error.to_string());
        let hash = |value: &Struct| self.0.eip712_data_word(&structure(value)).map_err(error);
        let bytes = [&[0x19, 1], hash(domain)?.as_slice(), hash(message)?.as_slice()].concat();
        Ok((self.0.encode_type(message.name()).map_err(error)?, keccak256(bytes).0))
    }
}

fn structure(value: &Struct) -> DynSolValue {
    // The members' names are in the types already.
    let (name, prop_names) = (value.name().to_owned(), Vec::new());
    DynSolValue::CustomStruct { name, prop_names, tuple: value.values.iter().map(dynamic).collect() }
}

fn dynamic(value: &Value) -> DynSolValue {
    let number = |bytes| U256::from_be_bytes::<32>(bytes);
    match value {
        Value::Uint(value) => DynSolValue::Uint(number(value.to_be_bytes()), 256),
        Value::Int(value) => DynSolValue::Int(I256::from_raw(number(value.to_be_bytes())), 256),
        Value::Bool(is_so) => DynSolValue::Bool(*is_so),
        Value::Address(address) => DynSolValue::Address(address.0.into()),
        Value::FixedBytes(bytes) => {
            let mut word = [0; 32];
            word.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            DynSolValue::FixedBytes(word.into(), bytes.len())
        }
        Value::Bytes(bytes) => DynSolValue::Bytes(bytes.clone()),
        Value::String(text) => DynSolValue::String(text.clone()),
        Value::Array(values) => DynSolValue::Array(values.iter().map(dynamic).collect()),
        Value::Struct(value) => structure(value),
    }
}
