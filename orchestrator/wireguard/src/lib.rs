//! A WireGuard interface of this kernel, for the enclave and for the gateway: its [`link`] with addresses and routes
//! over rtnetlink, its [`device`] with keys and peers over generic netlink, and its limits of the MTU.

#![cfg_attr(test, allow(clippy::indexing_slicing, reason = "a test that panics has failed"))]

pub mod device;
pub mod link;

use tunnel::frame::MAX_DATAGRAM;

/// The smallest MTU of wg0: IPv6's smallest link MTU (RFC 8200, section 5).
pub const MIN_MTU: u16 = 1280;

/// The largest MTU of wg0. Above 16k WireGuard linearises into large atomic allocations; 15,360 leaves room for its own
/// 80 bytes of headers.
pub const MAX_MTU: u16 = 15_360;

// WireGuard pads to 16 bytes and adds a header and a tag of 16 bytes each.
const _: () =
    assert!((MAX_MTU as usize).next_multiple_of(16) + 32 <= MAX_DATAGRAM, "a frame carries the largest packet");
