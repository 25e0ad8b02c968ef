//! The gateway's WireGuard private key and the file that it lives in.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rand::TryRngCore;
use rand::rngs::OsRng;
use wireguard::device::PrivateKey;
use zeroize::Zeroizing;

/// Far more than a key in base64 and its newline need.
const MAX_FILE_LEN: u64 = 256;

/// A new key from the kernel's random numbers.
pub(crate) fn generate() -> Result<PrivateKey> {
    let mut random = Zeroizing::new([0; 32]);
    OsRng.try_fill_bytes(&mut *random).context("random bytes for a private key")?;
    Ok(PrivateKey::from_random(*random))
}

/// Reads a file that only its owner may read.
pub(crate) fn load(path: &Path) -> Result<PrivateKey> {
    let doing = || format!("read the private key {}", path.display());
    let file = File::open(path).with_context(doing)?;
    let mode = file.metadata().with_context(doing)?.mode() & 0o7777;
    ensure!(
        mode & 0o077 == 0,
        "{}: mode {mode:04o} lets others read it, expected 0600: chmod 600 {}",
        doing(),
        path.display()
    );
    let mut text = Zeroizing::new(String::new());
    (&file).take(MAX_FILE_LEN).read_to_string(&mut text).with_context(doing)?;
    parse(text.trim()).with_context(doing)
}

/// Reads what `wg genkey` and [`create`] write.
fn parse(text: &str) -> Result<PrivateKey> {
    let like = "expected 32 bytes in base64, as `wg-server keygen` writes them";
    // The decoder's error would quote a byte of the key.
    let bytes = Zeroizing::new(STANDARD.decode(text).ok().with_context(|| format!("not base64, {like}"))?);
    let bytes: [u8; 32] = bytes.as_slice().try_into().ok().with_context(|| format!("{} bytes, {like}", bytes.len()))?;
    ensure!(bytes != [0; 32], "all zero, {like}");
    Ok(PrivateKey::new(bytes))
}

/// Writes a new file with mode 0600. Never replaces one.
pub(crate) fn create(key: &PrivateKey, path: &Path) -> Result<()> {
    let doing = || format!("write the private key {}", path.display());
    let text = Zeroizing::new(STANDARD.encode(key.expose()) + "\n");
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).with_context(doing)?;
    file.write_all(text.as_bytes()).with_context(doing)?;
    file.sync_all().with_context(doing)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_written_key_reads_back_and_only_its_owner_may_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("private.key");
        create(&PrivateKey::new([7; 32]), &path).unwrap();
        assert_eq!(load(&path).unwrap().expose(), &[7; 32]);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    }

    #[test]
    fn an_existing_key_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("private.key");
        create(&PrivateKey::new([7; 32]), &path).unwrap();
        assert!(format!("{:#}", create(&PrivateKey::new([8; 32]), &path).unwrap_err()).contains("File exists"));
        assert_eq!(load(&path).unwrap().expose(), &[7; 32]);
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("private.key");
        create(&PrivateKey::new([7; 32]), &path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = format!("{:#}", load(&path).unwrap_err());
        assert!(error.contains("mode 0640 lets others read it, expected 0600"), "{error}");
    }

    #[test]
    fn a_key_of_another_length_is_refused_without_being_quoted() {
        let short = STANDARD.encode([7; 31]);
        let error = format!("{:#}", parse(&short).unwrap_err());
        assert_eq!(error, "31 bytes, expected 32 bytes in base64, as `wg-server keygen` writes them");
        assert!(format!("{:#}", parse("secret!").unwrap_err()).starts_with("not base64, expected 32"));
        assert!(parse(&STANDARD.encode([0; 32])).is_err());
    }
}
