//! Hexadecimal text, as Ethereum writes it.

use std::fmt::Write;

/// The bytes of an even number of hex digits without a prefix, or none.
pub(crate) fn decode(digits: &str) -> Option<Vec<u8>> {
    let (pairs, []) = digits.as_bytes().as_chunks::<2>() else { return None };
    pairs.iter().map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect()
}

/// Exactly `N` bytes, or none.
pub(crate) fn decode_array<const N: usize>(digits: &str) -> Option<[u8; N]> {
    decode(digits)?.try_into().ok()
}

/// Lower case, with `0x` in front.
pub(crate) fn prefixed(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 + bytes.len() * 2);
    text.push_str("0x");
    for byte in bytes {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
    }
    text
}

/// The value of a digit in either case.
pub(crate) fn digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        b'A'..=b'F' => Some(character - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_become_bytes_and_back() {
        assert_eq!(decode("00fFa1"), Some(vec![0, 0xff, 0xa1]));
        assert_eq!(prefixed(&[0, 0xff, 0xa1]), "0x00ffa1");
        assert_eq!(decode(""), Some(Vec::new()));
    }

    #[test]
    fn an_odd_digit_or_another_character_is_refused() {
        for wrong in ["0", "0x", "gg", "0 ", "é", "+1"] {
            assert_eq!(decode(wrong), None, "{wrong}");
        }
        assert_eq!(decode_array::<2>("ffffff"), None);
    }
}
