//! Counters of what the pump has done.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Counts from zero, over all connections; the pump adds, any thread may read.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[doc = $doc])+ pub(crate) $name: Counter,)+
        }

        /// The counters at one moment.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Snapshot {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        impl Counters {
            /// Reads every counter, one after the other.
            pub fn snapshot(&self) -> Snapshot {
                Snapshot { $($name: self.$name.0.load(Ordering::Relaxed),)+ }
            }
        }
    };
}

counters! {
    /// Frames whose last byte went into the stream.
    to_stream_frames,
    /// Bytes that went into the stream, lengths included.
    to_stream_bytes,
    /// Writes that it took.
    to_stream_writes,
    /// Datagrams dropped because the stream was slower than UDP, or ended.
    to_stream_dropped,
    /// Datagrams refused because they are empty or longer than a frame can carry.
    to_stream_unfit,
    /// Datagrams refused because they came from another address than the peer's.
    to_stream_foreign,
    /// Datagrams taken out of the stream.
    to_udp_datagrams,
    /// Bytes taken out of the stream, lengths included.
    to_udp_bytes,
    /// Datagrams that the kernel refused to send (a closed port, no memory, no route).
    to_udp_dropped,
    /// Sends of several datagrams at once with `UDP_SEGMENT`.
    to_udp_segmented,
    /// Errors of single datagrams that UDP reported while receiving.
    udp_errors,
}

/// One number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

/// What a counter is raised by.
pub(crate) fn count(items: usize) -> u64 {
    u64::try_from(items).expect("a usize has at most 64 bits")
}

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        if count > 0 {
            // Only ever added to, and nothing else is read on the strength of it: no ordering needed.
            self.0.fetch_add(count, Ordering::Relaxed);
        }
    }
}
