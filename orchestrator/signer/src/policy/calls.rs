//! Rules for the arguments of calls.
//!
//! ```toml
//! [signer.policy.calls.0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48]   # calls of this contract: these and no others
//! "transfer(address to, uint256 amount)" = { to = ["0x…"], amount = { max = "1000", decimals = 6, is_payment = true } }
//! [signer.policy.calls]                                              # calls of any other recipient
//! "pause()" = {}
//! ```
//!
//! A call is found by the first four bytes of its data. Its data has to be what encoding its arguments gives, see [`ethereum::abi`], and
//! each argument has to pass its rule, see [`super::argument`].

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use ethereum::abi::Function;
use ethereum::address::Address;
use ethereum::hex;

use super::argument::{Argument, Payment};
use super::written::Written;

/// Empty: no rules, so `data_selectors` alone judges calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Calls {
    contracts: BTreeMap<Address, Functions>,
    others: Functions,
}

type Functions = BTreeMap<[u8; 4], Call>;

/// A function and the rules of its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Call {
    function: Function,
    arguments: Vec<(String, Argument)>,
}

impl Calls {
    /// Reads the table at `path`.
    ///
    /// # Errors
    /// One sentence with the key and what is expected.
    pub(super) fn read(path: &str, table: &BTreeMap<String, Written>) -> Result<Self> {
        ensure!(!table.is_empty(), "{path}: empty, expected functions or contracts with functions");
        let mut calls = Self::default();
        for (key, written) in table {
            if !key.starts_with("0x") {
                add(&mut calls.others, path, key, written)?;
                continue;
            }
            let path = format!("{path}.{key}");
            let contract: Address = key.parse().with_context(|| path.clone())?;
            let mut functions = Functions::new();
            let table = match written {
                Written::Table(table) => Some(table).filter(|table| !table.is_empty()),
                Written::Bool(_) | Written::Integer(_) | Written::Float(_) | Written::Text(_) | Written::List(_) => {
                    None
                }
            };
            let expected = "expected a table of functions such as \"transfer(address to, uint256 amount)\"";
            let table = table.with_context(|| format!("{path}: {written}, {expected}"))?;
            table.iter().try_for_each(|(key, written)| add(&mut functions, &path, key, written))?;
            ensure!(calls.contracts.insert(contract, functions).is_none(), "{path}: written twice, expected once");
        }
        Ok(calls)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.contracts.is_empty() && self.others.is_empty()
    }

    /// The contracts that have functions of their own.
    pub(super) fn contracts(&self) -> impl Iterator<Item = Address> + '_ {
        self.contracts.keys().copied()
    }

    /// The function of any contract with this selector.
    pub(super) fn function(&self, selector: [u8; 4]) -> Option<&str> {
        let mut functions = self.contracts.values().chain([&self.others]);
        functions.find_map(|functions| functions.get(&selector)).map(|call| call.function.signature.as_str())
    }

    /// Whether any call may be a payment.
    pub(super) fn pay(&self) -> bool {
        let mut calls = self.contracts.values().chain([&self.others]).flat_map(BTreeMap::values);
        calls.any(|call| Argument::pays(&call.arguments))
    }

    /// Judges a call. None if no rule is about it, and `data_selectors` has to judge it.
    pub(super) fn check(&self, to: Address, data: &[u8]) -> Option<Result<(), String>> {
        match (self.find(to, data), self.contracts.get(&to)) {
            (Some(call), _) => Some(call.check(to, data)),
            (None, Some(functions)) => {
                let known: Vec<_> = functions.values().map(|call| call.function.signature.as_str()).collect();
                let found = hex::prefixed(data.get(..4).unwrap_or(data));
                Some(Err(format!("{found} is no call that {to} may get, expected {}", known.join(" or "))))
            }
            (None, None) => None,
        }
    }

    /// What a call pays, as its rules say.
    pub(super) fn payments(&self, to: Address, data: &[u8]) -> Vec<Payment> {
        let mut payments = Vec::new();
        if let Some(call) = self.find(to, data)
            && let Ok(values) = call.function.decode(data)
        {
            Argument::payments(&call.arguments, &values, to, &mut payments);
        }
        payments
    }

    fn find(&self, to: Address, data: &[u8]) -> Option<&Call> {
        self.contracts.get(&to).unwrap_or(&self.others).get(data.first_chunk::<4>()?)
    }
}

impl Call {
    fn check(&self, to: Address, data: &[u8]) -> Result<(), String> {
        let signature = &self.function.signature;
        let values = self.function.decode(data);
        let values = values.map_err(|error| format!("{signature} of {to}: the data cannot be judged: {error}"))?;
        Argument::check_all(&self.arguments, "", &values).map_err(|problem| format!("{signature} of {to}: {problem}"))
    }
}

fn add(functions: &mut Functions, path: &str, key: &str, written: &Written) -> Result<()> {
    let path = format!("{path}.\"{}\"", key.escape_debug());
    let function: Function = key.parse().with_context(|| path.clone())?;
    let Written::Table(table) = written else {
        bail!("{path}: {written}, expected a table with a rule for each argument");
    };
    let arguments = Argument::read_all(&path, table, &function.parameters)?;
    let (selector, signature) = (function.selector, function.signature.clone());
    if let Some(other) = functions.insert(selector, Call { function, arguments }) {
        bail!(
            "{path}: {signature} and {} have the same selector {}, expected one of them",
            other.function.signature,
            hex::prefixed(&selector)
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests;
