//! Numbers of 256 bits, as contracts have them.

use std::fmt;

use alloy_primitives::{I256, U256};

/// A number of 256 bits, big endian; a negative one is the two's complement. Ordered as numbers without a sign.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Word(pub [u8; 32]);

impl Word {
    /// Reads decimal digits without a sign and without a leading zero.
    #[must_use]
    pub fn from_decimal(digits: &str) -> Option<Self> {
        let is_canonical = digits == "0" || !digits.starts_with('0');
        let is_decimal = (1..=78).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
        (is_canonical && is_decimal).then(|| U256::from_str_radix(digits, 10).ok())?.map(Self::of)
    }

    /// Reads 1 to 64 hex digits without a prefix.
    #[must_use]
    pub fn from_hex(digits: &str) -> Option<Self> {
        let is_hex = (1..=64).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hex.then(|| U256::from_str_radix(digits, 16).ok())?.map(Self::of)
    }

    /// Less than zero, of this many. None beyond -2^255.
    #[must_use]
    pub fn negative(self) -> Option<Self> {
        let lowest = I256::MIN.into_raw();
        let number = self.number();
        (number <= lowest).then(|| Self::of(number.wrapping_neg()))
    }

    /// The number, if it is below 2^128 and not negative.
    #[must_use]
    pub fn to_u128(self) -> Option<u128> {
        self.number().try_into().ok()
    }

    /// Whether a `uint` of this many bits can be it.
    #[must_use]
    pub fn is_uint(self, bits: usize) -> bool {
        self.number().bit_len() <= bits
    }

    /// Whether an `int` of this many bits can be it.
    #[must_use]
    pub fn is_int(self, bits: usize) -> bool {
        let number = I256::from_raw(self.number());
        // Without the sign; as many as its complement has.
        let magnitude = if number.is_negative() { !number } else { number };
        magnitude.into_raw().bit_len() < bits
    }

    /// As `int`s are written.
    #[must_use]
    pub fn to_signed_string(self) -> String {
        I256::from_raw(self.number()).to_string()
    }

    fn of(number: U256) -> Self {
        Self(number.to_be_bytes())
    }

    fn number(self) -> U256 {
        U256::from_be_bytes(self.0)
    }
}

impl From<u128> for Word {
    fn from(number: u128) -> Self {
        Self::of(U256::from(number))
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.number(), f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: &str = "115792089237316195423570985008687907853269984665640564039457584007913129639935";
    const MIN: &str = "57896044618658097711785492504343953926634992332820282019728792003956564819968";

    #[test]
    fn decimal_and_hex_digits_are_read_to_the_last_number() {
        assert_eq!(Word::from_decimal(MAX), Some(Word([0xff; 32])));
        assert_eq!(Word::from_decimal(&MAX.replace("935", "936")), None);
        assert_eq!(Word::from_decimal("0"), Some(Word::default()));
        assert_eq!(Word::from_hex(&"f".repeat(64)), Some(Word([0xff; 32])));
        assert_eq!(Word::from_hex("0a"), Some(10_u128.into()));
        for wrong in ["", "00", "01", "-1", "+1", "1.0", "1e3", "0x1", "a", " 1", "1_0", &"1".repeat(79)] {
            assert_eq!(Word::from_decimal(wrong), None, "{wrong}");
        }
        for wrong in ["", "0x1", "g", "-1", "+1", "1_0", &"0".repeat(65)] {
            assert_eq!(Word::from_hex(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_lowest_negative_number_is_read_and_the_next_is_not() {
        let lowest = Word::from_decimal(MIN).unwrap();
        assert_eq!(lowest.negative().unwrap().to_signed_string(), format!("-{MIN}"));
        assert_eq!(Word::from_decimal(&MIN.replace("968", "969")).unwrap().negative(), None);
        assert_eq!(Word::from(1).negative(), Some(Word([0xff; 32])));
        assert_eq!(Word::from(0).negative(), Some(Word::from(0)));
    }

    #[test]
    fn each_width_has_its_range() {
        let minus = |number: u128| Word::from(number).negative().unwrap();
        assert!(Word::from(255).is_uint(8) && !Word::from(256).is_uint(8) && Word([0xff; 32]).is_uint(256));
        assert!(Word::from(127).is_int(8) && !Word::from(128).is_int(8));
        assert!(minus(128).is_int(8) && !minus(129).is_int(8));
        assert!(Word::from_decimal(MIN).unwrap().negative().unwrap().is_int(256));
        assert!(!minus(1).is_uint(248) && minus(1).to_u128().is_none());
    }

    proptest! {
        #[test]
        fn numbers_are_read_as_they_are_written(number: u128, bits in 1..=128_usize) {
            let word = Word::from(number);
            prop_assert_eq!(Word::from_decimal(&word.to_string()), Some(word));
            prop_assert_eq!(Word::from_hex(&format!("{number:x}")), Some(word));
            prop_assert_eq!(word.to_u128(), Some(number));
            prop_assert_eq!(word.is_uint(bits), bits == 128 || number >> bits == 0);
            prop_assert_eq!(word.is_int(bits), number >> (bits - 1) == 0);
        }
    }
}
