//! How the transcript shows evidence.

/// Lines indented by four spaces.
pub(super) fn indented(lines: &[&str]) -> String {
    lines.iter().map(|line| if line.is_empty() { "\n".to_owned() } else { format!("    {line}\n") }).collect()
}

/// The last `count` lines.
pub(super) fn tail<'a, 'text>(lines: &'a [&'text str], count: usize) -> &'a [&'text str] {
    lines.get(lines.len().saturating_sub(count)..).expect("starts at the length at most")
}

/// `8 MiB`.
pub(super) fn amount(bytes: u64) -> String {
    match (bytes >> 20, bytes.is_multiple_of(1 << 20)) {
        (mebibytes @ 1.., true) => format!("{mebibytes} MiB"),
        _ => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_short_where_they_are_round() {
        assert_eq!(amount(8 << 20), "8 MiB");
        assert_eq!(amount((8 << 20) + 1), "8388609 bytes");
        assert_eq!(amount(0), "0 bytes");
    }

    #[test]
    fn the_tail_of_few_lines_is_all_of_them() {
        assert_eq!(tail(&["a"], 3), ["a"]);
        assert_eq!(indented(tail(&["a", "", "b"], 2)), "\n    b\n");
    }
}
