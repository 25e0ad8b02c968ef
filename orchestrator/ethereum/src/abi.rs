//! Calls of contracts: a declared function, and calldata as its arguments, read strictly.
//!
//! Solidity's ABI leaves room that contracts read in different ways: other offsets, unused bits, bytes behind the end. None of it is
//! read here. Calldata has to be what encoding its own arguments gives, byte for byte.
//!
//! alloy-dyn-abi is known here and nowhere else, and [`layout`] bounds what it is given: an offset that points back would have it read
//! the same bytes any number of times.

mod layout;
mod signature;

use std::fmt;

use alloy_dyn_abi::{DynSolType, DynSolValue};
use alloy_primitives::keccak256;
use thiserror::Error;

use crate::address::Address;
use crate::number::{Int, Uint};

pub use signature::SignatureError;

/// A declared function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name and the types of its arguments: `transfer(address,uint256)`.
    pub signature: String,
    /// The first four bytes of its calldata.
    pub selector: [u8; 4],
    /// In order; each has a name of its own.
    pub parameters: Vec<Parameter>,
    arguments: DynSolType,
}

/// A type of EIP-712, with the types that it is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StructType {
    /// Its own name.
    pub name: String,
    /// As EIP-712's `encodeType` has it. The same text is the same type.
    pub description: String,
    /// In order; a field of another of the types is a tuple.
    pub fields: Vec<Parameter>,
}

/// An argument of a function, or a field of a tuple.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// As it was declared.
    pub name: String,
    /// What it holds.
    pub ty: Type,
}

/// The types of arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// `address`
    Address,
    /// `bool`
    Bool,
    /// `uint8` to `uint256`, with its bits
    Uint(usize),
    /// `int8` to `int256`, with its bits
    Int(usize),
    /// `bytes1` to `bytes32`, with its length
    FixedBytes(usize),
    /// `bytes`
    Bytes,
    /// `string`
    String,
    /// `T[]`, or `T[N]` with its length
    Array(Box<Type>, Option<usize>),
    /// `(T name, …)`
    Tuple(Vec<Parameter>),
}

/// A value of one of the types.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// Of `address`.
    Address(Address),
    /// Of `bool`.
    Bool(bool),
    /// Of `uintN`.
    Uint(Uint),
    /// Of `intN`.
    Int(Int),
    /// Of `bytesN` and `bytes`.
    Bytes(Vec<u8>),
    /// Of `string`.
    String(String),
    /// Of arrays and tuples, in order.
    List(Vec<Value>),
}

/// Why calldata is not a call of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// Another function's.
    #[error("it has another selector")]
    Selector,
    /// An offset or a length is not what an encoder writes, or bytes are missing or left over.
    #[error("its offsets, lengths and size are not those of its arguments in standard ABI encoding")]
    Layout,
    /// Padding that is not zero, a number with more bits than its type, a `bool` that is not 0 or 1, text that is not UTF-8.
    #[error("an argument has bits that its type does not have")]
    Bits,
}

impl Function {
    /// The arguments of a call.
    ///
    /// # Errors
    /// Calldata that is not their only standard encoding.
    pub fn decode(&self, calldata: &[u8]) -> Result<Vec<Value>, DecodeError> {
        let data = calldata.strip_prefix(&self.selector).ok_or(DecodeError::Selector)?;
        if layout::len(self.parameters.iter().map(|parameter| &parameter.ty), data) != Some(data.len()) {
            return Err(DecodeError::Layout);
        }
        let decoded = self.arguments.abi_decode_params(data).map_err(|_layout| DecodeError::Layout)?;
        if decoded.abi_encode_params() != data {
            return Err(DecodeError::Bits);
        }
        let DynSolValue::Tuple(decoded) = decoded else { return Err(DecodeError::Layout) };
        decoded.into_iter().map(|value| Value::checked(value).ok_or(DecodeError::Bits)).collect()
    }

    fn new(name: &str, parameters: Vec<Parameter>) -> Self {
        let signature = format!("{name}{}", listed(&parameters));
        let [first, second, third, fourth, ..] = keccak256(signature.as_bytes()).0;
        let arguments = DynSolType::Tuple(parameters.iter().map(|parameter| parameter.ty.dynamic()).collect());
        Self { signature, selector: [first, second, third, fourth], parameters, arguments }
    }
}

/// `(address,uint256)`
fn listed(parameters: &[Parameter]) -> String {
    let types: Vec<String> = parameters.iter().map(|parameter| parameter.ty.to_string()).collect();
    format!("({})", types.join(","))
}

impl Type {
    fn dynamic(&self) -> DynSolType {
        match self {
            Self::Address => DynSolType::Address,
            Self::Bool => DynSolType::Bool,
            Self::Uint(bits) => DynSolType::Uint(*bits),
            Self::Int(bits) => DynSolType::Int(*bits),
            Self::FixedBytes(len) => DynSolType::FixedBytes(*len),
            Self::Bytes => DynSolType::Bytes,
            Self::String => DynSolType::String,
            Self::Array(element, None) => DynSolType::Array(Box::new(element.dynamic())),
            Self::Array(element, Some(len)) => DynSolType::FixedArray(Box::new(element.dynamic()), *len),
            Self::Tuple(fields) => DynSolType::Tuple(fields.iter().map(|field| field.ty.dynamic()).collect()),
        }
    }
}

impl fmt::Display for Type {
    /// As in a signature. alloy's names of tuples with one field end in a comma, which no contract's do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address => f.write_str("address"),
            Self::Bool => f.write_str("bool"),
            Self::Uint(bits) => write!(f, "uint{bits}"),
            Self::Int(bits) => write!(f, "int{bits}"),
            Self::FixedBytes(len) => write!(f, "bytes{len}"),
            Self::Bytes => f.write_str("bytes"),
            Self::String => f.write_str("string"),
            Self::Array(element, None) => write!(f, "{element}[]"),
            Self::Array(element, Some(len)) => write!(f, "{element}[{len}]"),
            Self::Tuple(fields) => f.write_str(&listed(fields)),
        }
    }
}

impl Value {
    /// alloy keeps all 32 bytes of numbers and of `bytesN`: encoding them again shows no bit that is too many.
    fn checked(value: DynSolValue) -> Option<Self> {
        let list =
            |values: Vec<DynSolValue>| values.into_iter().map(Self::checked).collect::<Option<_>>().map(Self::List);
        match value {
            DynSolValue::Address(address) => Some(Self::Address(Address(address.into_array()))),
            DynSolValue::Bool(is_true) => Some(Self::Bool(is_true)),
            DynSolValue::Uint(number, bits) => {
                Some(Uint::from_be_bytes(number.to_be_bytes())).filter(|number| number.fits(bits)).map(Self::Uint)
            }
            DynSolValue::Int(number, bits) => {
                Some(Int::from_be_bytes(number.to_be_bytes())).filter(|number| number.fits(bits)).map(Self::Int)
            }
            DynSolValue::FixedBytes(word, len) => {
                let (bytes, padding) = word.split_at_checked(len)?;
                padding.iter().all(|byte| *byte == 0).then(|| Self::Bytes(bytes.to_vec()))
            }
            DynSolValue::Bytes(bytes) => Some(Self::Bytes(bytes)),
            DynSolValue::String(text) => Some(Self::String(text)),
            DynSolValue::Array(values) | DynSolValue::FixedArray(values) | DynSolValue::Tuple(values) => list(values),
            // No declared function has them.
            DynSolValue::Function(_) | DynSolValue::CustomStruct { .. } => None,
        }
    }
}

impl fmt::Display for Value {
    /// Long ones are cut.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONGEST: usize = 64;
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Bool(is_true) => write!(f, "{is_true}"),
            Self::Uint(number) => write!(f, "{number}"),
            Self::Int(number) => write!(f, "{number}"),
            Self::Bytes(bytes) => match bytes.get(..LONGEST) {
                Some(start) if bytes.len() > LONGEST => {
                    write!(f, "{}… ({} bytes)", crate::hex::prefixed(start), bytes.len())
                }
                _ => f.write_str(&crate::hex::prefixed(bytes)),
            },
            Self::String(text) => {
                let start: String = text.chars().take(LONGEST).collect();
                let rest = if start.len() < text.len() { "…" } else { "" };
                write!(f, "\"{}{rest}\"", start.escape_debug())
            }
            Self::List(values) => write!(f, "a list of {}", values.len()),
        }
    }
}

#[cfg(test)]
mod tests;
