//! Rules whose keys depend on a declared type, as TOML has them before it is known which.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

/// A value of TOML.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Written {
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    List(Vec<Written>),
    Table(BTreeMap<String, Written>),
}

impl fmt::Display for Written {
    /// What an error shows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(is_true) => write!(f, "{is_true}"),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Float(number) => write!(f, "{number}"),
            Self::Text(text) => write!(f, "\"{}\"", text.escape_debug()),
            Self::List(_) => f.write_str("a list"),
            Self::Table(_) => f.write_str("a table"),
        }
    }
}
