//! What both ends of the vsock agree on: addresses and ports, the stream preface, frames, control messages, log lines,
//! how the pre-shared key is made, and the pump that carries WireGuard's datagrams between a UDP socket and a byte stream. And
//! what PID 1 and its children agree on: their messages, in the same encoding.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        reason = "a test that panics has failed"
    )
)]

pub mod backoff;
pub mod control;
pub mod counters;
pub mod datagram;
pub mod frame;
pub mod internal;
pub mod liveness;
pub mod log;
pub mod message;
pub mod port;
pub mod preface;
pub mod preshared;
pub mod pump;
pub mod queue;
pub mod udp;
pub mod via;
pub mod vsock;

mod sys;
