//! The enclaves of a lab by their context ids.

use std::fmt;
use std::str::FromStr;

use tunnel::port::Cid;

/// Context ids of enclaves: the switch has a socket for each. The first enclave has the first.
pub const ENCLAVE_CIDS: std::ops::RangeInclusive<u32> = 16..=23;

/// An enclave of a lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EnclaveId(Cid);

impl EnclaveId {
    /// The first enclave of every lab.
    pub const FIRST: Self = Self(Cid(*ENCLAVE_CIDS.start()));

    /// The second.
    pub const SECOND: Self = Self(Cid(*ENCLAVE_CIDS.start() + 1));

    /// The first `count` enclaves, or as many as a lab may have.
    pub fn first(count: usize) -> impl Iterator<Item = Self> {
        ENCLAVE_CIDS.map(|cid| Self(Cid(cid))).take(count)
    }

    /// Its CID.
    pub const fn cid(self) -> Cid {
        self.0
    }

    /// `enclave-16`: the name of its process and its logs.
    pub fn name(self) -> String {
        format!("enclave-{self}")
    }
}

impl fmt::Display for EnclaveId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for EnclaveId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = (ENCLAVE_CIDS.start(), ENCLAVE_CIDS.end());
        match text.strip_prefix("enclave-").unwrap_or(text).parse() {
            Ok(cid) if ENCLAVE_CIDS.contains(&cid) => Ok(Self(Cid(cid))),
            Ok(_) | Err(_) => Err(format!("expected the CID of an enclave, {first} to {last}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enclaves_are_named_by_cid_with_or_without_prefix() {
        assert_eq!("16".parse(), Ok(EnclaveId::FIRST));
        assert_eq!("enclave-17".parse::<EnclaveId>().unwrap().name(), "enclave-17");
        assert!("3".parse::<EnclaveId>().unwrap_err().contains("16 to 23"));
        assert!("one".parse::<EnclaveId>().is_err());
    }

    #[test]
    fn a_lab_has_no_more_enclaves_than_sockets() {
        assert_eq!(EnclaveId::first(100).count(), 8);
    }
}
