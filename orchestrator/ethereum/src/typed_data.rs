//! Typed data of EIP-712: what a wallet shows as fields and an account signs as one hash.
//!
//! | part | what it owns |
//! |---|---|
//! | `types` | the types that the data brings along, each checked and resolved |
//! | `alloy` | the hash, by alloy-dyn-abi |
//! | `hash` | the same hash by hand, against which alloy's is checked before a signature leaves |
//!
//! A value is only ever made for its type, so that what a policy reads is what is hashed.

mod alloy;
mod hash;
mod types;

use std::sync::Arc;

use thiserror::Error;

use crate::address::Address;
use crate::number::{Int, Uint};

pub use types::{MAX_DEPTH, Member, StructType, Type, Types};

/// The type of a domain.
pub const DOMAIN: &str = "EIP712Domain";

/// Values in a domain and its message together, so that what is made of a request stays small.
pub const MAX_VALUES: usize = 2048;

/// For each struct in the data, alloy hashes the description of its type once more. All of them together, in bytes.
const MAX_DESCRIPTIONS: usize = 8 << 20;

/// Typed data, checked and hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypedData {
    domain: Domain,
    domain_values: Struct,
    message: Struct,
    description: String,
    hash: [u8; 32],
}

/// Whom typed data is for: the fields of its domain, those that it has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Domain {
    /// `name`, of the application or protocol.
    pub name: Option<String>,
    /// `version`
    pub version: Option<String>,
    /// `chainId`
    pub chain_id: Option<Uint>,
    /// `verifyingContract`
    pub verifying_contract: Option<Address>,
    /// `salt`
    pub salt: Option<[u8; 32]>,
}

/// A struct's values, in the order of its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Struct {
    definition: Arc<StructType>,
    values: Vec<Value>,
}

/// A value of its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `uint8` to `uint256`
    Uint(Uint),
    /// `int8` to `int256`
    Int(Int),
    /// `bool`
    Bool(bool),
    /// `address`
    Address(Address),
    /// `bytes1` to `bytes32`
    FixedBytes(Vec<u8>),
    /// `bytes`
    Bytes(Vec<u8>),
    /// `string`
    String(String),
    /// `T[]` and `T[n]`
    Array(Vec<Value>),
    /// A struct of the data's own types.
    Struct(Struct),
}

/// What is wrong with typed data.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{path}: {problem}")]
pub struct TypedDataError {
    /// Where in the data.
    pub path: String,
    /// What is wrong and what would be right.
    pub problem: String,
}

impl TypedDataError {
    fn new(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { path: path.into(), problem: problem.into() }
    }
}

impl TypedData {
    /// Hashes a message of `types` for a domain of `types`.
    ///
    /// # Errors
    /// The domain or the message is of other types, or the data is too large to hash.
    pub fn new(types: &Types, primary_type: &str, domain: Struct, message: Struct) -> Result<Self, TypedDataError> {
        let is_of = |name: &str, value: &Struct| {
            types.get(name).is_some_and(|definition| Arc::ptr_eq(definition, &value.definition))
        };
        if !is_of(DOMAIN, &domain) {
            return Err(TypedDataError::new("domain", format!("of another type, expected {DOMAIN}")));
        }
        if primary_type == DOMAIN || !is_of(primary_type, &message) {
            return Err(TypedDataError::new("message", "of another type, expected primaryType"));
        }
        let descriptions = domain.descriptions().saturating_add(message.descriptions());
        if descriptions > MAX_DESCRIPTIONS {
            let problem = format!(
                "the descriptions of all its structs' types have {descriptions} bytes, expected at most {MAX_DESCRIPTIONS}"
            );
            return Err(TypedDataError::new("message", problem));
        }
        let (description, hash) = types.hash(&domain, &message)?;
        Ok(Self { domain: Domain::of(&domain), domain_values: domain, message, description, hash })
    }

    /// Whom it is for.
    #[must_use]
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// The name of the message's type.
    #[must_use]
    pub fn primary_type(&self) -> &str {
        &self.message.definition.name
    }

    /// The message's type with all that it is made of (EIP-712, `encodeType`), such as `Mail(Person to,string contents)Person(…)`.
    /// The same text is the same type.
    #[must_use]
    pub fn description(&self) -> &str {
        &self.description
    }

    /// What is agreed to.
    #[must_use]
    pub fn message(&self) -> &Struct {
        &self.message
    }

    /// What is signed.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        self.hash
    }

    /// The same by hand.
    pub(crate) fn hash_again(&self) -> [u8; 32] {
        hash::of(&self.domain_values, &self.message)
    }
}

impl Domain {
    /// Whatever else a domain had is refused with its type.
    fn of(values: &Struct) -> Self {
        let mut domain = Self::default();
        for (member, value) in values.iter() {
            match (member.name.as_str(), value) {
                ("name", Value::String(name)) => domain.name = Some(name.clone()),
                ("version", Value::String(version)) => domain.version = Some(version.clone()),
                ("chainId", Value::Uint(chain_id)) => domain.chain_id = Some(*chain_id),
                ("verifyingContract", Value::Address(contract)) => domain.verifying_contract = Some(*contract),
                ("salt", Value::FixedBytes(salt)) => domain.salt = salt.as_slice().try_into().ok(),
                _ => {}
            }
        }
        domain
    }
}

impl Struct {
    /// Of this type.
    ///
    /// # Errors
    /// Another number of values, or one that is not of its member's type.
    pub fn new(definition: &Arc<StructType>, values: Vec<Value>) -> Result<Self, TypedDataError> {
        let expected = definition.members.len();
        if values.len() != expected {
            let problem = format!("{} values, expected {expected}", values.len());
            return Err(TypedDataError::new(&definition.name, problem));
        }
        for (member, value) in definition.members.iter().zip(&values) {
            if !member.type_.admits(value) {
                let path = format!("{}.{}", definition.name, member.name);
                return Err(TypedDataError::new(path, format!("not of its type, expected {}", member.type_)));
            }
        }
        Ok(Self { definition: Arc::clone(definition), values })
    }

    /// Its type's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.definition.name
    }

    /// Its type.
    #[must_use]
    pub fn definition(&self) -> &StructType {
        &self.definition
    }

    /// The value of a member.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.iter().find(|(member, _)| member.name == name).map(|(_, value)| value)
    }

    /// Its members in the order of its type, with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&Member, &Value)> {
        self.definition.members.iter().zip(&self.values)
    }

    /// How long the descriptions of the types of this and of all structs in it are.
    fn descriptions(&self) -> usize {
        fn of(value: &Value) -> usize {
            match value {
                Value::Array(values) => values.iter().map(of).sum(),
                Value::Struct(value) => value.descriptions(),
                Value::Uint(_)
                | Value::Int(_)
                | Value::Bool(_)
                | Value::Address(_)
                | Value::FixedBytes(_)
                | Value::Bytes(_)
                | Value::String(_) => 0,
            }
        }
        self.definition.description_len + self.values.iter().map(of).sum::<usize>()
    }
}

#[cfg(test)]
mod tests;
