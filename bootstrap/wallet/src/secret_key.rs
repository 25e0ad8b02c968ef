//! Secret keys of secp256k1, their text, and the addresses of their accounts.

use std::fmt::{self, Write as _};
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use ethers_core::utils::{secret_key_to_address, to_checksum};
use k256::ecdsa::SigningKey;
use thiserror::Error;
use zeroize::Zeroizing;

/// Far more than 66 characters and a line end need.
const MAX_FILE_LEN: u64 = 256;

/// A key, zeroed when dropped; neither printed nor copied.
pub struct SecretKey(SigningKey);

/// Why a text is no key. Says nothing about the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SecretKeyError {
    /// Another length or character.
    #[error("not a secret key, expected 64 hex digits, with or without 0x in front")]
    Form,
    /// Zero, or the curve's order and above.
    #[error("not a secret key of secp256k1, expected a number from 1 to the curve's order less 1")]
    Range,
    /// The system's generator failed.
    #[error("the system has no random numbers")]
    Random,
}

impl SecretKey {
    /// Makes a new one from the system's random numbers.
    ///
    /// # Errors
    /// The generator failed.
    pub fn generate() -> Result<Self, SecretKeyError> {
        let mut bytes = Zeroizing::new([0; 32]);
        SystemRandom::new().fill(bytes.as_mut()).map_err(|_unspecified| SecretKeyError::Random)?;
        Self::from_bytes(&bytes)
    }

    /// Reads 64 hex digits, `0x` in front or not, and nothing else.
    ///
    /// # Errors
    /// Another form, or a number that is no key.
    pub fn parse(text: &str) -> Result<Self, SecretKeyError> {
        let digits = text.strip_prefix("0x").unwrap_or(text).as_bytes();
        let mut bytes = Zeroizing::new([0; 32]);
        let (pairs, rest) = digits.as_chunks::<2>();
        if pairs.len() != bytes.len() || !rest.is_empty() {
            return Err(SecretKeyError::Form);
        }
        for (byte, &[high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = digit(high)? << 4 | digit(low)?;
        }
        Self::from_bytes(&bytes)
    }

    /// Reads a file that only its owner may read; `-` is standard input.
    ///
    /// # Errors
    /// Names the file, and never shows what is in it.
    pub fn load(path: &Path) -> Result<Self> {
        let mut text = Zeroizing::new(String::with_capacity(usize::try_from(MAX_FILE_LEN)?));
        if path == Path::new("-") {
            std::io::stdin().lock().take(MAX_FILE_LEN).read_to_string(&mut text).context("read standard input")?;
            return Self::parse(text.trim_end()).context("standard input");
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
        Self::parse(text.trim_end()).with_context(doing)
    }

    /// Writes a new file, mode 0600; never replaces one.
    ///
    /// # Errors
    /// Names the file.
    pub fn create(&self, path: &Path) -> Result<()> {
        let doing = || format!("write the secret key {}", path.display());
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).with_context(doing)?;
        file.write_all(self.expose_text().as_bytes()).with_context(doing)?;
        file.write_all(b"\n").with_context(doing)?;
        file.sync_all().with_context(doing)
    }

    /// The account's address, with the capitals of EIP-55.
    #[must_use]
    pub fn address(&self) -> String {
        to_checksum(&secret_key_to_address(&self.0), None)
    }

    /// What [`SecretKey::parse`] reads and the signer expects in KMS's plaintext: `0x` and 64 hex digits.
    #[must_use]
    pub fn expose_text(&self) -> Zeroizing<String> {
        let bytes = Zeroizing::new(<[u8; 32]>::from(self.0.to_bytes()));
        // A String that grows leaves copies behind.
        let mut text = Zeroizing::new(String::with_capacity(66));
        text.push_str("0x");
        for byte in bytes.iter() {
            write!(text, "{byte:02x}").expect("a String takes all that is written to it");
        }
        text
    }

    fn from_bytes(bytes: &[u8; 32]) -> Result<Self, SecretKeyError> {
        SigningKey::from_bytes(bytes.into()).map(Self).map_err(|_out_of_range| SecretKeyError::Range)
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {})", self.address())
    }
}

fn digit(character: u8) -> Result<u8, SecretKeyError> {
    match character {
        b'0'..=b'9' => Ok(character - b'0'),
        b'a'..=b'f' => Ok(character - b'a' + 10),
        b'A'..=b'F' => Ok(character - b'A' + 10),
        _ => Err(SecretKeyError::Form),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    // A published test key, and its address as eth-account has it.
    const KEY: &str = "0x4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318";
    const ADDRESS: &str = "0x2c7536E3605D9C16a7a3D7b1898e529396a65c23";
    const ORDER: &str = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";

    #[test]
    fn a_known_key_has_its_known_address() {
        for text in [KEY.to_owned(), KEY[2..].to_owned(), KEY[2..].to_uppercase()] {
            let key = SecretKey::parse(&text).unwrap();
            assert_eq!(key.address(), ADDRESS);
            assert_eq!(key.expose_text().as_str(), KEY);
        }
        // The generator itself: EIP-55 capitals from another source.
        let one = SecretKey::parse(&format!("{:064x}", 1)).unwrap();
        assert_eq!(one.address(), "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf");
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_shown() {
        let long = format!("{KEY}00");
        for text in ["", "0x", &KEY[..65], &KEY[2..65], &long, &KEY.replace('8', "g"), &KEY.replace('8', "é")] {
            let error = SecretKey::parse(text).unwrap_err();
            assert_eq!(error, SecretKeyError::Form);
            assert!(!error.to_string().contains("0883"), "{error}");
        }
        for text in [ORDER, &"0".repeat(64), &"f".repeat(64)] {
            assert_eq!(SecretKey::parse(text).unwrap_err(), SecretKeyError::Range);
        }
        assert!(SecretKey::parse(&ORDER.replace("4141", "4140")).is_ok());
    }

    #[test]
    fn new_keys_differ_and_are_not_printed() {
        let [one, other] = [(); 2].map(|()| SecretKey::generate().unwrap());
        assert_ne!(one.expose_text(), other.expose_text());
        assert_eq!(format!("{one:?}"), format!("SecretKey(of {})", one.address()));
    }

    #[test]
    fn a_written_key_reads_back_and_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        SecretKey::parse(KEY).unwrap().create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        let error = SecretKey::generate().unwrap().create(&path).unwrap_err();
        assert!(format!("{error:#}").contains("File exists"), "{error:#}");
        assert_eq!(SecretKey::load(&path).unwrap().address(), ADDRESS);
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        SecretKey::parse(KEY).unwrap().create(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = format!("{:#}", SecretKey::load(&path).unwrap_err());
        assert!(error.contains("mode 0640 lets others use it, expected 0600: chmod 600"), "{error}");
    }
}
