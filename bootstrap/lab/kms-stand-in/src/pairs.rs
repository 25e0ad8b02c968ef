//! A JSON object without duplicate names: parsers differ on which value of a duplicate they use.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

/// An object with arbitrary names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pairs<V>(pub(crate) BTreeMap<String, V>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Pairs<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PairsVisitor(PhantomData))
    }
}

struct PairsVisitor<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for PairsVisitor<V> {
    type Value = Pairs<V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = BTreeMap::new();
        while let Some((name, value)) = map.next_entry::<String, V>()? {
            if pairs.contains_key(&name) {
                return Err(A::Error::custom(format_args!("duplicate name {name:?}")));
            }
            pairs.insert(name, value);
        }
        Ok(Pairs(pairs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duplicate_name_is_refused() {
        let read = serde_json::from_str::<Pairs<u8>>;
        assert_eq!(read(r#"{"a": 1, "b": 2}"#).unwrap().0.len(), 2);
        let error = read(r#"{"a": 1, "a": 1}"#).unwrap_err();
        assert!(error.to_string().contains("duplicate name \"a\""), "{error}");
    }
}
