//! Whole numbers of 256 bits, as contracts count.

use std::fmt;

use alloy_primitives::{I256, Sign, U256};
use thiserror::Error;

/// 10 to a higher power is more than 256 bits.
pub const MAX_DECIMALS: u8 = 77;

/// At least 0, below 2^256.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uint(U256);

/// At least -2^255, below 2^255.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Int(I256);

/// Why text is not such a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NumberError {
    /// Another character than a digit, or none.
    #[error("expected a decimal number such as \"1000\" or \"0.5\"")]
    Grammar,
    /// Something is left below a unit.
    #[error("finer than a unit, expected at most {0} decimals")]
    Precision(u8),
    /// More than 256 bits.
    #[error("out of range, expected at most 2^256 - 1 units")]
    Range,
}

impl Uint {
    /// Nothing.
    pub const ZERO: Self = Self(U256::ZERO);

    /// The largest: what an unlimited allowance is.
    pub const MAX: Self = Self(U256::MAX);

    /// Reads a number of 10^`decimals` units, such as `1000` or `0.5`.
    ///
    /// # Errors
    /// Another grammar, a fraction of a unit, or more than 256 bits.
    pub fn from_decimal(text: &str, decimals: u8) -> Result<Self, NumberError> {
        let (whole, fraction) = match text.split_once('.') {
            Some((_, "")) => return Err(NumberError::Grammar),
            Some((whole, fraction)) => (whole, fraction),
            None => (text, ""),
        };
        let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !is_number(whole) || !is_number(fraction) {
            return Err(NumberError::Grammar);
        }
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > usize::from(decimals) {
            return Err(NumberError::Precision(decimals));
        }
        let digits = format!("{whole}{fraction:0<0$}", usize::from(decimals));
        U256::from_str_radix(&digits, 10).map(Self).map_err(|_too_many| NumberError::Range)
    }

    /// Reads decimal digits without a sign and without a leading zero.
    #[must_use]
    pub fn from_digits(digits: &str) -> Option<Self> {
        let is_canonical = digits == "0" || !digits.starts_with('0');
        let is_decimal = (1..=78).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
        (is_canonical && is_decimal).then(|| U256::from_str_radix(digits, 10).ok())?.map(Self)
    }

    /// Reads 1 to 64 hex digits without a prefix.
    #[must_use]
    pub fn from_hex(digits: &str) -> Option<Self> {
        let is_hex = (1..=64).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hex.then(|| U256::from_str_radix(digits, 16).ok())?.map(Self)
    }

    /// From its 32 bytes.
    #[must_use]
    pub const fn from_be_bytes(bytes: [u8; 32]) -> Self {
        Self(U256::from_be_bytes(bytes))
    }

    /// Its 32 bytes.
    #[must_use]
    pub const fn to_be_bytes(self) -> [u8; 32] {
        self.0.to_be_bytes()
    }

    /// The number, if it is below 2^128.
    #[must_use]
    pub fn to_u128(self) -> Option<u128> {
        self.0.try_into().ok()
    }

    /// The sum, or none beyond 256 bits.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The sum, and the largest number beyond 256 bits.
    #[must_use]
    pub fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, at least 0.
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// One of so many equal parts, rounded down.
    ///
    /// # Panics
    /// There are no parts.
    #[must_use]
    pub fn divided_by(self, parts: u32) -> Self {
        Self(self.0 / U256::from(parts))
    }

    /// Whether it has at most this many bits.
    #[must_use]
    pub fn fits(self, bits: usize) -> bool {
        self.0.bit_len() <= bits
    }

    /// The whole percent that it is of `all`, at most 100; of nothing, everything is all.
    #[must_use]
    pub fn percent_of(self, all: Self) -> u8 {
        let percent = if self.0 >= all.0 {
            U256::from(100)
        } else {
            // Below a hundredth of 2^256, the product fits; above, a hundredth of each is exact enough.
            self.0
                .checked_mul(U256::from(100))
                .map_or_else(|| self.0 / (all.0 / U256::from(100)), |hundred| hundred / all.0)
        };
        u8::try_from(percent).unwrap_or(100)
    }

    /// In units of 10^`decimals`: `0.5`.
    #[must_use]
    pub fn in_units(self, decimals: u8) -> String {
        let decimals = usize::from(decimals);
        let digits = format!("{:0>1$}", self.0.to_string(), decimals + 1);
        let (whole, fraction) = digits.split_at(digits.len() - decimals);
        match fraction.trim_end_matches('0') {
            "" => whole.to_owned(),
            fraction => format!("{whole}.{fraction}"),
        }
    }
}

impl From<u128> for Uint {
    fn from(number: u128) -> Self {
        Self(U256::from(number))
    }
}

impl fmt::Display for Uint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Int {
    /// Reads a whole number, with a minus sign below zero.
    ///
    /// # Errors
    /// Another grammar, or more than 256 bits.
    pub fn from_decimal(text: &str) -> Result<Self, NumberError> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NumberError::Grammar);
        }
        I256::from_dec_str(text).map(Self).map_err(|_too_many| NumberError::Range)
    }

    /// So much above or below zero. None beyond 2^255 - 1 or -2^255.
    #[must_use]
    pub fn from_magnitude(magnitude: Uint, is_negative: bool) -> Option<Self> {
        let sign = if is_negative { Sign::Negative } else { Sign::Positive };
        I256::checked_from_sign_and_abs(sign, magnitude.0).map(Self)
    }

    /// From its 32 bytes, two's complement.
    #[must_use]
    pub const fn from_be_bytes(bytes: [u8; 32]) -> Self {
        Self(I256::from_raw(U256::from_be_bytes(bytes)))
    }

    /// Its 32 bytes, two's complement.
    #[must_use]
    pub const fn to_be_bytes(self) -> [u8; 32] {
        self.0.into_raw().to_be_bytes()
    }

    /// Whether it has at most this many bits, with its sign.
    #[must_use]
    pub fn fits(self, bits: usize) -> bool {
        let sign = self.0.asr(bits.saturating_sub(1));
        sign == I256::ZERO || sign == I256::MINUS_ONE
    }
}

impl fmt::Display for Int {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: &str = "115792089237316195423570985008687907853269984665640564039457584007913129639935";
    /// Of the lowest with a sign.
    const MIN: &str = "57896044618658097711785492504343953926634992332820282019728792003956564819968";

    fn read(text: &str, decimals: u8) -> Result<String, NumberError> {
        Uint::from_decimal(text, decimals).map(|number| number.to_string())
    }

    #[test]
    fn decimals_are_converted_exactly() {
        for (text, decimals, expected) in [
            ("1000", 6, "1000000000"),
            ("0.5", 6, "500000"),
            ("0.000001", 6, "1"),
            ("1.500000000", 6, "1500000"),
            ("0", 0, "0"),
            ("007", 0, "7"),
            (MAX, 0, MAX),
        ] {
            assert_eq!(read(text, decimals).as_deref(), Ok(expected), "{text}");
        }
        assert_eq!(read("1", MAX_DECIMALS).unwrap().len(), 78);
    }

    #[test]
    fn what_is_no_number_too_fine_or_too_large_is_refused() {
        for text in ["", ".", "1.", ".5", "-1", "+1", "1e3", "0x10", "1_000", " 1", "1,5", "1.-5", "١"] {
            assert_eq!(read(text, 6), Err(NumberError::Grammar), "{text}");
        }
        assert_eq!(read("0.0000001", 6), Err(NumberError::Precision(6)));
        assert_eq!(read("0.5", 0), Err(NumberError::Precision(0)));
        let above = MAX.replacen("935", "936", 1);
        for (text, decimals) in [(above.as_str(), 0), (MAX, 1), ("12", MAX_DECIMALS)] {
            assert_eq!(read(text, decimals), Err(NumberError::Range), "{text}");
        }
        let int = |text: &str| Int::from_decimal(text).map(|number| number.to_string());
        assert_eq!(int("-5").as_deref(), Ok("-5"));
        for text in ["", "-", "--5", "+5", "5.0", "0x5"] {
            assert_eq!(int(text), Err(NumberError::Grammar), "{text}");
        }
        assert_eq!(int(MAX), Err(NumberError::Range));
    }

    #[test]
    fn digits_are_read_to_the_last_number_and_one_way_alone() {
        assert_eq!(Uint::from_digits(MAX), Some(Uint::MAX));
        assert_eq!(Uint::from_digits(&MAX.replace("935", "936")), None);
        assert_eq!(Uint::from_digits("0"), Some(Uint::ZERO));
        assert_eq!(Uint::from_hex(&"f".repeat(64)), Some(Uint::MAX));
        assert_eq!(Uint::from_hex("0a"), Some(10_u128.into()));
        for wrong in ["", "00", "01", "-1", "+1", "1.0", "1e3", "0x1", "a", " 1", "1_0", &"1".repeat(79)] {
            assert_eq!(Uint::from_digits(wrong), None, "{wrong}");
        }
        for wrong in ["", "0x1", "g", "-1", "+1", "1_0", &"0".repeat(65)] {
            assert_eq!(Uint::from_hex(wrong), None, "{wrong}");
        }
        assert_eq!(Uint::MAX.to_u128(), None);
    }

    #[test]
    fn the_lowest_and_the_highest_number_with_a_sign_are_read_and_the_next_are_not() {
        let uint = |text: &str| Uint::from_digits(text).unwrap();
        let lowest = Int::from_magnitude(uint(MIN), true).unwrap();
        assert_eq!(lowest.to_string(), format!("-{MIN}"));
        assert_eq!(Int::from_magnitude(uint(&MIN.replace("968", "969")), true), None);
        assert_eq!(Int::from_magnitude(uint(MIN), false), None);
        assert!(Int::from_magnitude(uint(&MIN.replace("968", "967")), false).is_some());
        assert_eq!(Int::from_magnitude(Uint::from(1), true).unwrap().to_be_bytes(), [0xff; 32]);
        assert_eq!(Int::from_magnitude(Uint::ZERO, true), Some(Int::default()));
    }

    #[test]
    fn a_number_fits_into_its_bits_alone() {
        let uint = |text| Uint::from_decimal(text, 0).unwrap();
        assert!(uint("255").fits(8) && !uint("256").fits(8) && Uint::MAX.fits(256) && !Uint::MAX.fits(248));
        let int = |text| Int::from_decimal(text).unwrap();
        assert!(int("127").fits(8) && int("-128").fits(8) && !int("128").fits(8) && !int("-129").fits(8));
        assert!(int("-128").fits(256) && int("-1").fits(8));
    }

    #[test]
    fn a_part_is_shown_in_percent() {
        let percent = |part: u128, all: u128| Uint::from(part).percent_of(Uint::from(all));
        assert_eq!((percent(0, 10), percent(5, 10), percent(999, 1000), percent(10, 10)), (0, 50, 99, 100));
        assert_eq!(
            (percent(0, 0), Uint::MAX.percent_of(Uint::from(1)), Uint::MAX.percent_of(Uint::MAX)),
            (100, 100, 100)
        );
        assert_eq!(Uint(U256::MAX / U256::from(2)).percent_of(Uint::MAX), 50);
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_is_read(number: [u8; 32], decimals in 0..=MAX_DECIMALS) {
            let number = Uint::from_be_bytes(number);
            prop_assert_eq!(Uint::from_decimal(&number.in_units(decimals), decimals), Ok(number));
            prop_assert_eq!(Uint::from_decimal(&number.to_string(), 0), Ok(number));
            prop_assert_eq!(Uint::from_digits(&number.to_string()), Some(number));
        }

        #[test]
        fn small_numbers_are_those_of_the_processor(number: u128, bits in 1..=128_usize) {
            let uint = Uint::from(number);
            prop_assert_eq!(Uint::from_hex(&format!("{number:x}")), Some(uint));
            prop_assert_eq!(uint.to_u128(), Some(number));
            prop_assert_eq!(uint.fits(bits), bits == 128 || number >> bits == 0);
            let int = Int::from_magnitude(uint, false).unwrap();
            prop_assert_eq!(int.fits(bits), number >> (bits - 1) == 0);
            prop_assert_eq!(int.to_be_bytes(), uint.to_be_bytes());
        }
    }
}
