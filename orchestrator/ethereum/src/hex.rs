//! Hexadecimal text, as Ethereum writes it.
//!
//! const-hex takes digits with and without `0x`, which would let `0x0x` pass where the prefix is required. So digits are checked first.

/// The bytes of an even number of hex digits without a prefix, or none.
#[must_use]
pub fn decode(digits: &str) -> Option<Vec<u8>> {
    const_hex::check_raw(digits).then(|| const_hex::decode(digits).ok())?
}

/// Exactly `N` bytes, or none.
#[must_use]
pub fn decode_array<const N: usize>(digits: &str) -> Option<[u8; N]> {
    const_hex::check_raw(digits).then(|| const_hex::decode_to_array(digits).ok())?
}

/// Lower case, without `0x`.
#[must_use]
pub fn plain(bytes: &[u8]) -> String {
    const_hex::encode(bytes)
}

/// Lower case, with `0x` in front.
#[must_use]
pub fn prefixed(bytes: &[u8]) -> String {
    const_hex::encode_prefixed(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_become_bytes_and_back() {
        assert_eq!(decode("00fFa1"), Some(vec![0, 0xff, 0xa1]));
        assert_eq!(prefixed(&[0, 0xff, 0xa1]), "0x00ffa1");
        assert_eq!(plain(&[0, 0xff, 0xa1]), "00ffa1");
        assert_eq!(decode(""), Some(Vec::new()));
    }

    #[test]
    fn an_odd_digit_or_another_character_is_refused() {
        for wrong in ["0", "0x", "0x00", "gg", "0 ", "é", "+1"] {
            assert_eq!(decode(wrong), None, "{wrong}");
        }
        for wrong in ["ffffff", "0xff", "0xffff"] {
            assert_eq!(decode_array::<2>(wrong), None, "{wrong}");
        }
    }
}
