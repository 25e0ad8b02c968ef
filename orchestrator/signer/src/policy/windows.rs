//! Limits of what is signed in a time: how much ether, how much of a token, how many signatures.
//!
//! ```toml
//! [[signer.policy.windows]]
//! period = "24h"
//! max_value = "10 ether"        # the value of transactions, without fees
//! [[signer.policy.windows]]
//! period = "1h"
//! max_count = 100               # all that is signed
//! [[signer.policy.windows]]
//! period = "24h"
//! token = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48"
//! max = "5000"                  # what rules for arguments declare as payments in this token
//! decimals = 6                  # optional
//! ```
//!
//! [`crate::windows`] counts.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use ethereum::address::Address;
use ethereum::amount::{ETHER, Wei};
use ethereum::number::{MAX_DECIMALS, Uint};
use humantime_serde::re::humantime::format_duration;
use serde::Deserialize;

use super::argument::Payment;

/// A rolling window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// How long what is signed counts.
    pub(crate) period: Duration,
    /// What is counted, and the most.
    pub(crate) limit: Limit,
}

/// What a window limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// The ether of transactions.
    Value(Wei),
    /// Signatures.
    Count(u64),
    /// Payments in a token.
    Token { token: Address, max: Uint, decimals: u8 },
}

/// What one signature spends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Ether.
    pub(crate) value: Wei,
    /// Tokens, each once.
    pub(crate) payments: Vec<Payment>,
}

/// `[[signer.policy.windows]]` as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WindowTable {
    #[serde(with = "humantime_serde")]
    period: Duration,
    max_value: Option<String>,
    max_count: Option<u64>,
    token: Option<String>,
    max: Option<String>,
    decimals: Option<u8>,
}

impl Window {
    /// Reads the tables at `path`.
    ///
    /// # Errors
    /// One sentence with the key and what is expected.
    pub(super) fn read_all(path: &str, tables: &[WindowTable]) -> Result<Vec<Self>> {
        ensure!(!tables.is_empty(), "{path}: an empty list limits nothing, expected windows or no such key");
        tables.iter().enumerate().map(|(at, table)| table.read(&format!("{path}[{at}]"))).collect()
    }

    /// What a signature adds to it.
    pub(crate) fn part(&self, amounts: &Amounts) -> Uint {
        match self.limit {
            Limit::Value(_) => Uint::from(amounts.value.0),
            Limit::Count(_) => Uint::from(1),
            Limit::Token { token, .. } => {
                let of_token = amounts.payments.iter().filter(|payment| payment.token == token);
                of_token.fold(Uint::ZERO, |sum, payment| sum.saturating_add(payment.amount))
            }
        }
    }

    /// The most that may be counted.
    pub(crate) fn max(&self) -> Uint {
        match self.limit {
            Limit::Value(Wei(max)) => Uint::from(max),
            Limit::Count(max) => Uint::from(u128::from(max)),
            Limit::Token { max, .. } => max,
        }
    }

    /// The key that sets the limit.
    pub(crate) fn kind(&self) -> &'static str {
        match self.limit {
            Limit::Value(_) => "max_value",
            Limit::Count(_) => "max_count",
            Limit::Token { .. } => "max",
        }
    }

    /// What it counts, for which its maximum does not matter.
    pub(crate) fn counts(&self) -> String {
        match self.limit {
            Limit::Value(_) => "ether".to_owned(),
            Limit::Count(_) => "signatures".to_owned(),
            Limit::Token { token, .. } => format!("token {token}"),
        }
    }

    /// The length of the window.
    pub(crate) fn length(&self) -> Duration {
        self.period
    }

    /// The length of the window in words.
    pub(crate) fn period(&self) -> String {
        format_duration(self.period).to_string()
    }

    /// A number of what it counts.
    pub(crate) fn shown(&self, number: Uint) -> String {
        match self.limit {
            Limit::Value(_) => format!("{} ether", number.in_units(u8::try_from(ETHER).unwrap_or(MAX_DECIMALS))),
            Limit::Count(_) if number == Uint::from(1) => "1 signature".to_owned(),
            Limit::Count(_) => format!("{number} signatures"),
            Limit::Token { token, decimals, .. } => format!("{} of token {token}", number.in_units(decimals)),
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.shown(self.max()), self.period())
    }
}

impl WindowTable {
    fn read(&self, path: &str) -> Result<Window> {
        let longest = Duration::from_hours(31 * 24);
        ensure!(
            (Duration::from_secs(1)..=longest).contains(&self.period),
            "{path}.period: expected a time from \"1s\" to \"31days\""
        );
        if self.token.is_none() {
            for (key, is_there) in [("max", self.max.is_some()), ("decimals", self.decimals.is_some())] {
                ensure!(!is_there, "{path}.{key}: needs token, expected both or neither");
            }
        }
        let limit = match (&self.max_value, self.max_count, &self.token) {
            (Some(text), None, None) => {
                let read = || format!("{path}.max_value: `{}`", text.escape_debug());
                Limit::Value(Wei::from_unit(text).with_context(read)?)
            }
            (None, Some(max), None) => {
                ensure!(max > 0, "{path}.max_count: 0 allows no signature, expected at least 1");
                Limit::Count(max)
            }
            (None, None, Some(token)) => {
                let address = token.parse().with_context(|| format!("{path}.token: `{}`", token.escape_debug()))?;
                let decimals = self.decimals.unwrap_or(0);
                ensure!(decimals <= MAX_DECIMALS, "{path}.decimals: {decimals}, expected 0 to {MAX_DECIMALS}");
                let max = self.max.as_deref();
                let max = max.with_context(|| format!("{path}.max: missing, expected an amount such as \"5000\""))?;
                let read = || format!("{path}.max: `{}`", max.escape_debug());
                Limit::Token { token: address, max: Uint::from_decimal(max, decimals).with_context(read)?, decimals }
            }
            _ => bail!("{path}: expected exactly one of max_value, max_count, and token with max"),
        };
        Ok(Window { period: self.period, limit })
    }
}

#[cfg(test)]
mod tests;
