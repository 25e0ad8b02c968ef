//! What a verified document says.

use std::collections::BTreeMap;
use std::time::SystemTime;

use crate::pcr::Pcr;

/// What a verified document says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The enclave's module, as the hypervisor names it.
    pub module_id: String,
    /// When the document was made.
    pub timestamp: SystemTime,
    /// All registers of the document; PCR0 to PCR15 are always there.
    pub pcrs: BTreeMap<u8, Pcr>,
    /// What the enclave put there, 1 to 1024 bytes.
    pub public_key: Option<Vec<u8>>,
    /// What the enclave put there, at most 512 bytes.
    pub user_data: Option<Vec<u8>>,
    /// What the enclave put there, at most 512 bytes.
    pub nonce: Option<Vec<u8>>,
    /// From when on the certificate that signed the document is valid.
    pub not_before: SystemTime,
    /// Until when.
    pub not_after: SystemTime,
}

impl Claims {
    /// Whether the enclave runs in debug mode, where the hypervisor hides what was measured.
    #[must_use]
    pub fn is_debug(&self) -> bool {
        (0..=2).any(|index| self.pcrs.get(&index).is_none_or(Pcr::is_zero))
    }
}
