//! What is in an object of the ledger: one record, and a code by which whoever holds the signing key knows that it is genuine.
//!
//! Two lines of text, each with its line feed:
//!
//! | line | content |
//! |---|---|
//! | 1 | the record as JSON, its members in the order below |
//! | 2 | HMAC-SHA-256 of line 1 with its line feed, in hex; the key is derived from the signing key, one for each kind of record |
//!
//! | member | content |
//! |---|---|
//! | `version` | 1 |
//! | `kind` | `nonce` or `lease` |
//! | `ledger` | OWNER/BUCKET |
//! | `key` | the address of the signing key |
//! | of a nonce: `chain` | its number; 0 in an authorisation for every chain |
//! | `nonce` | its number |
//! | `payload` | the hash that is signed |
//! | `identity` | the hash that would be signed without fees; of what has none, `payload` |
//! | of a lease: `scope` | whose window it is, what it counts, in which time, and on which chain |
//! | `place` | the last part of the object's name |
//! | `amount` | how much of the limit it is, in wei, signatures, or the token's units |
//!
//! The window of a client counts for all of its keys. An enclave that signs with one of them may not have the others. So it believes a lease
//! of another key as it is: what is forged can only make the sum higher.

use aws_lc_rs::hmac;
use ethereum::address::Address;
use ethereum::hex;
use ethereum::number::Uint;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The longest object that is read.
pub const MAX_LEN: usize = 1024;

const VERSION: u32 = 1;

/// What a nonce is spent on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NonceRecord {
    /// The ledger that the record is in: OWNER/BUCKET.
    pub ledger: String,
    /// The account.
    pub key: Address,
    /// 0 is every chain.
    pub chain: u64,
    /// The nonce.
    pub nonce: u64,
    /// The hash that is signed.
    pub payload: [u8; 32],
    /// The same for a transaction with other fees.
    pub identity: [u8; 32],
}

/// Why the content of an object is no record.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    /// Longer than any record.
    #[error("longer than {MAX_LEN} bytes")]
    TooLong,
    /// Not two lines, or a code of somebody else.
    #[error("not a record that this key has made")]
    Unauthenticated,
    /// The key has made it, and this program cannot read it.
    #[error("a record of another format, expected version {VERSION}: another release of this program has made it")]
    Format,
}

/// A part of a window's limit that one enclave may spend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRecord {
    /// The ledger that the record is in: OWNER/BUCKET.
    pub ledger: String,
    /// The account whose key has made it.
    pub key: Address,
    /// Whose window it is, what it counts, in which time, and on which chain.
    pub scope: String,
    /// The last part of the object's name.
    pub place: String,
    /// How much it is.
    pub amount: Uint,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NonceLine {
    version: u32,
    kind: NonceKind,
    ledger: String,
    key: String,
    chain: u64,
    nonce: u64,
    payload: String,
    identity: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LeaseLine {
    version: u32,
    kind: LeaseKind,
    ledger: String,
    key: String,
    scope: String,
    place: String,
    amount: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum NonceKind {
    Nonce,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum LeaseKind {
    Lease,
}

impl NonceRecord {
    /// The content of its object. Equal records have equal contents.
    #[must_use]
    pub fn seal(&self, key: &hmac::Key) -> Vec<u8> {
        let line = NonceLine {
            version: VERSION,
            kind: NonceKind::Nonce,
            ledger: self.ledger.clone(),
            key: self.key.to_string(),
            chain: self.chain,
            nonce: self.nonce,
            payload: hex::prefixed(&self.payload),
            identity: hex::prefixed(&self.identity),
        };
        seal(&line, key)
    }

    /// Reads the content of an object.
    ///
    /// # Errors
    /// What is in [`RecordError`].
    pub fn open(content: &[u8], key: &hmac::Key) -> Result<Self, RecordError> {
        let line = serde_json::from_slice(open(content, key)?).map_err(|_another_form| RecordError::Format)?;
        let NonceLine { version: VERSION, kind: NonceKind::Nonce, ledger, key, chain, nonce, payload, identity } = line
        else {
            return Err(RecordError::Format);
        };
        let hash = |text: &str| {
            let bytes = text.strip_prefix("0x").and_then(hex::decode)?;
            <[u8; 32]>::try_from(bytes).ok()
        };
        let read = || Some((key.parse().ok()?, hash(&payload)?, hash(&identity)?));
        let (key, payload, identity) = read().ok_or(RecordError::Format)?;
        Ok(Self { ledger, key, chain, nonce, payload, identity })
    }
}

impl LeaseRecord {
    /// The content of its object.
    #[must_use]
    pub fn seal(&self, key: &hmac::Key) -> Vec<u8> {
        let line = LeaseLine {
            version: VERSION,
            kind: LeaseKind::Lease,
            ledger: self.ledger.clone(),
            key: self.key.to_string(),
            scope: self.scope.clone(),
            place: self.place.clone(),
            amount: self.amount.to_string(),
        };
        seal(&line, key)
    }

    /// Reads the content of an object. The code of a lease of another account than `own` is not checked.
    ///
    /// # Errors
    /// What is in [`RecordError`].
    pub fn open(content: &[u8], key: &hmac::Key, own: Address) -> Result<Self, RecordError> {
        let genuine = open(content, key);
        let line = match &genuine {
            Err(RecordError::Unauthenticated) => lines(content).0,
            Err(error) => return Err(error.clone()),
            Ok(line) => line,
        };
        let error = genuine.err();
        let line: Option<LeaseLine> = serde_json::from_slice(line).ok();
        let Some(line) = line else {
            return Err(error.unwrap_or(RecordError::Format));
        };
        let LeaseLine { version: VERSION, kind: LeaseKind::Lease, ledger, key, scope, place, amount } = line else {
            return Err(RecordError::Format);
        };
        let read = || Some((key.parse().ok()?, Uint::from_digits(&amount)?));
        let (key, amount) = read().ok_or(RecordError::Format)?;
        match error.filter(|_| key == own) {
            Some(error) => Err(error),
            None => Ok(Self { ledger, key, scope, place, amount }),
        }
    }
}

fn seal(line: &impl Serialize, key: &hmac::Key) -> Vec<u8> {
    sealed(serde_json::to_string(line).expect("strings and numbers become JSON"), key)
}

fn sealed(line: String, key: &hmac::Key) -> Vec<u8> {
    let mut text = line + "\n";
    let code = hex::plain(hmac::sign(key, text.as_bytes()).as_ref());
    text.push_str(&code);
    text.push('\n');
    text.into_bytes()
}

/// The first line, if the second authenticates it.
fn open<'a>(content: &'a [u8], key: &hmac::Key) -> Result<&'a [u8], RecordError> {
    if content.len() > MAX_LEN {
        return Err(RecordError::TooLong);
    }
    let (line, code) = lines(content);
    let code = code.strip_suffix(b"\n").and_then(|code| str::from_utf8(code).ok()).and_then(hex::decode);
    let code = code.ok_or(RecordError::Unauthenticated)?;
    hmac::verify(key, line, &code).map_err(|_unspecified| RecordError::Unauthenticated)?;
    Ok(line)
}

/// The first line with its line feed, and the rest.
fn lines(content: &[u8]) -> (&[u8], &[u8]) {
    let end = content.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    content.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::key::LedgerKey;
    use crate::ledger::tests::{OTHER, key};
    use ethereum::key::SecretKey;

    /// Made with Python's hmac and hashlib: HKDF with the salt and the purposes of `SecretKey::derive`.
    const CONTENT: &[u8] = include_bytes!("testdata/nonce.txt");

    fn record() -> NonceRecord {
        NonceRecord {
            ledger: "111122223333/example-ledger".to_owned(),
            key: key().address(),
            chain: 1,
            nonce: 7,
            payload: [0x11; 32],
            identity: [0x22; 32],
        }
    }

    #[test]
    fn a_record_has_the_bytes_that_another_program_made() {
        let keys = LedgerKey::of(&key());
        assert_eq!(str::from_utf8(&record().seal(keys.of_nonces())).unwrap(), str::from_utf8(CONTENT).unwrap());
        assert_eq!(NonceRecord::open(CONTENT, keys.of_nonces()), Ok(record()));
        assert!(CONTENT.len() <= MAX_LEN / 2);
    }

    #[test]
    fn a_record_that_was_changed_anywhere_is_not_genuine() {
        let keys = LedgerKey::of(&key());
        for at in 0..CONTENT.len() {
            let mut content = CONTENT.to_vec();
            content[at] ^= 1;
            assert_eq!(NonceRecord::open(&content, keys.of_nonces()), Err(RecordError::Unauthenticated), "byte {at}");
            let cut = NonceRecord::open(&CONTENT[..at], keys.of_nonces());
            assert_eq!(cut, Err(RecordError::Unauthenticated), "{at} bytes");
        }
        let longer = [CONTENT, b"\n"].concat();
        assert_eq!(NonceRecord::open(&longer, keys.of_nonces()), Err(RecordError::Unauthenticated));
        assert_eq!(NonceRecord::open(&[b' '; MAX_LEN + 1], keys.of_nonces()), Err(RecordError::TooLong));
        let other = LedgerKey::of(&SecretKey::parse(OTHER).unwrap());
        assert_eq!(NonceRecord::open(CONTENT, other.of_nonces()), Err(RecordError::Unauthenticated));
    }

    #[test]
    fn a_genuine_record_of_another_format_is_named_as_such() {
        let keys = LedgerKey::of(&key());
        let line = str::from_utf8(CONTENT).unwrap().lines().next().unwrap();
        assert_eq!(NonceRecord::open(&sealed(line.to_owned(), keys.of_nonces()), keys.of_nonces()), Ok(record()));
        for (from, to) in [
            (r#""version":1"#, r#""version":2"#),
            (r#""kind":"nonce""#, r#""kind":"lease""#),
            (r#""chain":1"#, r#""chain":1,"more":1"#),
            (r#""chain":1"#, r#""chain":-1"#),
            (r#""payload":"0x11"#, r#""payload":"0x1"#),
            (r#""identity":"0x"#, r#""identity":""#),
            (r#""key":"0x2c"#, r#""key":"0x"#),
        ] {
            assert!(line.contains(from), "{from}");
            let content = sealed(line.replacen(from, to, 1), keys.of_nonces());
            assert_eq!(NonceRecord::open(&content, keys.of_nonces()), Err(RecordError::Format), "{to}");
        }
    }

    #[test]
    fn a_lease_is_read_and_one_of_its_own_key_is_checked() {
        let keys = LedgerKey::of(&key());
        let lease = LeaseRecord {
            ledger: "111122223333/example-ledger".to_owned(),
            key: key().address(),
            scope: "client payments.example, ether in 1day, chain 1".to_owned(),
            place: "0000020788-0000000003".to_owned(),
            amount: Uint::from(5_000_000_000_000_000_000),
        };
        let content = lease.seal(keys.of_leases());
        let golden: &[u8] = include_bytes!("testdata/lease.txt");
        assert_eq!(str::from_utf8(&content).unwrap(), str::from_utf8(golden).unwrap());
        let own = key().address();
        assert_eq!(LeaseRecord::open(&content, keys.of_leases(), own), Ok(lease.clone()));
        let forged = String::from_utf8(content.clone()).unwrap().replace("5000000000000000000", "1");
        assert_eq!(LeaseRecord::open(forged.as_bytes(), keys.of_leases(), own), Err(RecordError::Unauthenticated));
        // Of another key, which this enclave may not have.
        let other = LedgerKey::of(&SecretKey::parse(OTHER).unwrap());
        assert_eq!(LeaseRecord::open(&content, other.of_leases(), other.address()), Ok(lease));
        for garbage in [&b"garbage"[..], b"", b"\n", CONTENT] {
            assert!(LeaseRecord::open(garbage, keys.of_leases(), own).is_err());
        }
        let nonces = LeaseRecord::open(&content, keys.of_nonces(), own);
        assert_eq!(nonces, Err(RecordError::Unauthenticated), "each kind has its own key");
    }
}
