//! The hash of EIP-712 by hand, with each type's hash as it was reckoned once. alloy's is checked against it.

use ethers_core::utils::keccak256;

use super::{Struct, Value};

/// In front of the domain's hash and the message's (EIP-191, version 1).
const PREFIX: [u8; 2] = [0x19, 1];

pub(super) fn of(domain: &Struct, message: &Struct) -> [u8; 32] {
    keccak256([PREFIX.as_slice(), &hash_struct(domain), &hash_struct(message)].concat())
}

fn hash_struct(value: &Struct) -> [u8; 32] {
    let mut bytes = value.definition.type_hash.to_vec();
    value.values.iter().for_each(|value| bytes.extend(word(value)));
    keccak256(bytes)
}

fn word(value: &Value) -> [u8; 32] {
    let mut word = [0; 32];
    match value {
        Value::Uint(number) => word = number.to_be_bytes(),
        Value::Int(number) => word = number.to_be_bytes(),
        Value::Bool(is_so) => word[31] = u8::from(*is_so),
        Value::Address(address) => word[12..].copy_from_slice(&address.0),
        Value::FixedBytes(bytes) => word.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from),
        Value::Bytes(bytes) => word = keccak256(bytes),
        Value::String(text) => word = keccak256(text),
        Value::Array(values) => word = keccak256(values.iter().map(self::word).collect::<Vec<_>>().concat()),
        Value::Struct(value) => word = hash_struct(value),
    }
    word
}
