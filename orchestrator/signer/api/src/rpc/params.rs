//! `params`: a list, or an object with the names that the method gives its parameters.

use std::fmt;

use serde::Deserializer;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::RequestError;
use crate::field::Slot;
use crate::json::{fields_or_nulls, join, shown};

/// The parameters of a call.
#[derive(Clone, Copy, Debug)]
pub struct Params<'a>(Option<&'a str>);

impl<'a> Params<'a> {
    /// Neither list nor object is refused.
    pub(super) fn of(raw: Option<&'a RawValue>) -> Result<Self, RequestError> {
        let text = raw.map(RawValue::get).filter(|text| *text != "null");
        match text {
            Some(text) if !text.starts_with(['[', '{']) => {
                Err(RequestError::new("params", format!("{}: expected a list or an object", shown(text))))
            }
            _ => Ok(Self(text)),
        }
    }

    /// As they were written, for those who pass them on.
    #[must_use]
    pub fn as_json(self) -> &'a str {
        self.0.unwrap_or("[]")
    }

    /// Checks that there are none.
    ///
    /// # Errors
    /// There are.
    pub fn none(self) -> Result<(), RequestError> {
        self.read([]).map(|_: [Slot<'a>; 0]| ())
    }

    /// The parameters `names`, in that order.
    pub(crate) fn read<const N: usize>(self, names: [&'static str; N]) -> Result<[Slot<'a>; N], RequestError> {
        const PATH: &str = "params";
        let text = self.as_json();
        let is_list = text.starts_with('[');
        let values = if is_list { list(text, names)? } else { fields_or_nulls(text, PATH, names)? };
        let mut slots = values.into_iter().zip(names).enumerate().map(|(at, (raw, name))| Slot {
            path: if is_list { format!("{PATH}[{at}]") } else { join(PATH, name) },
            raw: raw.filter(|raw| raw.get() != "null"),
        });
        Ok(std::array::from_fn(|_| slots.next().expect("as many slots as names")))
    }
}

fn list<'a, const N: usize>(
    text: &'a str,
    names: [&'static str; N],
) -> Result<[Option<&'a RawValue>; N], RequestError> {
    let too_many = || {
        let expected = if N == 0 { "none".to_owned() } else { format!("at most {N} ({})", names.join(", ")) };
        RequestError::new(format!("params[{N}]"), format!("one parameter too many, expected {expected}"))
    };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let read = deserializer.deserialize_seq(Values::<N>);
    // The text is valid JSON: it was read as a part of the call.
    read.map_err(|_longer| too_many())
}

struct Values<const N: usize>;

impl<'de, const N: usize> Visitor<'de> for Values<N> {
    type Value = [Option<&'de RawValue>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut values = [None; N];
        for slot in &mut values {
            *slot = entries.next_element()?;
        }
        match entries.next_element::<&RawValue>()? {
            None => Ok(values),
            Some(_) => Err(A::Error::custom("too many")),
        }
    }
}
