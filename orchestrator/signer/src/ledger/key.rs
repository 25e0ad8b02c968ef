//! The keys with which a signing key names and authenticates its records.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use ethereum::address::Address;
use ethereum::hex;
use ethereum::key::SecretKey;

use crate::windows::Owner;

/// Derived from one signing key: whoever has it can find and check its records, and nobody else can make one.
pub(crate) struct LedgerKey {
    address: Address,
    names: hmac::Key,
    nonces: hmac::Key,
    leases: hmac::Key,
}

/// Where the records of one nonce are: `nonce/NONCE/CHAIN`, both hashes in hex.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NonceFolder {
    /// With the slash at its end.
    pub(crate) prefix: String,
    nonce: u64,
}

impl LedgerKey {
    pub(crate) fn of(key: &SecretKey) -> Self {
        let derived = |purpose: &str| hmac::Key::new(HMAC_SHA256, key.derive(purpose).as_slice());
        let (names, nonces, leases) = (derived("ledger name"), derived("ledger nonce"), derived("ledger lease"));
        Self { address: key.address(), names, nonces, leases }
    }

    /// The account of the signing key.
    pub(crate) fn address(&self) -> Address {
        self.address
    }

    pub(crate) fn folder(&self, nonce: u64) -> NonceFolder {
        NonceFolder { prefix: format!("nonce/{}/", self.hash(&[b"nonce", &nonce.to_be_bytes()])), nonce }
    }

    /// The name of the object for a nonce on a chain.
    pub(crate) fn name(&self, folder: &NonceFolder, chain: u64) -> String {
        let hash = self.hash(&[b"chain", &folder.nonce.to_be_bytes(), &chain.to_be_bytes()]);
        format!("{}{hash}", folder.prefix)
    }

    /// What authenticates the records of nonces.
    pub(crate) fn of_nonces(&self) -> &hmac::Key {
        &self.nonces
    }

    /// Where the leases of a window are, with the slash at its end. That of a client's window is known to all of its keys, and no secret.
    pub(crate) fn lease_folder(&self, ledger: &str, owner: &Owner, scope: &str) -> String {
        let hash = match owner {
            Owner::Key(_) => self.hash(&[b"lease", scope.as_bytes()]),
            Owner::Client(_) => hex::plain(digest(&SHA256, format!("{ledger}\n{scope}").as_bytes()).as_ref()),
        };
        format!("lease/{hash}/")
    }

    /// What authenticates leases.
    pub(crate) fn of_leases(&self) -> &hmac::Key {
        &self.leases
    }

    /// Of parts of which only the last may have any length, behind a word that no other kind of name begins with.
    fn hash(&self, parts: &[&[u8]]) -> String {
        hex::plain(hmac::sign(&self.names, &parts.concat()).as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::tests::{OTHER, key};

    #[test]
    fn names_are_those_of_the_key_the_chain_and_the_nonce_and_tell_none_of_them() {
        let (one, other) = (LedgerKey::of(&key()), LedgerKey::of(&SecretKey::parse(OTHER).unwrap()));
        let name = |key: &LedgerKey, nonce, chain| key.name(&key.folder(nonce), chain);
        // Golden: whatever changes it forgets what has been signed. Computed with Python's hmac, see the vectors of `record`.
        assert_eq!(name(&one, 7, 1), include_str!("testdata/name.txt").trim_end());
        let names = [name(&one, 7, 1), name(&one, 7, 0), name(&one, 8, 1), name(&other, 7, 1)];
        for (at, name) in names.iter().enumerate() {
            assert_eq!(name.len(), "nonce/".len() + 64 + 1 + 64);
            assert!(!names[at + 1..].contains(name), "{name}");
        }
        assert!(name(&one, 7, 0).starts_with(&one.folder(7).prefix), "a folder has all chains of a nonce");
    }
}
