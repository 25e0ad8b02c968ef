//! JSON read strictly: each object's fields as their raw text, so that whoever reads a value can name its field.
//!
//! Nothing here recurses over the input: a value that is not wanted is skipped by serde_json's own stack-less scan, so
//! depth costs an attacker's bytes only.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer;
use serde::de::{Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::RequestError;

/// How much of what a client wrote is shown back to it.
const MAX_SHOWN: usize = 80;

/// The values of the fields `names`, in that order, of the object `text`, which stands at `path` ("" is the body itself).
///
/// # Errors
/// Not an object, an unknown field, a field twice, or a null.
pub(crate) fn fields<'a, const N: usize>(
    text: &'a str,
    path: &str,
    names: [&'static str; N],
) -> Result<[Option<&'a RawValue>; N], RequestError> {
    read(text, path, names, false)
}

/// The same where a field may be null: it is returned as any other value.
///
/// # Errors
/// Not an object, an unknown field, or a field twice.
pub(crate) fn fields_or_nulls<'a, const N: usize>(
    text: &'a str,
    path: &str,
    names: [&'static str; N],
) -> Result<[Option<&'a RawValue>; N], RequestError> {
    read(text, path, names, true)
}

fn read<'a, const N: usize>(
    text: &'a str,
    path: &str,
    names: [&'static str; N],
    may_be_null: bool,
) -> Result<[Option<&'a RawValue>; N], RequestError> {
    let mut values = [None; N];
    read_each(text, path, may_be_null, |name, value| {
        let slot = names.iter().zip(&mut values).find(|(known, _)| **known == name).map(|(_, slot)| slot);
        match slot {
            None => Err(format!("unknown field, expected one of {}", names.join(", "))),
            Some(Some(_)) => Err("written twice, expected once".to_owned()),
            Some(slot @ None) => {
                *slot = Some(value);
                Ok(())
            }
        }
    })?;
    Ok(values)
}

/// Gives each field of the object `text` at `path` to `take`, which says what is wrong with it. A null is a value as any other.
///
/// # Errors
/// Not an object, or what `take` says.
pub(crate) fn each<'a>(
    text: &'a str,
    path: &str,
    take: impl FnMut(&str, &'a RawValue) -> Result<(), String>,
) -> Result<(), RequestError> {
    read_each(text, path, true, take)
}

fn read_each<'a>(
    text: &'a str,
    path: &str,
    may_be_null: bool,
    take: impl FnMut(&str, &'a RawValue) -> Result<(), String>,
) -> Result<(), RequestError> {
    // Asked first: serde's error would show the value that stands there, and it may be a secret.
    if !text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{') {
        return Err(RequestError::new(at(path), "not an object, expected one"));
    }
    let mut refusal = None;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let visitor = Fields { take, path, may_be_null, refusal: &mut refusal };
    let read = deserializer.deserialize_map(visitor).and_then(|()| deserializer.end());
    read.map_err(|error| refusal.unwrap_or_else(|| RequestError::new(at(path), format!("{error}, expected JSON"))))
}

/// The path of a field of the object at `path`.
pub(crate) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// What a client wrote, as much of it as an error shows. Quotes and backslashes stay what they are: the answer is JSON,
/// which escapes them. What has no shape on a terminal or in a log is escaped here.
#[must_use]
pub fn shown(text: &str) -> String {
    let mut shown = String::new();
    for character in text.chars().take(MAX_SHOWN) {
        match character {
            '"' | '\'' | '\\' => shown.push(character),
            _ => shown.extend(character.escape_debug()),
        }
    }
    if text.chars().nth(MAX_SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

fn at(path: &str) -> &str {
    if path.is_empty() { "body" } else { path }
}

struct Fields<'e, T> {
    take: T,
    path: &'e str,
    may_be_null: bool,
    refusal: &'e mut Option<RequestError>,
}

impl<'de, T: FnMut(&str, &'de RawValue) -> Result<(), String>> Visitor<'de> for Fields<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some((name, value)) = map.next_entry::<Cow<'de, str>, &'de RawValue>()? {
            let is_wrong = !self.may_be_null && value.get() == "null";
            let problem = match (self.take)(&name, value) {
                Err(problem) => problem,
                Ok(()) if is_wrong => "null, expected a value; leave the field out instead".to_owned(),
                Ok(()) => continue,
            };
            let name = if name.is_empty() { "\"\"".to_owned() } else { shown(&name) };
            *self.refusal = Some(RequestError::new(join(self.path, &name), problem));
            return Err(A::Error::custom("refused"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        fields(text, "", ["a", "b"]).unwrap_err().to_string()
    }

    #[test]
    fn fields_come_in_the_order_asked_for() {
        let [a, b] = fields(r#" {"b": [1, 2], "a": "x"} "#, "", ["a", "b"]).unwrap();
        assert_eq!((a.unwrap().get(), b.unwrap().get()), (r#""x""#, "[1, 2]"));
        let [a, b] = fields("{}", "", ["a", "b"]).unwrap();
        assert!(a.is_none() && b.is_none());
    }

    #[test]
    fn an_unknown_field_is_named_with_the_known_ones() {
        assert_eq!(refused(r#"{"c": 1}"#), "c: unknown field, expected one of a, b");
    }

    #[test]
    fn a_field_written_twice_is_refused_however_it_is_spelt() {
        assert_eq!(refused(r#"{"a": 1, "a": 1}"#), "a: written twice, expected once");
        assert_eq!(refused(r#"{"a": 1, "\u0061": 1}"#), "a: written twice, expected once");
    }

    #[test]
    fn a_null_an_array_and_what_trails_are_refused() {
        assert!(refused(r#"{"a": null}"#).starts_with("a: null, expected a value"));
        assert!(refused("[1, 2]").starts_with("body: "));
        assert!(refused("{} {}").starts_with("body: "));
        assert!(refused("").starts_with("body: "));
        assert!(refused(r#"{"a": }"#).starts_with("body: "));
    }

    #[test]
    fn where_nulls_are_allowed_a_field_is_still_written_once() {
        let [a, b] = fields_or_nulls(r#"{"a": null}"#, "", ["a", "b"]).unwrap();
        assert!(a.unwrap().get() == "null" && b.is_none());
        let error = fields_or_nulls(r#"{"a": null, "a": 1}"#, "", ["a", "b"]).unwrap_err();
        assert_eq!(error.to_string(), "a: written twice, expected once");
    }

    #[test]
    fn a_field_without_a_name_is_named_as_such() {
        assert_eq!(refused(r#"{"": 1}"#), "\"\": unknown field, expected one of a, b");
        let error = fields(r#"{"": 1}"#, "a", ["b"]).unwrap_err();
        assert_eq!(error.field, "a.\"\"");
    }

    #[test]
    fn what_stands_in_an_objects_place_is_not_shown() {
        assert_eq!(refused("\"hush\""), "body: not an object, expected one");
        assert_eq!(fields("\"hush\"", "a", ["b"]).unwrap_err().to_string(), "a: not an object, expected one");
    }

    #[test]
    fn what_a_client_wrote_is_shown_as_it_is_and_on_one_line() {
        assert_eq!(shown(r#""0x" it's \u0041"#), r#""0x" it's \u0041"#);
        assert_eq!(shown("a\nb\u{1b}[2J\u{202e}"), r"a\nb\u{1b}[2J\u{202e}");
        assert_eq!(shown("größe 漢字"), "größe 漢字");
    }

    #[test]
    fn a_long_name_is_cut_before_it_is_shown() {
        assert!(refused(&format!(r#"{{"{}": 1}}"#, "\\n".repeat(10_000))).len() < 400);
    }
}
