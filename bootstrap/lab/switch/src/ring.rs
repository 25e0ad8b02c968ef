//! The two rings of a guest that is up: chains out of them, used buffers and interrupts back into them.

use tracing::debug;
use tunnel::port::Cid;
use vhost_user_backend::{VringMutex, VringState};
use virtio_queue::{DescriptorChain, QueueOwnedT, QueueT};
use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};

/// The rings and the memory that they lie in. Clones refer to the same rings.
#[derive(Clone)]
pub(crate) struct Rings {
    /// The guest receives here.
    pub(crate) receive: VringMutex,
    /// The guest sends here.
    pub(crate) transmit: VringMutex,
    /// The guest's memory.
    pub(crate) memory: GuestMemoryAtomic<GuestMemoryMmap>,
}

/// Takes the next chain out of a ring; none from a ring that is stopped.
pub(crate) fn next_chain<'m>(
    ring: &mut VringState,
    memory: &'m GuestMemoryMmap,
) -> Option<DescriptorChain<&'m GuestMemoryMmap>> {
    if !ring.is_enabled() || !ring.get_queue().ready() {
        return None;
    }
    ring.get_queue_mut().iter(memory).ok()?.next()
}

/// Puts the chain that was taken last back into its ring, as the next one.
pub(crate) fn put_back(ring: &mut VringState) {
    ring.get_queue_mut().go_to_previous_position();
}

/// Returns a chain to the guest, with `written` bytes in it.
pub(crate) fn give_back(ring: &mut VringState, memory: &GuestMemoryMmap, head: u16, written: u32) {
    if let Err(error) = ring.get_queue_mut().add_used(memory, head, written) {
        debug!(%error, "used ring");
    }
}

/// Tells the guest what has been given back, if it wants to know.
pub(crate) fn interrupt(cid: Cid, ring: &mut VringState) {
    // If the ring does not say, one interrupt too many is better than one too few.
    if ring.needs_notification().unwrap_or(true)
        && let Err(error) = ring.signal_used_queue()
    {
        debug!(%cid, %error, "interrupt");
    }
}

/// Asks for a kick with the guest's next chain. True: a chain has come in the meantime, without a kick.
pub(crate) fn want_kick(ring: &mut VringState, memory: &GuestMemoryMmap) -> bool {
    // A ring that cannot be read has no chain.
    ring.is_enabled() && ring.get_queue().ready() && ring.get_queue_mut().enable_notification(memory).unwrap_or(false)
}
