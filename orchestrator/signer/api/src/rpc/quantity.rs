//! Whole numbers as Ethereum's RPC writes them: `"0x5208"`, without leading zeros.

use ethereum::amount::Wei;

use crate::error::RequestError;
use crate::field::Field;

/// A number as JSON-RPC writes it, without quotes.
#[must_use]
pub fn quantity(number: u128) -> String {
    format!("{number:#x}")
}

/// Reads a quantity below 2^128 with its quotes.
#[must_use]
pub fn read_quantity(json: &str) -> Option<u128> {
    let digits = json.strip_prefix("\"0x")?.strip_suffix('"')?;
    let is_canonical = digits == "0" || !digits.starts_with('0');
    let is_hex = (1..=32).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_canonical && is_hex).then(|| u128::from_str_radix(digits, 16).ok())?
}

impl Field<'_> {
    /// A whole number within these bounds.
    pub(super) fn quantity(&self, min: u64, max: u64) -> Result<u64, RequestError> {
        let number = self.hex_number().and_then(|number| u64::try_from(number).ok());
        number.filter(|number| (min..=max).contains(number)).ok_or_else(|| {
            self.error(&format!(
                "expected a number from {min} to {max} as a quantity in hex without leading zeros, such as \"0x5208\""
            ))
        })
    }

    /// A number of wei.
    pub(super) fn wei_quantity(&self) -> Result<Wei, RequestError> {
        let expected =
            "expected a number of wei below 2^128 as a quantity in hex without leading zeros, such as \"0x3b9aca00\"";
        self.hex_number().map(Wei).ok_or_else(|| self.error(expected))
    }

    /// A JSON number is refused: some clients would round it.
    fn hex_number(&self) -> Option<u128> {
        read_quantity(self.text)
    }
}
