//! Secret keys in files, one in each: its hex and a line end.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ethereum::key::{SecretKey, SecretKeyError};
use zeroize::Zeroizing;

/// Of 64 hex digits, or of 66 characters with `0x`.
const BASE64_LEN: usize = 88;
/// Far more than 66 characters and a line end need.
const MAX_FILE_LEN: u64 = 256;

/// Reads a key from a file with mode 0600; `-` is standard input.
///
/// # Errors
/// Names the file, and never shows its content.
pub fn load(path: &Path) -> Result<SecretKey> {
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(MAX_FILE_LEN)?));
    if path == Path::new("-") {
        std::io::stdin().lock().take(MAX_FILE_LEN).read_to_string(&mut text).context("read standard input")?;
        return parse(&text).context("standard input");
    }
    let doing = || format!("read the secret key {}", path.display());
    let file = File::open(path).with_context(doing)?;
    let metadata = file.metadata().with_context(doing)?;
    let mode = metadata.mode() & 0o7777;
    ensure!(
        !metadata.is_file() || mode & 0o077 == 0,
        "{}: mode {mode:04o} lets others use it, expected 0600: chmod 600 {}",
        doing(),
        path.display()
    );
    file.take(MAX_FILE_LEN).read_to_string(&mut text).with_context(doing)?;
    parse(&text).with_context(doing)
}

/// The key in hex; or 88 characters of base64 that hold it in hex, as `aws kms decrypt --query Plaintext --output text` prints a
/// key that was encrypted in hex. No key in hex has 88 characters, so neither is taken for the other.
fn parse(text: &str) -> Result<SecretKey, SecretKeyError> {
    let text = text.trim_ascii_end().as_bytes();
    let mut hex = Zeroizing::new([0; 66]);
    match STANDARD.decode_slice(text, hex.as_mut_slice()) {
        Ok(length) if text.len() == BASE64_LEN => {
            SecretKey::parse(hex.get(..length).expect("the decoder wrote that many").trim_ascii_end())
        }
        // The decoder's own message shows a part of the key.
        Ok(_) | Err(_) => SecretKey::parse(text),
    }
}

/// Writes a new file, mode 0600; never replaces one.
///
/// # Errors
/// Names the file.
pub fn create(key: &SecretKey, path: &Path) -> Result<()> {
    let doing = || format!("write the secret key {}", path.display());
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).with_context(doing)?;
    file.write_all(key.expose_plaintext().as_bytes()).with_context(doing)?;
    file.write_all(b"\n").with_context(doing)?;
    file.sync_all().with_context(doing)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    // A published test key, and its address as eth-account has it.
    const KEY: &[u8] = b"0x4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318";
    const ADDRESS: &str = "0x2c7536E3605D9C16a7a3D7b1898e529396a65c23";

    fn key() -> SecretKey {
        SecretKey::parse(KEY).unwrap()
    }

    #[test]
    fn a_written_key_reads_back_and_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        create(&key(), &path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        let error = create(&SecretKey::generate().unwrap(), &path).unwrap_err();
        assert!(format!("{error:#}").contains("File exists"), "{error:#}");
        assert_eq!(load(&path).unwrap().address().to_string(), ADDRESS);
    }

    #[test]
    fn a_file_without_a_key_is_named_and_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap().write_all(&KEY[..60]).unwrap();
        let error = format!("{:#}", load(&path).unwrap_err());
        assert!(error.starts_with(&format!("read the secret key {}: not a secret key, ", path.display())), "{error}");
        assert!(!error.contains("0883"), "{error}");
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        create(&key(), &path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = format!("{:#}", load(&path).unwrap_err());
        assert!(error.contains("mode 0640 lets others use it, expected 0600: chmod 600"), "{error}");
    }
}
