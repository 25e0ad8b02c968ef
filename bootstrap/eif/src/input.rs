//! Reads an input file whole: a regular file of limited size.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, ensure};

/// Reads `path`. Refuses a file that is not regular, is empty, or is over `max_bytes`. Errors start with `role`, such
/// as a flag.
pub(crate) fn read(role: &str, path: &Path, max_bytes: u64) -> anyhow::Result<Vec<u8>> {
    read_file(path, max_bytes).with_context(|| format!("{role} {}", path.display()))
}

fn read_file(path: &Path, max_bytes: u64) -> anyhow::Result<Vec<u8>> {
    // Before opening it: opening a FIFO would block.
    let kind = std::fs::metadata(path)?.file_type();
    ensure!(kind.is_file(), "{}, expected a regular file", name_of(kind));
    let file = File::open(path).context("open")?;
    let mut bytes = Vec::new();
    file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes).context("read")?;
    ensure!(!bytes.is_empty(), "the file is empty");
    ensure!(
        u64::try_from(bytes.len()).is_ok_and(|len| len <= max_bytes),
        "over {max_bytes} bytes, expected at most that"
    );
    Ok(bytes)
}

pub(crate) fn name_of(kind: std::fs::FileType) -> &'static str {
    if kind.is_dir() {
        "a directory"
    } else if kind.is_symlink() {
        "a symlink"
    } else if kind.is_file() {
        "a regular file"
    } else {
        "a device, socket or FIFO"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(result: anyhow::Result<Vec<u8>>) -> String {
        format!("{:#}", result.unwrap_err())
    }

    #[test]
    fn a_missing_file_is_named_with_its_flag() {
        let text = message(read("--kernel", Path::new("/nowhere/bzImage"), 10));
        assert!(text.starts_with("--kernel /nowhere/bzImage: No such file"), "{text}");
    }

    #[test]
    fn a_device_is_refused_before_it_is_read() {
        let text = message(read("--init", Path::new("/dev/zero"), 10));
        assert!(text.contains("a device, socket or FIFO, expected a regular file"), "{text}");
    }

    #[test]
    fn a_file_over_the_limit_is_refused_and_one_at_the_limit_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, [1; 10]).unwrap();
        assert_eq!(read("--init", &path, 10).unwrap(), [1; 10]);
        assert!(message(read("--init", &path, 9)).contains("over 9 bytes"));
    }

    #[test]
    fn an_empty_file_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(message(read("--init", file.path(), 9)).contains("empty"));
    }
}
