//! Amounts of ether: decimal text becomes whole wei exactly, without a float anywhere.
//!
//! By hand: ethers-core's `parse_units` drops what is below a wei, which is an error here.

use std::fmt;

use thiserror::Error;

/// 10^18 wei are an ether.
pub const ETHER: u32 = 18;
/// 10^9 wei are a gwei.
pub const GWEI: u32 = 9;

/// The longest number that is read; the longest that means anything has 40 digits.
const MAX_LEN: usize = 100;

/// A number of wei. All ether that exists is less than 2^87 of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wei(pub u128);

/// Why text is not an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AmountError {
    /// Not the grammar of a JSON number (RFC 8259, section 6), or one that is absurdly long.
    #[error("expected a decimal number such as 0.25")]
    Grammar,
    /// A minus sign.
    #[error("negative, expected zero or more")]
    Negative,
    /// Something is left below one wei.
    #[error("finer than a wei, expected at most {0} decimals")]
    Precision(u32),
    /// Not below 2^128 wei.
    #[error("out of range, expected less than 2^128 wei")]
    Range,
    /// A configured amount without its unit.
    #[error("expected a number and its unit, such as \"1.5 ether\", \"30 gwei\" or \"5 wei\"")]
    Unit,
}

impl Wei {
    /// Reads a number of units of 10^`decimals` wei, in the grammar of a JSON number: `0.1`, `12`, `1e-18`.
    ///
    /// # Errors
    /// Another grammar, a sign, a fraction of a wei, or 2^128 wei and more.
    pub fn from_decimal(text: &str, decimals: u32) -> Result<Self, AmountError> {
        let number = Number::parse(text).ok_or(AmountError::Grammar)?;
        if number.is_negative {
            return Err(AmountError::Negative);
        }
        let fraction = i64::try_from(number.fraction.len()).map_err(|_too_long| AmountError::Grammar)?;
        let mut scale = i64::from(decimals) + number.exponent - fraction;
        let digits = [number.whole, number.fraction].concat();
        let mut digits = digits.trim_start_matches('0');
        while scale < 0 {
            let Some(shorter) = digits.strip_suffix('0') else { break };
            (digits, scale) = (shorter, scale + 1);
        }
        if digits.is_empty() {
            return Ok(Self(0));
        }
        if scale < 0 {
            return Err(AmountError::Precision(decimals));
        }
        let factor =
            u32::try_from(scale).ok().and_then(|scale| 10_u128.checked_pow(scale)).ok_or(AmountError::Range)?;
        let digits: u128 = digits.parse().map_err(|_too_many| AmountError::Range)?;
        digits.checked_mul(factor).map(Self).ok_or(AmountError::Range)
    }

    /// Reads an amount of the configuration: `1.5 ether`, `30 gwei`, `5 wei`.
    ///
    /// # Errors
    /// No unit, and those of [`Wei::from_decimal`].
    pub fn from_unit(text: &str) -> Result<Self, AmountError> {
        let (number, unit) = text.split_once(' ').ok_or(AmountError::Unit)?;
        match unit {
            "ether" => Self::from_decimal(number, ETHER),
            "gwei" => Self::from_decimal(number, GWEI),
            "wei" => Self::from_decimal(number, 0),
            _ => Err(AmountError::Unit),
        }
    }
}

impl fmt::Display for Wei {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} wei", self.0)
    }
}

struct Number<'a> {
    is_negative: bool,
    whole: &'a str,
    fraction: &'a str,
    exponent: i64,
}

impl<'a> Number<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        if text.len() > MAX_LEN {
            return None;
        }
        let (is_negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (whole, rest) = digits(rest)?;
        if whole.len() > 1 && whole.starts_with('0') {
            return None;
        }
        let (fraction, rest) = rest.strip_prefix('.').map_or(Some(("", rest)), digits)?;
        let (exponent, rest) = match rest.strip_prefix(['e', 'E']) {
            None => (0, rest),
            Some(rest) => {
                let (sign, rest) = match rest.strip_prefix('-') {
                    Some(rest) => (-1, rest),
                    None => (1, rest.strip_prefix('+').unwrap_or(rest)),
                };
                let (exponent, rest) = digits(rest)?;
                (sign * i64::from(exponent.parse::<u32>().ok()?), rest)
            }
        };
        rest.is_empty().then_some(Self { is_negative, whole, fraction, exponent })
    }
}

/// Splits one digit or more off the front.
fn digits(text: &str) -> Option<(&str, &str)> {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ether(text: &str) -> Result<u128, AmountError> {
        Wei::from_decimal(text, ETHER).map(|wei| wei.0)
    }

    #[test]
    fn decimal_ether_is_converted_exactly() {
        assert_eq!(ether("0.1"), Ok(100_000_000_000_000_000));
        assert_eq!(ether("1.000000000000000001"), Ok(1_000_000_000_000_000_001));
        assert_eq!(ether("0"), Ok(0));
        assert_eq!(ether("0.000"), Ok(0));
        assert_eq!(ether("0.1000000000000000000000000"), Ok(100_000_000_000_000_000));
        assert_eq!(ether("340282366920938463463.374607431768211455"), Ok(u128::MAX));
    }

    #[test]
    fn the_exponents_that_json_writers_emit_are_read() {
        assert_eq!(ether("1e-05"), Ok(10_000_000_000_000));
        assert_eq!(ether("1e-18"), Ok(1));
        assert_eq!(ether("1.5E+2"), Ok(150_000_000_000_000_000_000));
        assert_eq!(ether("10e-19"), Ok(1));
        assert_eq!(ether("0e4294967295"), Ok(0));
    }

    #[test]
    fn less_than_a_wei_is_refused() {
        for text in ["1e-19", "0.0000000000000000001", "1.0000000000000000005", "1e-4294967295"] {
            assert_eq!(ether(text), Err(AmountError::Precision(18)), "{text}");
        }
    }

    #[test]
    fn more_than_a_u128_is_refused() {
        for text in ["340282366920938463463.374607431768211456", "1e21", "1e4294967295", "4e20"] {
            assert_eq!(ether(text), Err(AmountError::Range), "{text}");
        }
    }

    #[test]
    fn what_is_no_number_or_has_a_sign_is_refused() {
        for text in
            ["", ".", ".5", "1.", "01", "+1", "1e", "1e+", "0x10", "1,5", " 1", "1 ", "NaN", "1e99999999999", "١"]
        {
            assert_eq!(ether(text), Err(AmountError::Grammar), "{text}");
        }
        assert_eq!(ether(&"1".repeat(101)), Err(AmountError::Grammar));
        assert_eq!(ether("-1"), Err(AmountError::Negative));
        assert_eq!(ether("-0"), Err(AmountError::Negative));
    }

    #[test]
    fn a_configured_amount_says_its_unit() {
        assert_eq!(Wei::from_unit("1.5 ether"), Ok(Wei(1_500_000_000_000_000_000)));
        assert_eq!(Wei::from_unit("30 gwei"), Ok(Wei(30_000_000_000)));
        assert_eq!(Wei::from_unit("5 wei"), Ok(Wei(5)));
        assert_eq!(Wei::from_unit("0.5 wei"), Err(AmountError::Precision(0)));
        for text in ["5", "5 eth", "5  wei", "ether"] {
            assert!(Wei::from_unit(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_integers_say_is_what_is_read(wei: u128) {
            let text = format!("{}.{:018}", wei / 10_u128.pow(18), wei % 10_u128.pow(18));
            prop_assert_eq!(ether(&text), Ok(wei));
        }
    }
}
