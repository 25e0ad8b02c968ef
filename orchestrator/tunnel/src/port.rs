//! The vsock addresses of a Nitro host: context ids and the ports that the parent listens on.

use std::fmt;

/// A vsock context id: which machine on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
pub struct Cid(pub u32);

/// A vsock port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
pub struct Port(pub u32);

impl Cid {
    /// The parent instance as its enclaves see it (Nitro Enclaves user guide, "Vsock": always 3, never 2).
    pub const PARENT: Self = Self(3);
}

impl Port {
    /// WireGuard datagrams in frames. Below 1024, so that an unprivileged process on the parent cannot squat it.
    pub const DATA: Self = Self(820);
    /// Control messages.
    pub const CONTROL: Self = Self(821);
    /// Lines of the console ([`crate::log`]).
    pub const LOG: Self = Self(822);
    /// `nitro-cli run-enclave` waits here for one byte, 0xB7, and answers with the same (aws-nitro-enclaves-cli).
    pub const HEARTBEAT: Self = Self(9000);
}

impl fmt::Display for Cid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
