//! Splits a stream of bytes into lines.

/// A longer line is split.
const MAX_LINE: usize = 1024;

/// The bytes that have arrived and are not part of a returned line.
#[derive(Debug, Default)]
pub(super) struct Lines {
    bytes: Vec<u8>,
}

impl Lines {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next complete line.
    pub(super) fn next(&mut self) -> Option<String> {
        let start = self.bytes.get(..self.bytes.len().min(MAX_LINE)).expect("at most the buffer's length");
        match start.iter().position(|byte| *byte == b'\n') {
            Some(len) => {
                let line = printable(start.get(..len).expect("the index of the newline, which is inside"));
                self.bytes.drain(..=len);
                Some(line)
            }
            None if start.len() == MAX_LINE => self.rest(),
            None => None,
        }
    }

    /// The last line, which lacks its newline.
    pub(super) fn rest(&mut self) -> Option<String> {
        let rest: Vec<u8> = self.bytes.drain(..self.bytes.len().min(MAX_LINE)).collect();
        (!rest.is_empty()).then(|| printable(&rest))
    }
}

/// Escapes control characters: a service must not move the terminal's cursor or forge another process's lines.
fn printable(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let escape = |character: char| {
        let is_plain = character == '\t' || !character.is_control();
        if is_plain { character.to_string() } else { character.escape_unicode().to_string() }
    };
    String::from_utf8_lossy(line).chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        let mut lines = Lines::default();
        let mut found = Vec::new();
        for piece in pieces {
            lines.push(piece);
            found.extend(std::iter::from_fn(|| lines.next()));
        }
        found.extend(std::iter::from_fn(|| lines.rest()));
        found
    }

    #[test]
    fn a_line_that_comes_in_pieces_is_one() {
        assert_eq!(lines(&[b"he", b"llo\nwor", b"ld\n\nend"]), ["hello", "world", "", "end"]);
        assert_eq!(lines(&[b"hello\r\n"]), ["hello"]);
        assert_eq!(lines(&[]), [""; 0]);
    }

    #[test]
    fn a_long_line_is_several_and_nothing_is_lost() {
        let long = [b'x'; 3 * MAX_LINE + 1];
        let found = lines(&[&long, b"\n"]);
        assert_eq!(found.iter().map(String::len).collect::<Vec<_>>(), [MAX_LINE, MAX_LINE, MAX_LINE, 1]);
    }

    #[test]
    fn control_characters_are_shown_not_obeyed() {
        assert_eq!(lines(&[b"\x1b[2J\ta\x07\xff\n"]), ["\\u{1b}[2J\ta\\u{7}\u{fffd}"]);
        assert_eq!(lines(&["\u{9b}K\u{85}\n".as_bytes()]), ["\\u{9b}K\\u{85}"]);
    }
}
