//! Tests over numbered datagrams that are sent again until they are answered.

mod assembly;
mod client;
mod server;

pub(crate) use client::{round_trips, transfer};
pub(crate) use server::serve;

/// How many unanswered datagrams a client has on the way, and how far ahead of the first missing one a server keeps.
const WINDOW: u32 = 64;

/// How many bytes of payload datagram `number` of a transfer has.
fn payload_len(bytes: u64, each: u64, number: u32) -> usize {
    let left = bytes.saturating_sub(u64::from(number) * each);
    usize::try_from(left.min(each)).expect("usize has 64 bits on x86_64")
}
