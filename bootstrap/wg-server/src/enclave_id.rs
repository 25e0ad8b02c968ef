//! The identity of an enclave.

use std::fmt::{self, Display, Formatter};
use std::net::IpAddr;

use tunnel::port::Cid;

/// An enclave's CID, and its parent unless that is this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EnclaveId {
    pub(crate) via: Option<IpAddr>,
    pub(crate) cid: Cid,
}

impl EnclaveId {
    /// An enclave on this host. The hypervisor guarantees its CID.
    pub(crate) const fn here(cid: Cid) -> Self {
        Self { via: None, cid }
    }

    /// An enclave on another host. Its CID is the parent's claim until a document confirms it.
    pub(crate) const fn elsewhere(parent: IpAddr, cid: Cid) -> Self {
        Self { via: Some(parent), cid }
    }
}

impl Display for EnclaveId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.via {
            Some(parent) => write!(f, "CID {} via {parent}", self.cid),
            None => write!(f, "CID {}", self.cid),
        }
    }
}

/// Whether a stream from this CID can come from an enclave.
pub(crate) fn is_enclave(cid: Cid) -> bool {
    // 0 hypervisor, 1 this host through vsock's loopback, 2 host, 3 this host: any local user could connect from there.
    cid > Cid::PARENT && cid != Cid(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_enclave_elsewhere_is_named_with_its_parent() {
        assert_eq!(EnclaveId::here(Cid(16)).to_string(), "CID 16");
        let parent = "192.0.2.2".parse().unwrap();
        assert_eq!(EnclaveId::elsewhere(parent, Cid(16)).to_string(), "CID 16 via 192.0.2.2");
    }
}
