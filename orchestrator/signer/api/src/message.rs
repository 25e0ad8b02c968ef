//! Messages of `personal_sign`, as wallets send them.

use ethereum::hex;
use ethereum::message::Message;

use crate::error::RequestError;
use crate::field::{Field, MAX_DATA};

/// Reads a message: a string of `0x` and hex digits is these bytes, any other is its own UTF-8.
///
/// # Errors
/// No string, `0x` in front of something else, or more than [`MAX_DATA`] bytes.
pub fn parse(field: &Field<'_>) -> Result<Message, RequestError> {
    let expected = "expected a string: the message as 0x and an even number of hex digits, or as text";
    let text = field.string(expected)?;
    let bytes = match text.strip_prefix("0x") {
        // Text that begins with 0x would be signed as such by some wallets and as bytes by others.
        Some(digits) => hex::decode(digits).ok_or_else(|| field.error(expected))?,
        None => text.into_bytes(),
    };
    if bytes.len() > MAX_DATA {
        return Err(field.error(&format!("{} bytes, expected at most {MAX_DATA}", bytes.len())));
    }
    Ok(Message(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<u8>, String> {
        parse(&Field::new("params[0]", text)).map(|message| message.0).map_err(|error| error.to_string())
    }

    #[test]
    fn hex_digits_are_bytes_and_other_text_is_itself() {
        assert_eq!(read(r#""0x00fF""#), Ok(vec![0, 0xff]));
        assert_eq!(read(r#""0x""#), Ok(vec![]));
        assert_eq!(read(r#""""#), Ok(vec![]));
        assert_eq!(read(r#""\u00fcml\u00e4ut""#), Ok("ümläut".into()));
        assert_eq!(read(r#""00ff""#), Ok(b"00ff".to_vec()));
    }

    #[test]
    fn what_some_would_sign_as_text_and_others_as_bytes_is_refused() {
        for wrong in [r#""0x0""#, r#""0xgg""#, r#""0xhello""#, "5", "null", "[1]", "{}", "true", r#""\ud800""#, "\"a"] {
            let error = read(wrong).unwrap_err();
            assert!(error.starts_with("params[0]: ") && error.contains("expected a string"), "{error}");
        }
    }

    #[test]
    fn a_message_that_is_too_long_is_refused() {
        let text = |bytes: usize| format!("\"{}\"", "a".repeat(bytes));
        assert_eq!(read(&text(MAX_DATA)).unwrap().len(), MAX_DATA);
        assert!(read(&text(MAX_DATA + 1)).unwrap_err().ends_with("131073 bytes, expected at most 131072"));
    }
}
