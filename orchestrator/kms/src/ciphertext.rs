//! A stored ciphertext: base64, on one line or several. Errors name the problem and show nothing of the text.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

use crate::client::MAX_CIPHERTEXT_LEN;

/// Why a text is not the base64 of a ciphertext. The text may be a secret key, so errors contain none of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CiphertextError {
    /// Secrets Manager's console stores keys and values so.
    #[error("is JSON, {EXPECTED}; in AWS's console, store it as plaintext and not as key and value")]
    Json,
    /// Left by a shell or an editor.
    #[error("is in quotes, {EXPECTED}; store it without them")]
    Quoted,
    /// Left by an editor.
    #[error("starts with a byte order mark, {EXPECTED}; store it without one")]
    ByteOrderMark,
    /// Anything else.
    #[error("is not base64, {EXPECTED}")]
    Base64,
    /// Empty, or longer than KMS accepts.
    #[error("is {0} bytes long, expected 1 to {MAX_CIPHERTEXT_LEN}")]
    Length(usize),
}

const EXPECTED: &str = "expected the base64 of a KMS ciphertext alone, as `wallet set-key` stores it";

/// Decodes base64, ignoring white space: lines of 76 characters, Windows line ends, a trailing newline.
///
/// # Errors
/// If the text is not the base64 of a ciphertext.
pub fn read_ciphertext(text: &str) -> Result<Vec<u8>, CiphertextError> {
    let text = text.trim_ascii();
    match text.chars().next() {
        Some('\u{feff}') => return Err(CiphertextError::ByteOrderMark),
        Some('{' | '[') => return Err(CiphertextError::Json),
        Some('"' | '\'' | '`') => return Err(CiphertextError::Quoted),
        Some(_) | None => {}
    }
    let characters: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    // The decoder's error would show a character and its position.
    let bytes = STANDARD.decode(characters).map_err(|_shows_a_part| CiphertextError::Base64)?;
    match bytes.len() {
        1..=MAX_CIPHERTEXT_LEN => Ok(bytes),
        other => Err(CiphertextError::Length(other)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(text: &str, length: usize, end: &str) -> String {
        let lines: Vec<&str> = text.as_bytes().chunks(length).map(|line| std::str::from_utf8(line).unwrap()).collect();
        lines.join(end) + end
    }

    #[test]
    fn what_else_people_store_is_named() {
        for (text, error) in [
            (r#"{"key": "Y2lwaGVydGV4dA=="}"#, CiphertextError::Json),
            (" [1]", CiphertextError::Json),
            ("\"Y2lwaGVydGV4dA==\"", CiphertextError::Quoted),
            ("'Y2lwaGVydGV4dA=='\n", CiphertextError::Quoted),
            ("\u{feff}Y2lwaGVydGV4dA==", CiphertextError::ByteOrderMark),
            ("Y2lwaGVydGV4dA", CiphertextError::Base64),
            ("0x4c0883a6", CiphertextError::Base64),
            ("größe", CiphertextError::Base64),
            ("", CiphertextError::Length(0)),
            ("\r\n", CiphertextError::Length(0)),
            (&STANDARD.encode([1; MAX_CIPHERTEXT_LEN + 1]), CiphertextError::Length(MAX_CIPHERTEXT_LEN + 1)),
        ] {
            assert_eq!(read_ciphertext(text), Err(error), "{text}");
        }
        assert!(
            CiphertextError::Json.to_string().starts_with("is JSON, expected the base64 of a KMS ciphertext alone")
        );
    }

    proptest! {
        #[test]
        fn base64_is_read_with_line_ends_of_all_kinds(
            bytes in prop::collection::vec(any::<u8>(), 1..700),
            length in 1..80_usize,
            end in prop::sample::select(vec!["\n", "\r\n", " \n"]),
        ) {
            let base64 = STANDARD.encode(&bytes);
            for text in [lines(&base64, length, end), lines(&base64, 76, end), format!("{base64}{end}"), base64] {
                prop_assert!(read_ciphertext(&text).is_ok_and(|read| read == bytes), "{}", text);
            }
        }

        #[test]
        fn nothing_of_a_text_that_is_refused_is_in_the_error(secret in "[!#-&(-*,:-@^_|~]{8,40}") {
            let error = read_ciphertext(&secret).unwrap_err();
            prop_assert_eq!(error, CiphertextError::Base64);
            prop_assert_eq!(error.to_string(), format!("is not base64, {}", EXPECTED));
        }
    }
}
