//! Where processes of an enclave may connect: the destinations of a configuration, and the kernel's rules for them.
//!
//! PID 1 loads one table of nf_tables rules before the first packet. A packet is judged by the UID of its socket, since
//! each process has its own, and dropped unless a destination of that process allows it. Nobody else in the enclave has
//! the capability to change the table.
//!
//! The gateway on the parent has rules of its own, with sets whose elements are the addresses of names: [`Elements`].

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has failed"))]

mod destination;
mod elements;
mod expression;
mod kernel;
mod refusals;
mod rules;

pub use destination::{Destination, DestinationError, Host, Port, host_name};
pub use elements::{Element, Elements, MAX_COMMENT_LEN};
pub use kernel::{Firewall, NetfilterError};
pub use refusals::{Refusal, Refusals};
pub use rules::{Process, Rules};
