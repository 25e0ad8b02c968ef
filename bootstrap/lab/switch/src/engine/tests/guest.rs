//! A guest as its driver sees it: rings in memory that the switch reads and writes.

use vhost_user_backend::VringMutex;
use virtio_bindings::bindings::virtio_ring::{VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
use vm_memory::{Bytes, GuestAddress, GuestMemoryAtomic};

use super::*;

/// One ring as a driver sees it.
pub(super) struct DriverRing {
    base: u64,
    posted: u16,
    pub(super) next_descriptor: u16,
    seen: u16,
}

/// A guest's driver and its memory.
pub(super) struct Guest {
    pub(super) cid: Cid,
    pub(super) rings: Rings,
    pub(super) receive: DriverRing,
    pub(super) transmit: DriverRing,
    next_buffer: u64,
}

impl DriverRing {
    const SIZE: u16 = 256;

    pub(super) fn new(base: u64) -> Self {
        Self { base, posted: 0, next_descriptor: 0, seen: 0 }
    }

    /// Descriptor table, available ring, used ring.
    pub(super) fn parts(&self) -> (u64, u64, u64) {
        (self.base, self.base + 0x2000, self.base + 0x3000)
    }

    fn start(&self, memory: &GuestMemoryAtomic<GuestMemoryMmap>) -> VringMutex {
        let (descriptors, available, used) = self.parts();
        let vring = VringMutex::new(memory.clone(), Self::SIZE).unwrap();
        vring.set_queue_size(Self::SIZE);
        vring.set_queue_info(descriptors, available, used).unwrap();
        vring.set_queue_event_idx(true);
        vring.set_queue_ready(true);
        vring.set_enabled(true);
        vring
    }

    pub(super) fn post(&mut self, memory: &GuestMemoryMmap, spans: &[(u64, u32)], is_write_only: bool) {
        let (descriptors, available, _) = self.parts();
        let head = self.next_descriptor;
        for (position, &(address, len)) in spans.iter().enumerate() {
            let index = self.next_descriptor;
            self.next_descriptor = (index + 1) % Self::SIZE;
            let mut flags = if is_write_only { VRING_DESC_F_WRITE } else { 0 };
            if position + 1 < spans.len() {
                flags |= VRING_DESC_F_NEXT;
            }
            let at = descriptors + 16 * u64::from(index);
            memory.write_obj(address, GuestAddress(at)).unwrap();
            memory.write_obj(len, GuestAddress(at + 8)).unwrap();
            memory.write_obj(u16::try_from(flags).unwrap(), GuestAddress(at + 12)).unwrap();
            memory.write_obj(self.next_descriptor, GuestAddress(at + 14)).unwrap();
        }
        let slot = available + 4 + 2 * u64::from(self.posted % Self::SIZE);
        memory.write_obj(head, GuestAddress(slot)).unwrap();
        self.posted = self.posted.wrapping_add(1);
        memory.write_obj(self.posted, GuestAddress(available + 2)).unwrap();
    }

    pub(super) fn used_index(&self, memory: &GuestMemoryMmap) -> u16 {
        memory.read_obj(GuestAddress(self.parts().2 + 2)).unwrap()
    }
}

impl Guest {
    pub(super) fn new(cid: Cid) -> Self {
        let ranges = [(GuestAddress(0), 32 << 20)];
        let memory = GuestMemoryAtomic::new(GuestMemoryMmap::from_ranges(&ranges).unwrap());
        let (receive, transmit) = (DriverRing::new(0x1_0000), DriverRing::new(0x2_0000));
        let rings = Rings { receive: receive.start(&memory), transmit: transmit.start(&memory), memory };
        Self { cid, rings, receive, transmit, next_buffer: 0x10_0000 }
    }

    pub(super) fn allocate(&mut self, len: u32) -> u64 {
        let buffer = self.next_buffer;
        self.next_buffer += u64::from(len);
        buffer
    }

    pub(super) fn post_buffers(&mut self, count: usize, len: u32) {
        for _ in 0..count {
            let buffer = self.allocate(len);
            self.receive.post(&self.rings.memory.memory(), &[(buffer, len)], true);
        }
    }

    /// Sends one packet in pieces of memory of these lengths; the last takes the rest.
    pub(super) fn send_scattered(&mut self, header: &Header, payload: &[u8], lens: &[usize]) {
        let bytes = [&header.encode()[..], payload].concat();
        let mut rest = &bytes[..];
        let mut spans = Vec::new();
        for &len in lens.iter().chain([&usize::MAX]) {
            let (piece, later) = rest.split_at(len.min(rest.len()));
            if !piece.is_empty() {
                let address = self.allocate(u32::try_from(piece.len()).unwrap() + 3);
                self.rings.memory.memory().write_slice(piece, GuestAddress(address)).unwrap();
                spans.push((address, u32::try_from(piece.len()).unwrap()));
            }
            rest = later;
        }
        self.transmit.post(&self.rings.memory.memory(), &spans, false);
    }

    pub(super) fn send(&mut self, header: &Header, payload: &[u8]) {
        self.send_scattered(header, payload, &[Header::LEN]);
    }

    /// Packets that the switch has given back.
    pub(super) fn sent(&self) -> u16 {
        self.transmit.used_index(&self.rings.memory.memory())
    }

    /// What came in since the last call.
    pub(super) fn receive(&mut self) -> Vec<(Header, Vec<u8>)> {
        self.receive_raw().iter().map(|bytes| split(bytes)).collect()
    }

    pub(super) fn receive_raw(&mut self) -> Vec<Vec<u8>> {
        let memory = self.rings.memory.memory();
        let (descriptors, _, used) = self.receive.parts();
        let mut packets = Vec::new();
        while self.receive.seen != self.receive.used_index(&memory) {
            let at = used + 4 + 8 * u64::from(self.receive.seen % DriverRing::SIZE);
            let head: u32 = memory.read_obj(GuestAddress(at)).unwrap();
            let len: u32 = memory.read_obj(GuestAddress(at + 4)).unwrap();
            let address: u64 = memory.read_obj(GuestAddress(descriptors + 16 * u64::from(head))).unwrap();
            let mut bytes = vec![0; len as usize];
            memory.read_slice(&mut bytes, GuestAddress(address)).unwrap();
            packets.push(bytes);
            self.receive.seen = self.receive.seen.wrapping_add(1);
        }
        packets
    }
}

pub(super) fn split(bytes: &[u8]) -> (Header, Vec<u8>) {
    let (header, payload) = bytes.split_first_chunk().unwrap();
    (Header::decode(header).unwrap(), payload.to_vec())
}
