//! The frame: which bodies are JSON-RPC, and the calls in them.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::MAX_BATCH;
use super::error::{INVALID_REQUEST, PARSE, RpcError};
use super::params::Params;
use crate::json::{fields_or_nulls, shown};
use crate::request::utf8;

/// The longest `id`. Each answer repeats it.
const MAX_ID: usize = 256;

const SPACES: [char; 4] = [' ', '\t', '\n', '\r'];

/// A body that is JSON-RPC.
#[derive(Debug)]
pub enum Body<'a> {
    /// One call, not yet read.
    Single(&'a str),
    /// Several, to be answered in this order: at least one, at most [`MAX_BATCH`].
    Batch(Vec<&'a RawValue>),
}

/// One call.
#[derive(Debug)]
pub struct Call<'a> {
    /// None: a notification, which has no answer.
    pub id: Option<Id<'a>>,
    /// The name.
    pub method: Cow<'a, str>,
    /// Its parameters.
    pub params: Params<'a>,
}

/// What a client tells its answers by: a string, a number or null, as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id<'a>(&'a str);

/// What an answer to something else than a call needs of it.
#[derive(Deserialize)]
struct OnlyId<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
}

/// Something that is not a call.
#[derive(Debug)]
pub struct Malformed<'a> {
    /// The call's, or null if it has none that can be read.
    pub id: Id<'a>,
    /// What is wrong with it.
    pub error: RpcError,
}

/// Whether a body of `POST /` is JSON-RPC, and not the signer's own form: an object with the field `jsonrpc`, or a list
/// of objects, or an empty one.
#[must_use]
pub fn is_rpc(body: &[u8]) -> bool {
    const NAME: &[u8] = b"\"jsonrpc\"";
    let body = body.trim_ascii_start();
    match body.split_first() {
        Some((b'[', rest)) => matches!(rest.trim_ascii_start().first(), Some(b'{' | b']')),
        // Most bodies of the other form end here.
        Some((b'{', rest)) => rest.windows(NAME.len()).any(|part| part == NAME) && has_version(body),
        Some(_) | None => false,
    }
}

/// Whether an object has the field, and does not have it only deeper inside.
fn has_version(body: &[u8]) -> bool {
    let mut is_there = false;
    let read = serde_json::Deserializer::from_slice(body).deserialize_map(Version { is_there: &mut is_there });
    // Broken before the field: no valid body of the other form has its name anywhere.
    is_there || read.is_err()
}

struct Version<'e> {
    is_there: &'e mut bool,
}

impl<'de> Visitor<'de> for Version<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            if name == "jsonrpc" {
                *self.is_there = true;
                // No need to read on.
                return Err(A::Error::custom("found"));
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

impl<'a> Body<'a> {
    /// Takes a body apart.
    ///
    /// # Errors
    /// Not UTF-8, a list that is not JSON, is empty or has too many calls.
    pub fn parse(body: &'a [u8]) -> Result<Self, RpcError> {
        let text = utf8(body).map_err(|error| RpcError::new(PARSE, error.to_string()))?;
        let text = text.trim_start_matches(SPACES);
        if !text.starts_with('[') {
            return Ok(Self::Single(text));
        }
        let mut is_too_long = false;
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let read = deserializer.deserialize_seq(Calls { is_too_long: &mut is_too_long });
        let read = read.and_then(|calls| deserializer.end().map(|()| calls));
        match read {
            Ok(calls) if calls.is_empty() => {
                Err(RpcError::new(INVALID_REQUEST, "body: an empty batch, expected at least one call"))
            }
            Ok(calls) => Ok(Self::Batch(calls)),
            Err(_) if is_too_long => {
                Err(RpcError::new(INVALID_REQUEST, format!("body: a longer batch, expected at most {MAX_BATCH} calls")))
            }
            Err(error) => Err(not_json(&error)),
        }
    }
}

struct Calls<'e> {
    is_too_long: &'e mut bool,
}

impl<'de> Visitor<'de> for Calls<'_> {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of calls")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut calls = Vec::new();
        while let Some(call) = entries.next_element()? {
            if calls.len() == MAX_BATCH {
                *self.is_too_long = true;
                return Err(A::Error::custom("too long"));
            }
            calls.push(call);
        }
        Ok(calls)
    }
}

impl<'a> Call<'a> {
    /// Reads one call.
    ///
    /// # Errors
    /// Not JSON, or not a call.
    pub fn parse(text: &'a str) -> Result<Self, Malformed<'a>> {
        let without_id = |error| Malformed { id: Id::NULL, error };
        let read = fields_or_nulls(text, "", ["jsonrpc", "id", "method", "params"]);
        let [version, id, method, params] = read.map_err(|refusal| {
            // Either it is not JSON, or JSON of another form.
            match serde_json::from_str::<IgnoredAny>(text) {
                Err(error) => without_id(not_json(&error)),
                Ok(IgnoredAny) => {
                    let id = serde_json::from_str::<OnlyId<'_>>(text).ok().and_then(|only| Id::of(only.id?).ok());
                    let error = RpcError::new(INVALID_REQUEST, refusal.to_string());
                    Malformed { id: id.unwrap_or(Id::NULL), error }
                }
            }
        })?;
        let id = id.map(Id::of).transpose().map_err(without_id)?;
        let invalid =
            |message: String| Malformed { id: id.unwrap_or(Id::NULL), error: RpcError::new(INVALID_REQUEST, message) };
        match version.map(RawValue::get) {
            Some("\"2.0\"") => {}
            Some(other) => return Err(invalid(format!("jsonrpc: {}: expected \"2.0\"", shown(other)))),
            None => return Err(invalid("jsonrpc: missing, expected \"2.0\"".to_owned())),
        }
        let Some(method) = method.map(RawValue::get) else {
            return Err(invalid("method: missing, expected the name of a method".to_owned()));
        };
        let Some(method) = string(method) else {
            return Err(invalid(format!("method: {}: expected a string", shown(method))));
        };
        let params = Params::of(params).map_err(|error| invalid(error.to_string()))?;
        Ok(Self { id, method, params })
    }
}

impl<'a> Id<'a> {
    /// Of an answer to what has none.
    pub const NULL: Id<'static> = Id("null");

    fn of(raw: &'a RawValue) -> Result<Self, RpcError> {
        let text = raw.get();
        let is_one =
            text == "null" || text.starts_with(|first: char| first == '"' || first == '-' || first.is_ascii_digit());
        match is_one && text.len() <= MAX_ID {
            true => Ok(Self(text)),
            false => {
                let message =
                    format!("id: {}: expected a string, a number or null, of at most {MAX_ID} bytes", shown(text));
                Err(RpcError::new(INVALID_REQUEST, message))
            }
        }
    }

    /// As it was written.
    #[must_use]
    pub fn as_json(self) -> &'a str {
        self.0
    }
}

/// A JSON string, not copied if nothing in it is escaped.
fn string(text: &str) -> Option<Cow<'_, str>> {
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    match inner.contains('\\') {
        false => Some(Cow::Borrowed(inner)),
        true => serde_json::from_str(text).ok().map(Cow::Owned),
    }
}

fn not_json(error: &serde_json::Error) -> RpcError {
    RpcError::new(PARSE, format!("body: {error}, expected JSON"))
}

#[cfg(test)]
mod tests;
