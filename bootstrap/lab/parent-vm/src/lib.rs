//! The parent VM, beside what ships: what EC2 and AWS's packages bring, and the lab's internet.
//!
//! ```text
//! parent                     namespace `internet`                         namespace `gateway`
//! wg0 203.0.113.1
//! uplink0 198.51.100.2 ==veth== inet0 198.51.100.1 .10 .53 .80 .81 .90 .91 .92
//!                               inet1 192.0.2.1 ==========veth========= uplink0 192.0.2.10
//! ```
//!
//! inet0 also has 169.254.169.254. The default routes of parent and gateway lead to it, and wg-server translates it
//! like any other destination. In blind mode, `wg-server relay` runs on the parent, and wg0 is on the gateway.
//!
//! The namespace `internet` has no route to the enclaves' addresses, so only translated packets get an answer.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has failed"))]

mod allocator;
mod aws;
mod chain;
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
pub use chain::{SERVER as CHAIN_SERVER, SERVICE as CHAIN_SERVICE};
pub use enclave_id::{ENCLAVE_CIDS, EnclaveId};
pub use hypervisor::ADDRESS as HYPERVISOR;
pub use internet::{OFF_LIST_NAME, OFF_LIST_SERVER, SELF_TEST_SERVERS, VSOCK_PORT};
pub use nitro::{ALLOCATED, ENCLAVE_ENVIRONMENT, image_path, service as enclave_service};
pub use record::Options as RecordOptions;
pub use serve::READY;
pub use traffic::Traffic;
pub use units::{
    GATEWAY_SERVICE, RELAY_SERVICE, Shipped, Unit, WATCHDOG_SERVICE, WG_SERVER_SERVICE, all as units, held_path,
};
pub use verb::{Part, Verb, run};
