//! A condition of a statement: a value of the call and its allowed values.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use attestation::Pcr;

use super::Call;
use super::document::Conditions;

/// A verified attestation document's PCRs, by number.
pub(crate) type Registers = BTreeMap<u8, Pcr>;

const ATTESTATION: &str = "kms:RecipientAttestation:";
const ENCRYPTION_CONTEXT: &str = "kms:EncryptionContext:";
const SAME_KEY: &str = "kms:ReEncryptOnSameKey";
/// The PCRs that AWS defines: image, kernel, application, role, instance, signing certificate.
const REGISTERS: [u8; 6] = [0, 1, 2, 3, 4, 8];

/// Met if the call has the value, and it is one of those listed; of `Null`, if it has none or one, as listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    operator: Operator,
    /// The condition key in the policy.
    name: String,
    key: Key,
    values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Bool,
    Null,
    StringEquals,
    StringEqualsIgnoreCase,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Key {
    /// `ImageSha384` means PCR0.
    Register(u8),
    Context(String),
    Same,
}

impl Condition {
    pub(super) fn all(conditions: Conditions) -> Result<Vec<Self>> {
        let mut all = Vec::new();
        for (operator, keys) in conditions.0 {
            let parsed = Operator::parse(&operator)?;
            ensure!(!keys.0.is_empty(), "{operator} is empty, expected at least one key");
            for (name, values) in keys.0 {
                all.push(Self::new(parsed, name.clone(), values.0).with_context(|| format!("{operator}: {name}"))?);
            }
        }
        ensure!(!all.is_empty(), "empty, expected at least one operator");
        Ok(all)
    }

    fn new(operator: Operator, name: String, values: Vec<String>) -> Result<Self> {
        ensure!(!values.is_empty(), "no values, expected at least one");
        let key = Key::parse(&name)?;
        match (operator, &key) {
            (Operator::Bool, Key::Same) | (Operator::Null, _) => {
                let is_truth = |value: &String| value == "true" || value == "false";
                ensure!(values.iter().all(is_truth), "{values:?}, expected \"true\" or \"false\"");
            }
            (Operator::Bool, _) => bail!("Bool, expected {SAME_KEY} with it"),
            (_, Key::Register(_)) => values.iter().try_for_each(|value| value.parse().map(|_: Pcr| ()))?,
            (_, Key::Context(_)) => {}
            (_, Key::Same) => bail!("expected Bool with it"),
        }
        Ok(Self { operator, name, key, values })
    }

    /// Why the call does not meet the condition; `None` if it does.
    pub(super) fn unmet(&self, call: &Call<'_>) -> Option<String> {
        let actual = match &self.key {
            // KMS compares in lower case.
            Key::Register(index) => call.registers.and_then(|registers| registers.get(index)).map(Pcr::to_string),
            Key::Context(name) => call.context.value(name).map(str::to_owned),
            Key::Same => call.is_same_key.map(|is_same| is_same.to_string()),
        };
        if self.operator == Operator::Null {
            let (has, expected) = if actual.is_some() { ("a", "false") } else { ("no", "true") };
            let is_met = self.values.iter().any(|value| value == expected);
            return (!is_met).then(|| format!("the call has {has} {}", self.name));
        }
        let Some(actual) = actual else {
            return Some(format!("the call has no {}", self.name));
        };
        let is_met = self.values.iter().any(|value| match self.operator {
            Operator::Bool | Operator::StringEquals | Operator::Null => *value == actual,
            Operator::StringEqualsIgnoreCase => value.to_lowercase() == actual.to_lowercase(),
        });
        if is_met { None } else { Some(format!("{} is {actual}, expected {}", self.name, self.values.join(" or "))) }
    }
}

impl Operator {
    fn parse(text: &str) -> Result<Self> {
        match text {
            "Bool" => Ok(Self::Bool),
            "Null" => Ok(Self::Null),
            "StringEquals" => Ok(Self::StringEquals),
            "StringEqualsIgnoreCase" => Ok(Self::StringEqualsIgnoreCase),
            _ => bail!("{text:?}, expected StringEquals, StringEqualsIgnoreCase, Bool or Null"),
        }
    }
}

impl Key {
    fn parse(name: &str) -> Result<Self> {
        if let Some(context) = name.strip_prefix(ENCRYPTION_CONTEXT) {
            ensure!(!context.is_empty(), "expected a name after {ENCRYPTION_CONTEXT}");
            return Ok(Self::Context(context.to_owned()));
        }
        if name == SAME_KEY {
            return Ok(Self::Same);
        }
        let register = match name.strip_prefix(ATTESTATION) {
            Some("ImageSha384") => Some(0),
            Some(other) => REGISTERS.into_iter().find(|index| other == format!("PCR{index}")),
            None => None,
        };
        register.map(Self::Register).with_context(|| {
            format!(
                "expected {ATTESTATION}ImageSha384, {ATTESTATION}PCR0, 1, 2, 3, 4 or 8, {ENCRYPTION_CONTEXT}NAME or {SAME_KEY}"
            )
        })
    }
}
