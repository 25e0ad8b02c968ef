//! One platform configuration register.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// What a platform configuration register holds: a SHA-384. Written as 96 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pcr(pub [u8; Pcr::LEN]);

/// Why a text is no [`Pcr`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?}, expected the {digits} hex digits of a SHA-384", digits = 2 * Pcr::LEN)]
pub struct PcrError(String);

impl Pcr {
    /// Bytes of a SHA-384.
    pub const LEN: usize = 48;

    /// Whether nothing was measured into it, or the hypervisor hides it because the enclave is in debug mode.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.0 == [0; Self::LEN]
    }
}

impl FromStr for Pcr {
    type Err = PcrError;

    fn from_str(text: &str) -> Result<Self, PcrError> {
        let refused = || PcrError(text.to_owned());
        let digits = text.bytes().map(|byte| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok()));
        let digits: Vec<u8> = digits.collect::<Option<_>>().ok_or_else(refused)?;
        let (pairs, rest) = digits.as_chunks::<2>();
        let bytes: Vec<u8> = pairs.iter().map(|[hi, lo]| hi << 4 | lo).collect();
        match <[u8; Self::LEN]>::try_from(bytes) {
            Ok(bytes) if rest.is_empty() => Ok(Self(bytes)),
            Ok(_) | Err(_) => Err(refused()),
        }
    }
}

impl fmt::Display for Pcr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
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
    fn anything_else_is_no_pcr() {
        for text in ["", &"0".repeat(95), &"0".repeat(97), &"0".repeat(98), &"g".repeat(96), &"é".repeat(48)] {
            assert_eq!(text.parse::<Pcr>(), Err(PcrError(text.to_owned())), "{text}");
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
