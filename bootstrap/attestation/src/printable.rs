//! Untrusted text for a terminal or a log.

use std::fmt::{self, Display, Formatter, Write as _};

/// Shows a text on one line. Escapes unprintable characters, but not quotes and backslashes.
#[derive(Clone, Copy, Debug)]
pub struct Printable<'a>(pub &'a str);

impl Display for Printable<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|char| match char {
            '"' | '\'' | '\\' => f.write_char(char),
            _ => char.escape_debug().fmt(f),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_quotes_are_not() {
        let text = Printable("KMS's \"größe\" 漢 \\ \r\n\t\0\u{1b}[2J\u{7f}\u{9b}\u{202e}\u{2028}\u{200b}").to_string();
        let escaped = "\\r\\n\\t\\0\\u{1b}[2J\\u{7f}\\u{9b}\\u{202e}\\u{2028}\\u{200b}";
        assert_eq!(text, format!("KMS's \"größe\" 漢 \\ {escaped}"));
    }
}
