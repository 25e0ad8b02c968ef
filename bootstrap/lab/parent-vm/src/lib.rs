//! What runs inside the parent's machine beside what ships: what EC2 and AWS's packages bring, and the lab's internet.
//!
//! ```text
//! parent: wg0 203.0.113.1 -- uplink0 198.51.100.2 ==veth== inet0 198.51.100.1 .10 .53 .80 .90 .91 :namespace `internet`
//!                                                           inet1 192.0.2.1 ==veth== uplink0 192.0.2.10 :namespace `gateway`
//! ```
//!
//! inet0 has 169.254.169.254 too, which the default routes of parent and gateway lead to, and wg-server translates as all else.
//! In blind mode the parent has `wg-server relay` in place of its wg0, and wg0 is the gateway's.
//!
//! The namespace has no route to the enclaves' addresses: only what wg-server translates comes back.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has failed"))]

mod allocator;
mod aws;
pub mod config;
mod enclave_id;
mod hypervisor;
mod internet;
mod network;
mod nitro;
pub mod paths;
mod record;
mod runtime;
mod serve;
mod set_up;
mod traffic;
mod units;
mod verb;

pub use aws::{AWS_SERVICE, ENCLAVE_ROLE, KMS_SERVICE, SERVERS as AWS_SERVERS, Server, WALLET_ROLE};
pub use enclave_id::{ENCLAVE_CIDS, EnclaveId};
pub use hypervisor::ADDRESS as HYPERVISOR;
pub use internet::{OFF_LIST_NAME, SELF_TEST_SERVERS, VSOCK_PORT};
pub use nitro::{ALLOCATED, ENCLAVE_ENVIRONMENT, image_path, service as enclave_service};
pub use record::Options as RecordOptions;
pub use serve::READY;
pub use traffic::Traffic;
pub use units::{GATEWAY_SERVICE, RELAY_SERVICE, Shipped, Unit, WG_SERVER_SERVICE, all as units, held_path};
pub use verb::{Part, Verb, run};
