//! The types that typed data brings along.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::alloy::Resolver;
use super::{DOMAIN, Struct, TypedDataError, Value};

/// How deep a value can be nested: arrays and structs. A bulk order of Seaport has 24 arrays in one another.
pub const MAX_DEPTH: usize = 32;

/// Types, the members of all together, and the length of all their names and types.
const MAX_TYPES: usize = 64;
const MAX_MEMBERS: usize = 512;
const MAX_LEN: usize = 16 << 10;

/// The longest array that a type can prescribe; no longer one has room.
const MAX_FIXED: usize = super::MAX_VALUES;

/// What a domain may have, in any order (EIP-712).
const DOMAIN_MEMBERS: [(&str, &str); 5] = [
    ("name", "string"),
    ("version", "string"),
    ("chainId", "uint256"),
    ("verifyingContract", "address"),
    ("salt", "bytes32"),
];

/// All types of one piece of data, none of which contains itself.
#[derive(Debug)]
pub struct Types {
    structs: BTreeMap<String, Arc<StructType>>,
    resolver: Resolver,
}

/// A struct's type. Equal if the description is: compared and printed by members, types within types would take for ever.
pub struct StructType {
    /// An identifier.
    pub name: String,
    /// In the order in which they are hashed.
    pub members: Vec<Member>,
    /// The Keccak-256 of its description (EIP-712, `typeHash`).
    pub type_hash: [u8; 32],
    /// How long its description is.
    pub(super) description_len: usize,
    /// How deep its values are nested, itself included.
    depth: usize,
}

/// A member of a struct.
#[derive(Debug, PartialEq, Eq)]
pub struct Member {
    /// An identifier.
    pub name: String,
    /// What its values are.
    pub type_: Type,
}

/// A type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// `uint8` to `uint256`: its bits.
    Uint(usize),
    /// `int8` to `int256`: its bits.
    Int(usize),
    /// `bool`
    Bool,
    /// `address`
    Address,
    /// `bytes1` to `bytes32`: its bytes.
    FixedBytes(usize),
    /// `bytes`
    Bytes,
    /// `string`
    String,
    /// Of another type, and how many of it if that is prescribed.
    Array(Box<Type>, Option<usize>),
    /// A struct.
    Struct(Arc<StructType>),
}

/// A type as it is written: what stands in front of the arrays, and those from the inside out.
struct Written<'a> {
    base: &'a str,
    arrays: Vec<Option<usize>>,
}

/// The members of each type, by name, as they are written: name and type.
type Definitions = BTreeMap<String, Vec<(String, String)>>;

impl Types {
    /// Resolves types, each with its members' names and types, as they are written in the data's `types`.
    ///
    /// # Errors
    /// A name or a type that is none, a type that is missing or contains itself, a domain with members of other names or types, or
    /// more than anybody needs. The path begins at `types`.
    pub fn new(definitions: &Definitions) -> Result<Self, TypedDataError> {
        check_sizes(definitions)?;
        for (name, members) in definitions {
            check_names(name, members)?;
        }
        match definitions.get(DOMAIN) {
            Some(members) => check_domain(members)?,
            None => {
                let problem =
                    "missing, expected the domain's fields, such as [{\"name\": \"name\", \"type\": \"string\"}]";
                return Err(TypedDataError::new(DOMAIN, problem));
            }
        }
        let resolver = Resolver::new(definitions)?;
        let mut types = Self { structs: BTreeMap::new(), resolver };
        for name in definitions.keys() {
            types.define(definitions, name, &mut Vec::new())?;
        }
        Ok(types)
    }

    /// The type of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<StructType>> {
        self.structs.get(name)
    }

    /// What is hashed of these two, and the description of the message's type.
    pub(super) fn hash(&self, domain: &Struct, message: &Struct) -> Result<(String, [u8; 32]), TypedDataError> {
        self.resolver.hash(domain, message)
    }

    /// Resolves a type that is defined, and before it those that it needs. `inside` are those that need it.
    fn define<'a>(
        &mut self,
        definitions: &'a Definitions,
        name: &'a str,
        inside: &mut Vec<&'a str>,
    ) -> Result<Arc<StructType>, TypedDataError> {
        if let Some(known) = self.structs.get(name) {
            return Ok(Arc::clone(known));
        }
        if inside.contains(&name) {
            inside.push(name);
            return Err(TypedDataError::new(
                name,
                format!("contains itself ({}), expected types that end", inside.join(" > ")),
            ));
        }
        inside.push(name);
        let written = definitions.get(name).map_or(&[] as &[_], Vec::as_slice);
        let mut members = Vec::with_capacity(written.len());
        let mut depth = 1;
        for (at, (member, text)) in written.iter().enumerate() {
            let path = || format!("{name}[{at}].type");
            let Written { base, arrays } =
                Written::parse(text).map_err(|problem| TypedDataError::new(path(), problem))?;
            let base = match atomic(base) {
                Some(Ok(atomic)) => atomic,
                Some(Err(problem)) => return Err(TypedDataError::new(path(), problem)),
                None => match definitions.get_key_value(base) {
                    Some((base, _)) => Type::Struct(self.define(definitions, base, inside)?),
                    None => {
                        let problem = format!("`{base}` is not in types, expected a type of EIP-712 or one that is");
                        return Err(TypedDataError::new(path(), problem));
                    }
                },
            };
            let type_ = arrays.into_iter().fold(base, |element, len| Type::Array(Box::new(element), len));
            depth = depth.max(1 + type_.depth());
            members.push(Member { name: member.clone(), type_ });
        }
        if depth > MAX_DEPTH {
            return Err(TypedDataError::new(name, format!("nested {depth} deep, expected at most {MAX_DEPTH}")));
        }
        inside.pop();
        let (type_hash, description_len) = self.resolver.describe(name)?;
        let definition = Arc::new(StructType { name: name.to_owned(), members, type_hash, description_len, depth });
        self.structs.insert(name.to_owned(), Arc::clone(&definition));
        Ok(definition)
    }
}

impl PartialEq for StructType {
    fn eq(&self, other: &Self) -> bool {
        self.type_hash == other.type_hash
    }
}

impl Eq for StructType {}

impl fmt::Debug for StructType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let member = |member: &Member| format!("{} {}", member.type_, member.name);
        write!(f, "{}({})", self.name, self.members.iter().map(member).collect::<Vec<_>>().join(","))
    }
}

impl Type {
    /// Whether this is a value of the type. A struct's own members were looked at when it was made.
    pub(super) fn admits(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Uint(bits), Value::Uint(number)) => number.fits(*bits),
            (Self::Int(bits), Value::Int(number)) => number.fits(*bits),
            (Self::FixedBytes(len), Value::FixedBytes(bytes)) => bytes.len() == *len,
            (Self::Array(element, len), Value::Array(values)) => {
                len.is_none_or(|len| values.len() == len) && values.iter().all(|value| element.admits(value))
            }
            (Self::Struct(definition), Value::Struct(value)) => Arc::ptr_eq(definition, &value.definition),
            (Self::Bool, Value::Bool(_))
            | (Self::Address, Value::Address(_))
            | (Self::Bytes, Value::Bytes(_))
            | (Self::String, Value::String(_)) => true,
            _ => false,
        }
    }

    fn depth(&self) -> usize {
        match self {
            Self::Array(element, _) => 1 + element.depth(),
            Self::Struct(definition) => definition.depth,
            Self::Uint(_)
            | Self::Int(_)
            | Self::Bool
            | Self::Address
            | Self::FixedBytes(_)
            | Self::Bytes
            | Self::String => 1,
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uint(bits) => write!(f, "uint{bits}"),
            Self::Int(bits) => write!(f, "int{bits}"),
            Self::Bool => f.write_str("bool"),
            Self::Address => f.write_str("address"),
            Self::FixedBytes(len) => write!(f, "bytes{len}"),
            Self::Bytes => f.write_str("bytes"),
            Self::String => f.write_str("string"),
            Self::Array(element, None) => write!(f, "{element}[]"),
            Self::Array(element, Some(len)) => write!(f, "{element}[{len}]"),
            Self::Struct(definition) => f.write_str(&definition.name),
        }
    }
}

impl<'a> Written<'a> {
    fn parse(text: &'a str) -> Result<Self, String> {
        let expected = || "expected a type such as uint256, Person or Person[2][]".to_owned();
        let (base, mut rest) = text.split_at(text.find('[').unwrap_or(text.len()));
        if !is_identifier(base) {
            return Err(expected());
        }
        let mut arrays = Vec::new();
        while !rest.is_empty() {
            let (len, behind) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')).ok_or_else(expected)?;
            arrays.push(if len.is_empty() { None } else { Some(fixed_len(len)?) });
            rest = behind;
        }
        if arrays.len() >= MAX_DEPTH {
            return Err(format!("{} arrays in one another, expected less than {MAX_DEPTH}", arrays.len()));
        }
        Ok(Self { base, arrays })
    }
}

fn fixed_len(digits: &str) -> Result<usize, String> {
    let is_decimal = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    let len = is_decimal.then(|| digits.parse().ok()).flatten().filter(|len| *len <= MAX_FIXED);
    len.ok_or_else(|| format!("expected an array's length from 1 to {MAX_FIXED}"))
}

/// A type that needs no definition; none if the name may be a struct's. EIP-712 has no aliases: `uint` is not `uint256`.
fn atomic(base: &str) -> Option<Result<Type, String>> {
    let sized = |digits: &str, type_: fn(usize) -> Type, sizes: &[usize], expected: &str| {
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let size = (!digits.starts_with('0')).then(|| digits.parse().ok()).flatten();
        let size = size.filter(|size| sizes.contains(size));
        Some(size.map(type_).ok_or_else(|| format!("`{base}` is no type of EIP-712, expected {expected}")))
    };
    const BITS: [usize; 32] = multiples(8);
    const BYTES: [usize; 32] = multiples(1);
    match base {
        "bool" => Some(Ok(Type::Bool)),
        "address" => Some(Ok(Type::Address)),
        "bytes" => Some(Ok(Type::Bytes)),
        "string" => Some(Ok(Type::String)),
        // Solidity's, but not of EIP-712; nobody names a struct so.
        "byte" | "function" | "fixed" | "ufixed" => {
            Some(Err(format!("`{base}` is no type of EIP-712, expected one such as bytes32")))
        }
        _ => {
            let uint = base.strip_prefix("uint");
            let int = base.strip_prefix("int");
            let bytes = base.strip_prefix("bytes");
            uint.and_then(|digits| sized(digits, Type::Uint, &BITS, "uint8 to uint256, in steps of 8"))
                .or_else(|| int.and_then(|digits| sized(digits, Type::Int, &BITS, "int8 to int256, in steps of 8")))
                .or_else(|| bytes.and_then(|digits| sized(digits, Type::FixedBytes, &BYTES, "bytes1 to bytes32")))
        }
    }
}

#[allow(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn multiples(of: usize) -> [usize; 32] {
    let mut all = [0; 32];
    let mut at = 0;
    while at < 32 {
        all[at] = of * (at + 1);
        at += 1;
    }
    all
}

fn is_identifier(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_' || byte == b'$';
    text.bytes().next().is_some_and(is_letter) && text.bytes().all(|byte| is_letter(byte) || byte.is_ascii_digit())
}

fn check_sizes(definitions: &Definitions) -> Result<(), TypedDataError> {
    let members: usize = definitions.values().map(Vec::len).sum();
    let names: usize = definitions.keys().map(String::len).sum();
    let len: usize = definitions.values().flatten().map(|(name, text)| name.len() + text.len()).sum::<usize>() + names;
    for (what, number, most) in
        [("types", definitions.len(), MAX_TYPES), ("members", members, MAX_MEMBERS), ("characters", len, MAX_LEN)]
    {
        if number > most {
            return Err(TypedDataError::new("", format!("{number} {what}, expected at most {most}")));
        }
    }
    Ok(())
}

fn check_names(name: &str, members: &[(String, String)]) -> Result<(), TypedDataError> {
    let expected = "expected letters, digits, _ and $, and no digit in front";
    if !is_identifier(name) {
        return Err(TypedDataError::new(name, format!("not a name, {expected}")));
    }
    if atomic(name).is_some() {
        return Err(TypedDataError::new(name, "the name of a type of Solidity, expected another"));
    }
    for (at, (member, text)) in members.iter().enumerate() {
        // Before alloy reads them, whose errors name no field.
        let written = Written::parse(text).and_then(|written| atomic(written.base).transpose());
        written.map_err(|problem| TypedDataError::new(format!("{name}[{at}].type"), problem))?;
        let path = format!("{name}[{at}].name");
        if !is_identifier(member) {
            return Err(TypedDataError::new(path, format!("not a name, {expected}")));
        }
        if members.iter().take(at).any(|(other, _)| other == member) {
            return Err(TypedDataError::new(path, format!("`{member}` is written twice, expected once")));
        }
    }
    Ok(())
}

fn check_domain(members: &[(String, String)]) -> Result<(), TypedDataError> {
    if members.is_empty() {
        return Err(TypedDataError::new(DOMAIN, "empty, expected at least one of the fields of a domain"));
    }
    for (at, (name, text)) in members.iter().enumerate() {
        if !DOMAIN_MEMBERS.contains(&(name, text)) {
            let all = DOMAIN_MEMBERS.map(|(name, text)| format!("{text} {name}")).join(", ");
            return Err(TypedDataError::new(
                format!("{DOMAIN}[{at}]"),
                format!("`{text} {name}`, expected one of {all}"),
            ));
        }
    }
    Ok(())
}
