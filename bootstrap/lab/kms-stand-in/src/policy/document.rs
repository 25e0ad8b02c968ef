//! A policy's JSON.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::Effect;
use crate::pairs::Pairs;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(super) struct Document {
    pub(super) version: String,
    #[serde(rename = "Id")]
    _id: Option<String>,
    pub(super) statement: Vec<Statement>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(super) struct Statement {
    pub(super) sid: Option<String>,
    pub(super) effect: Effect,
    pub(super) principal: Principal,
    pub(super) action: Texts,
    pub(super) resource: Texts,
    pub(super) condition: Option<Conditions>,
}

/// Operator, then key, then values.
pub(super) type Conditions = Pairs<Pairs<Texts>>;

/// `"*"` or `{"AWS": ...}`.
#[derive(Debug)]
pub(super) enum Principal {
    Anybody,
    Aws(Texts),
}

/// One text, or a list.
#[derive(Debug)]
pub(super) struct Texts(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for Principal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PrincipalVisitor)
    }
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextsVisitor)
    }
}

struct PrincipalVisitor;

impl<'de> Visitor<'de> for PrincipalVisitor {
    type Value = Principal;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#"a Principal: "*" or {"AWS": ...}"#)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Principal, E> {
        if text == "*" {
            Ok(Principal::Anybody)
        } else {
            Err(E::invalid_value(serde::de::Unexpected::Str(text), &self))
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Principal, A::Error> {
        let mut principal = None;
        while let Some(name) = map.next_key::<String>()? {
            if name != "AWS" {
                return Err(A::Error::unknown_field(&name, &["AWS"]));
            }
            if principal.replace(Principal::Aws(map.next_value()?)).is_some() {
                return Err(A::Error::duplicate_field("AWS"));
            }
        }
        principal.ok_or_else(|| A::Error::missing_field("AWS"))
    }
}

struct TextsVisitor;

impl<'de> Visitor<'de> for TextsVisitor {
    type Value = Texts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a list of texts")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Texts, E> {
        Ok(Texts(vec![text.to_owned()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Texts, A::Error> {
        let mut texts = Vec::new();
        while let Some(text) = list.next_element()? {
            texts.push(text);
        }
        Ok(Texts(texts))
    }
}
