//! One platform configuration register.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The value of a platform configuration register: a SHA-384, shown as 96 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pcr(pub [u8; Pcr::LEN]);

/// Why a text is not a [`Pcr`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?}, expected the {digits} hex digits of a SHA-384", digits = 2 * Pcr::LEN)]
pub struct PcrError(String);

impl Pcr {
    /// PCR0 to PCR31; programs in the enclave extend PCR16 and above.
    pub const COUNT: u8 = 32;

    /// Bytes of a SHA-384.
    pub const LEN: usize = 48;

    /// Whether nothing was measured into it, or the enclave runs in debug mode.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.0 == [0; Self::LEN]
    }
}

impl FromStr for Pcr {
    type Err = PcrError;

    fn from_str(text: &str) -> Result<Self, PcrError> {
        // The library would accept a prefix 0x.
        match const_hex::decode_to_array(text) {
            Ok(bytes) if const_hex::check_raw(text) => Ok(Self(bytes)),
            Ok(_) | Err(_) => Err(PcrError(text.to_owned())),
        }
    }
}

/// A PCR and its required value: `N=HEX`, such as on a command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register {
    /// 0 to 31.
    pub index: u8,
    /// The required value.
    pub value: Pcr,
}

/// Why a text is not a [`Register`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RegisterError {
    /// Not a PCR's number.
    #[error("{0:?} is not a PCR number from 0 to 31; expected N=HEX, such as 16= and 96 hex digits")]
    Index(String),
    /// Not a PCR's value.
    #[error("PCR{index}: {problem}")]
    Value {
        /// The PCR's number.
        index: u8,
        /// The cause.
        problem: PcrError,
    },
}

impl FromStr for Register {
    type Err = RegisterError;

    fn from_str(text: &str) -> Result<Self, RegisterError> {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        let number = name.strip_prefix("PCR").unwrap_or(name);
        let index = number.parse().ok().filter(|index| *index < Pcr::COUNT);
        let index = index.ok_or_else(|| RegisterError::Index(name.to_owned()))?;
        let value = value.parse().map_err(|problem| RegisterError::Value { index, problem })?;
        Ok(Self { index, value })
    }
}

impl fmt::Display for Pcr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&const_hex::encode(self.0))
    }
}

impl fmt::Debug for Pcr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pcr_is_96_hex_digits_in_either_case() {
        let text = "0123456789abcdef".repeat(6);
        let pcr: Pcr = text.parse().unwrap();
        assert_eq!(pcr.0[..8], [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef]);
        assert_eq!(pcr.to_string(), text);
        assert_eq!(text.to_uppercase().parse(), Ok(pcr));
    }

    #[test]
    fn anything_else_is_not_a_pcr() {
        for text in ["", &"0".repeat(95), &"0".repeat(97), &"0".repeat(98), &"g".repeat(96), &"é".repeat(48)] {
            assert_eq!(text.parse::<Pcr>(), Err(PcrError(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn a_register_is_a_number_and_a_value() {
        for (name, index) in [("3", 3), ("16", 16), ("PCR31", 31)] {
            let text = format!("{name}={}", "ab".repeat(48));
            assert_eq!(text.parse(), Ok(Register { index, value: Pcr([0xab; 48]) }));
        }
        for wrong in ["", "=00", "x=00", "32=00", "256=00", "-1=00"] {
            let error = wrong.parse::<Register>().unwrap_err();
            assert!(
                matches!(&error, RegisterError::Index(_)) && error.to_string().contains("expected N=HEX"),
                "{wrong}"
            );
        }
        for wrong in ["3", "3=", "3=00"] {
            assert!(matches!(wrong.parse::<Register>(), Err(RegisterError::Value { index: 3, .. })), "{wrong}");
        }
    }

    #[test]
    fn only_a_pcr_of_zeros_is_zero() {
        assert!(Pcr([0; 48]).is_zero());
        let mut bytes = [0; 48];
        bytes[47] = 1;
        assert!(!Pcr(bytes).is_zero());
    }
}
