//! A function as people write it: `transfer(address to, uint256 amount)`. And a type of EIP-712, with the types that it is made of:
//! `Mail(Person to,string contents)Person(address wallet,string name)`.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use alloy_dyn_abi::DynSolType;
use thiserror::Error;

use super::{Function, Parameter, StructType, Type};

/// Arrays and tuples in each other: alloy reads 16 levels, of which an array is two.
const MAX_DEPTH: usize = 6;

/// The fewest words that arguments may need: no node takes a transaction with more (geth: `txMaxSize`, 128 KiB).
const MAX_WORDS: usize = 128 * 1024 / 32;

/// Why text is not a function.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SignatureError {
    /// Not `name(type name, …)`; what is left from there.
    #[error("unexpected `{0}`, expected a function such as `transfer(address to, uint256 amount)`")]
    Grammar(String),
    /// Not a type of Solidity, or one that no rule can be about.
    #[error(
        "`{0}` is not a type of an argument, expected address, bool, uint8 to uint256, int8 to int256, bytes1 to bytes32, bytes, string, or arrays and tuples of them"
    )]
    Type(String),
    /// An argument or a field of a tuple without a name.
    #[error("the {0} without a name, expected one behind its type, as in `address to`")]
    Unnamed(String),
    /// Two of one name.
    #[error("two arguments have the name `{0}`, expected different names")]
    Twice(String),
    /// Arrays and tuples in each other.
    #[error("more than {MAX_DEPTH} arrays and tuples in each other")]
    Depth,
    /// No transaction has room for it.
    #[error("its arguments take at least {0} words of 32 bytes, expected at most {MAX_WORDS}, which a transaction has")]
    Size(usize),
}

impl FromStr for Function {
    type Err = SignatureError;

    fn from_str(text: &str) -> Result<Self, SignatureError> {
        let mut reader = Reader { rest: text, structs: BTreeMap::new() };
        let name = reader.word().ok_or_else(|| reader.unexpected())?;
        let parameters = reader.parameters(0)?;
        if !reader.rest.is_empty() {
            return Err(reader.unexpected());
        }
        let words = parameters.iter().fold(0, |words: usize, parameter| words.saturating_add(parameter.ty.words()));
        if words > MAX_WORDS {
            return Err(SignatureError::Size(words));
        }
        Ok(Self::new(name, parameters))
    }
}

impl FromStr for StructType {
    type Err = SignatureError;

    fn from_str(text: &str) -> Result<Self, SignatureError> {
        // The texts of the other types, by their names, so that a type can be read where it is used.
        let mut structs = BTreeMap::new();
        let (mut rest, mut first) = (text, None);
        while !rest.is_empty() {
            let reader = Reader { rest, structs: BTreeMap::new() };
            let (definition, after) = rest.split_once(')').ok_or_else(|| reader.unexpected())?;
            let (name, fields) = definition.split_once('(').ok_or_else(|| reader.unexpected())?;
            let text = rest.get(name.len()..name.len() + fields.len() + 2).unwrap_or_default();
            if structs.insert(name, text).is_some() {
                return Err(SignatureError::Twice(name.to_owned()));
            }
            first.get_or_insert((name, text));
            rest = after;
        }
        let (name, fields) = first.ok_or_else(|| SignatureError::Grammar("end".to_owned()))?;
        let mut reader = Reader { rest: fields, structs };
        let fields = reader.parameters(0)?;
        Ok(Self { name: name.to_owned(), description: text.to_owned(), fields })
    }
}

struct Reader<'a> {
    rest: &'a str,
    /// Types of EIP-712: `(type name, …)` by name.
    structs: BTreeMap<&'a str, &'a str>,
}

impl<'a> Reader<'a> {
    /// `(type name, …)`
    fn parameters(&mut self, depth: usize) -> Result<Vec<Parameter>, SignatureError> {
        self.expect("(")?;
        self.spaces();
        let (mut parameters, mut names) = (Vec::new(), BTreeSet::new());
        if self.skip(")") {
            return Ok(parameters);
        }
        loop {
            self.spaces();
            let ty = self.ty(depth)?;
            self.spaces();
            let mut name = self.word();
            // As contracts' sources have it.
            if let Some("memory" | "calldata") = name {
                self.spaces();
                name = self.word();
            }
            let name = name.ok_or_else(|| match self.rest.chars().next() {
                Some(',' | ')') => SignatureError::Unnamed(ty.to_string()),
                _ => self.unexpected(),
            })?;
            if !names.insert(name) {
                return Err(SignatureError::Twice(name.to_owned()));
            }
            parameters.push(Parameter { name: name.to_owned(), ty });
            self.spaces();
            if self.skip(")") {
                return Ok(parameters);
            }
            self.expect(",")?;
        }
    }

    fn ty(&mut self, depth: usize) -> Result<Type, SignatureError> {
        let mut ty = if self.rest.starts_with('(') {
            deeper(depth)?;
            match self.parameters(depth + 1)? {
                fields if fields.is_empty() => return Err(SignatureError::Type("()".to_owned())),
                fields => Type::Tuple(fields),
            }
        } else {
            let word = self.word().ok_or_else(|| self.unexpected())?;
            match self.structs.get(word) {
                Some(fields) => {
                    let mut inner = Reader { rest: fields, structs: self.structs.clone() };
                    Type::Tuple(inner.parameters(deeper(depth)?)?)
                }
                None => plain(word).ok_or_else(|| SignatureError::Type(word.to_owned()))?,
            }
        };
        let mut depth = depth;
        while self.skip("[") {
            depth = deeper(depth)?;
            let end = self.rest.find(']').ok_or_else(|| self.unexpected())?;
            let (len, _) = self.rest.split_at(end);
            let is_number = !len.starts_with('0') && len.bytes().all(|byte| byte.is_ascii_digit());
            let len = match len {
                "" => None,
                len if is_number => Some(len.parse().map_err(|_too_large| self.unexpected())?),
                _ => return Err(self.unexpected()),
            };
            self.rest = self.rest.get(end + 1..).unwrap_or_default();
            ty = Type::Array(Box::new(ty), len);
        }
        Ok(ty)
    }

    /// An identifier.
    fn word(&mut self) -> Option<&'a str> {
        let is_part = |character: char| character.is_ascii_alphanumeric() || "_$".contains(character);
        let end = self.rest.find(|character| !is_part(character)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        if word.is_empty() || word.starts_with(|character: char| character.is_ascii_digit()) {
            return None;
        }
        self.rest = rest;
        Some(word)
    }

    fn spaces(&mut self) {
        self.rest = self.rest.trim_start_matches(' ');
    }

    fn skip(&mut self, text: &str) -> bool {
        self.rest.strip_prefix(text).map(|rest| self.rest = rest).is_some()
    }

    fn expect(&mut self, text: &str) -> Result<(), SignatureError> {
        if self.skip(text) { Ok(()) } else { Err(self.unexpected()) }
    }

    fn unexpected(&self) -> SignatureError {
        let start: String = self.rest.chars().take(20).collect();
        SignatureError::Grammar(if start.is_empty() { "end".to_owned() } else { start.escape_debug().to_string() })
    }
}

fn deeper(depth: usize) -> Result<usize, SignatureError> {
    if depth < MAX_DEPTH { Ok(depth + 1) } else { Err(SignatureError::Depth) }
}

/// A type that is neither an array nor a tuple.
fn plain(word: &str) -> Option<Type> {
    match DynSolType::parse(word).ok()? {
        DynSolType::Address => Some(Type::Address),
        DynSolType::Bool => Some(Type::Bool),
        DynSolType::Uint(bits) => Some(Type::Uint(bits)),
        DynSolType::Int(bits) => Some(Type::Int(bits)),
        DynSolType::FixedBytes(len) => Some(Type::FixedBytes(len)),
        DynSolType::Bytes => Some(Type::Bytes),
        DynSolType::String => Some(Type::String),
        // A function of a contract is 24 bytes that nobody can read.
        DynSolType::Function
        | DynSolType::Array(_)
        | DynSolType::FixedArray(..)
        | DynSolType::Tuple(_)
        | DynSolType::CustomStruct { .. } => None,
    }
}
