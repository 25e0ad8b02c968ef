//! Addresses of accounts, with the checksum of EIP-55.

use std::fmt;
use std::str::FromStr;

use ethers_core::types::H160;
use ethers_core::utils::{keccak256, to_checksum};
use thiserror::Error;

use crate::hex;

/// The last 20 bytes of the Keccak-256 of a public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub [u8; 20]);

/// Why text is not an address.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AddressError {
    /// Not `0x` and 40 hex digits.
    #[error("expected 0x and 40 hex digits")]
    Form,
    /// Both cases, but not as EIP-55 has them: a mistyped digit, most likely.
    #[error("wrong EIP-55 checksum, expected {0} if the digits are right")]
    Checksum(Address),
}

impl Address {
    /// Of a public key, as an uncompressed point without its first byte.
    pub(crate) fn of_point(coordinates: &[u8; 64]) -> Self {
        let [_, _, _, _, _, _, _, _, _, _, _, _, address @ ..] = keccak256(coordinates);
        Self(address)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    /// One case throughout, or the capitals of EIP-55.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let digits = text.strip_prefix("0x").ok_or(AddressError::Form)?;
        let address = Self(hex::decode_array(digits).ok_or(AddressError::Form)?);
        let has = |is_case: fn(&u8) -> bool| digits.as_bytes().iter().any(is_case);
        let is_mixed = has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase);
        if is_mixed && address.to_string() != text {
            return Err(AddressError::Checksum(address));
        }
        Ok(address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_checksum(&H160(self.0), None))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The examples of EIP-55.
    const CHECKSUMMED: [&str; 4] = [
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
        "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
        "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
    ];

    #[test]
    fn an_address_is_written_with_the_capitals_of_eip_55() {
        for text in CHECKSUMMED {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
            assert_eq!(text.to_lowercase().parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn capitals_that_are_not_those_of_eip_55_are_refused_with_the_right_ones() {
        let wrong = CHECKSUMMED[0].replace("aAe", "aae");
        let error = wrong.parse::<Address>().unwrap_err();
        assert!(error.to_string().contains(CHECKSUMMED[0]), "{error}");
    }

    #[test]
    fn other_lengths_and_characters_are_refused() {
        let long = format!("{}0", CHECKSUMMED[0]);
        let bare = CHECKSUMMED[0].trim_start_matches("0x");
        for wrong in
            ["", "0x", bare, &long, &CHECKSUMMED[0][..41], "0xg000000000000000000000000000000000000000", "vitalik.eth"]
        {
            assert_eq!(wrong.parse::<Address>(), Err(AddressError::Form), "{wrong}");
        }
    }
}
