//! The claims of a verified document.

use std::collections::BTreeMap;
use std::time::SystemTime;

use crate::pcr::Pcr;

/// The claims of a verified document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The hypervisor's name for the enclave's module.
    pub module_id: String,
    /// The document's creation time.
    pub timestamp: SystemTime,
    /// All PCRs in the document; PCR0 to PCR15 are always present.
    pub pcrs: BTreeMap<u8, Pcr>,
    /// Chosen by the enclave, 1 to 1024 bytes.
    pub public_key: Option<Vec<u8>>,
    /// Chosen by the enclave, at most 512 bytes.
    pub user_data: Option<Vec<u8>>,
    /// Chosen by the enclave, at most 512 bytes.
    pub nonce: Option<Vec<u8>>,
    /// Begin of the signing certificate's validity.
    pub not_before: SystemTime,
    /// End of the signing certificate's validity.
    pub not_after: SystemTime,
}

impl Claims {
    /// Whether the enclave runs in debug mode, in which PCR0 to PCR2 are zero.
    #[must_use]
    pub fn is_debug(&self) -> bool {
        (0..=2).any(|index| self.pcrs.get(&index).is_none_or(Pcr::is_zero))
    }
}
