//! Typed data of EIP-712, as `eth_signTypedData_v4` has it: JSON becomes values of their types, or an error that names the field.
//!
//! ```json
//! {"types": {"EIP712Domain": [{"name": "name", "type": "string"}],
//!            "Mail": [{"name": "to", "type": "address"}, {"name": "contents", "type": "string"}]},
//!  "primaryType": "Mail", "domain": {"name": "Ether Mail"}, "message": {"to": "0x…", "contents": "Hello"}}
//! ```
//!
//! | type | value |
//! |---|---|
//! | `uint8` to `uint256` | a JSON integer, or a string of decimal digits or of `0x` and hex digits |
//! | `int8` to `int256` | the same; a negative one in decimal digits only |
//! | `bool` | `true`, `false` |
//! | `address` | a string of `0x` and 40 hex digits, of one case or with the capitals of EIP-55 |
//! | `bytes1` to `bytes32`, `bytes` | a string of `0x` and hex digits, of exactly this length |
//! | `string` | a string |
//! | `T[]`, `T[n]` | a list, of exactly this length |
//! | a struct | an object with all its members |
//!
//! Other wallets are laxer: they pass over members that a type does not have, and take absent ones for zero. What such a wallet shows is not all
//! that is signed, or more than that. Here each member is there once, and nothing else is. The data may also come as a string of JSON, or of its bytes
//! in hex.

use std::collections::BTreeMap;
use std::sync::Arc;

use ethereum::hex;
use ethereum::number::{Int, Uint};
use ethereum::typed_data::{DOMAIN, MAX_VALUES, Struct, StructType, Type, TypedData, TypedDataError, Types, Value};
use serde_json::value::RawValue;

use crate::error::RequestError;
use crate::field::{Field, Slot};
use crate::json::{each, fields, join, shown};

/// The longest typed data that is read.
pub const MAX_LEN: usize = 256 * 1024;

/// The most bytes that the typed data in a text is once it is read: up to four times the text, and 96 for each value, before which
/// there is a comma, a colon or a bracket, as it is or by its number in hex, escapes among them. `tests/typed_data_memory.rs` measures it.
#[must_use]
pub fn held(text: &[u8]) -> usize {
    let plain = text.iter().filter(|byte| matches!(byte, b',' | b':' | b'[')).count();
    let hex = text.windows(2).filter(|pair| matches!(*pair, b"2c" | b"2C" | b"3a" | b"3A" | b"5b" | b"5B")).count();
    4 * text.len() + 96 * (plain + hex).min(MAX_VALUES)
}

/// Reads typed data.
///
/// # Errors
/// The first field that is wrong, and what would be right.
pub fn parse(field: &Field<'_>) -> Result<TypedData, RequestError> {
    let Field { path, text } = field;
    if text.len() > MAX_LEN {
        return Err(RequestError::new(path, format!("{} bytes, expected at most {MAX_LEN}", text.len())));
    }
    if text.starts_with('"') {
        let expected = "expected an object, or a string of JSON with one";
        let inner = field.string(expected)?;
        // As geth sends it to Clef.
        let Some(digits) = inner.strip_prefix("0x") else { return object(&inner, path) };
        let json = hex::decode(digits).and_then(|json| String::from_utf8(json).ok());
        return object(&json.ok_or_else(|| field.error(expected))?, path);
    }
    object(text, path)
}

fn object(text: &str, path: &str) -> Result<TypedData, RequestError> {
    let names = ["types", "primaryType", "domain", "message"];
    let raw = fields(text, path, names)?;
    let [types, primary_type, domain, message] = {
        let mut slots = names.iter().zip(raw).map(|(name, raw)| Slot { path: join(path, name), raw });
        std::array::from_fn(|_| slots.next().expect("as many slots as names"))
    };
    let types_field = types.required("the types of the data")?;
    let definitions = definitions(&types_field)?;
    let types = Types::new(&definitions).map_err(|error| at(&types_field.path, &error))?;
    let primary = primary_type.required("the name of the message's type")?;
    let name = primary.string("expected the name of the message's type")?;
    let of_message = types.get(&name).filter(|_| name != DOMAIN);
    let of_message = of_message.ok_or_else(|| primary.error("expected one of types, and not EIP712Domain"))?;
    let of_domain = types.get(DOMAIN).expect("there are no types without a domain");
    let mut reader = Reader { values: 0 };
    let domain = reader.structure(of_domain, &domain.required("the fields of EIP712Domain")?)?;
    let message = reader.structure(of_message, &message.required("the message")?)?;
    TypedData::new(&types, &name, domain, message).map_err(|error| at(path, &error))
}

fn at(path: &str, error: &TypedDataError) -> RequestError {
    let path = if error.path.is_empty() { path.to_owned() } else { join(path, &shown(&error.path)) };
    RequestError::new(path, &error.problem)
}

/// The members of each type, by name.
fn definitions(types: &Field<'_>) -> Result<BTreeMap<String, Vec<(String, String)>>, RequestError> {
    let mut written = BTreeMap::new();
    each(types.text, &types.path, |name, raw| match written.insert(name.to_owned(), raw) {
        None => Ok(()),
        Some(_) => Err("written twice, expected once".to_owned()),
    })?;
    let members = |(name, raw): (String, &RawValue)| {
        let list = Field::new(join(&types.path, &shown(&name)), raw.get());
        let expected = "expected a list of {\"name\": …, \"type\": …}";
        let members = list.list(expected)?.map(|member| {
            let names = ["name", "type"];
            let [name, type_] = fields(member.text, &member.path, names)?;
            let text = |name: &str, raw| {
                Slot { path: join(&member.path, name), raw }.required("a string")?.string("expected a string")
            };
            Ok((text("name", name)?, text("type", type_)?))
        });
        Ok((name, members.collect::<Result<_, RequestError>>()?))
    };
    written.into_iter().map(members).collect()
}

/// Reads values, of which there may be only so many. How deep it goes is the types' to say, which are bounded.
struct Reader {
    values: usize,
}

impl Reader {
    fn structure(&mut self, definition: &Arc<StructType>, field: &Field<'_>) -> Result<Struct, RequestError> {
        let mut slots: Vec<Option<&RawValue>> = vec![None; definition.members.len()];
        each(field.text, &field.path, |name, raw| {
            let slot = definition.members.iter().zip(&mut slots).find(|(member, _)| member.name == name);
            match slot {
                None => {
                    let names: Vec<&str> = definition.members.iter().map(|member| member.name.as_str()).collect();
                    Err(format!("not a member of {}, expected one of {}", definition.name, shown(&names.join(", "))))
                }
                Some((_, Some(_))) => Err("written twice, expected once".to_owned()),
                Some((_, slot @ None)) => {
                    *slot = Some(raw);
                    Ok(())
                }
            }
        })?;
        let mut values = Vec::with_capacity(slots.len());
        for (member, raw) in definition.members.iter().zip(slots) {
            let slot = Slot { path: join(&field.path, &member.name), raw };
            let value = slot.field().ok_or_else(|| {
                let problem = format!("missing, expected {} as {} has it", member.type_, definition.name);
                RequestError::new(&slot.path, problem)
            })?;
            values.push(self.value(&member.type_, &value)?);
        }
        Struct::new(definition, values).map_err(|error| at(&field.path, &error))
    }

    fn value(&mut self, type_: &Type, field: &Field<'_>) -> Result<Value, RequestError> {
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(too_many(&field.path));
        }
        match type_ {
            Type::Uint(bits) => uint(*bits, field).map(Value::Uint),
            Type::Int(bits) => int(*bits, field).map(Value::Int),
            Type::Bool => match field.text {
                "true" => Ok(Value::Bool(true)),
                "false" => Ok(Value::Bool(false)),
                _ => Err(field.error("expected true or false")),
            },
            Type::Address => field.address().map(Value::Address),
            Type::FixedBytes(len) => {
                let bytes = field.data()?;
                if bytes.len() != *len {
                    return Err(field.error(&format!("{} bytes, expected {len}", bytes.len())));
                }
                Ok(Value::FixedBytes(bytes))
            }
            Type::Bytes => field.data().map(Value::Bytes),
            Type::String => field.string("expected a string").map(Value::String),
            Type::Array(element, len) => {
                let entries = field.list(&format!("expected a list, as {type_} is"))?;
                if len.is_some_and(|len| len != entries.len()) {
                    return Err(RequestError::new(
                        &field.path,
                        format!("a list of {}, expected {type_}", entries.len()),
                    ));
                }
                if entries.len() > MAX_VALUES {
                    return Err(too_many(&field.path));
                }
                // No more than it needs: there may be an array for each value.
                let mut values = Vec::with_capacity(entries.len());
                for entry in entries {
                    values.push(self.value(element, &entry)?);
                }
                Ok(Value::Array(values))
            }
            Type::Struct(definition) => self.structure(definition, field).map(Value::Struct),
        }
    }
}

fn too_many(path: &str) -> RequestError {
    RequestError::new(path, format!("more than {MAX_VALUES} values, expected fewer in all of the data"))
}

/// As the wallets write numbers: JavaScript's as decimal strings or, if they are small, as numbers, Python's as numbers of any size, and
/// some as hex.
fn uint(bits: usize, field: &Field<'_>) -> Result<Uint, RequestError> {
    let text = digits(field);
    let number = match text.strip_prefix("0x") {
        Some(digits) => Uint::from_hex(digits),
        None => Uint::from_digits(text),
    };
    number.filter(|number| number.fits(bits)).ok_or_else(|| {
        let problem = "as a JSON integer, or as a string of decimal digits or of 0x and hex digits";
        field.error(&format!("expected a whole number from 0 to 2^{bits} - 1, {problem}"))
    })
}

fn int(bits: usize, field: &Field<'_>) -> Result<Int, RequestError> {
    let text = digits(field);
    let (magnitude, is_negative) = match (text.strip_prefix("0x"), text.strip_prefix('-')) {
        (Some(digits), _) => (Uint::from_hex(digits), false),
        // Zero has no sign.
        (None, Some("0")) => (None, true),
        (None, Some(digits)) => (Uint::from_digits(digits), true),
        (None, None) => (Uint::from_digits(text), false),
    };
    let number = magnitude.and_then(|magnitude| Int::from_magnitude(magnitude, is_negative));
    number.filter(|number| number.fits(bits)).ok_or_else(|| {
        let most = bits - 1;
        let problem = "as a JSON integer, or as a string of decimal digits";
        field.error(&format!("expected a whole number from -2^{most} to 2^{most} - 1, {problem}"))
    })
}

/// Of a string or a number. An escape in a string is none.
fn digits<'a>(field: &Field<'a>) -> &'a str {
    let text = field.text;
    text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text)
}

#[cfg(test)]
mod tests;
