//! The kernel's command line, read from a file with comments.

use anyhow::{bail, ensure};

/// x86's COMMAND_LINE_SIZE is 2048 with the closing NUL (arch/x86/include/asm/setup.h); the hypervisor appends its
/// own `virtio_mmio.device=...` options behind ours.
const MAX_LEN: usize = 1792;

/// Joins the options in `text` with single spaces. A `#` at the start of a word begins a comment.
pub(crate) fn parse(text: &str) -> anyhow::Result<String> {
    let mut options = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        for option in line.split_ascii_whitespace() {
            if option.starts_with('#') {
                break;
            }
            if let Some(odd) = option.chars().find(|character| !character.is_ascii_graphic()) {
                bail!("line {number}: {odd:?} in {option:?}, expected printable ASCII");
            }
            options.push(option);
        }
    }
    let joined = options.join(" ");
    ensure!(!joined.is_empty(), "no options, expected at least one, such as console=ttyS0");
    ensure!(
        joined.len() <= MAX_LEN,
        "{} bytes, expected at most {MAX_LEN}: the hypervisor appends its own",
        joined.len()
    );
    Ok(joined)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_line_ends_do_not_reach_the_kernel() {
        let text = "# why\nreboot=k panic=1 # because\n\n\tconsole=ttyS0\r\n";
        assert_eq!(parse(text).unwrap(), "reboot=k panic=1 console=ttyS0");
    }

    #[test]
    fn a_hash_within_an_option_is_part_of_it() {
        assert_eq!(parse("a=b#c").unwrap(), "a=b#c");
    }

    #[test]
    fn a_control_character_is_refused_with_its_line() {
        let text = parse("console=ttyS0\nfoo\u{1b}[2J").unwrap_err().to_string();
        assert!(text.starts_with("line 2: '\\u{1b}'"), "{text}");
    }

    #[test]
    fn nothing_but_comments_is_refused() {
        assert!(parse("# only this\n").is_err());
    }

    #[test]
    fn a_command_line_that_the_kernel_would_cut_is_refused() {
        assert!(parse(&"x".repeat(MAX_LEN)).is_ok());
        assert!(parse(&"x".repeat(MAX_LEN + 1)).is_err());
    }

    #[test]
    fn the_shipped_command_line_is_what_the_design_asks_for() {
        let shipped = parse(include_str!("../cmdline")).unwrap();
        let base = "reboot=k panic=1 oops=panic pci=off nomodules console=ttyS0 random.trust_cpu=on";
        assert!(shipped.starts_with(base), "{shipped}");
    }
}
