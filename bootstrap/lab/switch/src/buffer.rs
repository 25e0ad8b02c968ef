//! The buffers of one descriptor chain, read or written from the front.

use virtio_queue::DescriptorChain;
use vm_memory::{Address, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, VolatileSlice};

/// The readable or the writable buffers of a chain, and a position in them. Reused for every chain, so that a packet
/// costs no allocation.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    spans: Vec<Span>,
    /// The first span that is not used up.
    current: usize,
    left: usize,
}

/// A range of guest memory, not checked yet.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: GuestAddress,
    len: usize,
}

/// A chain points outside the guest's memory, or is too short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("buffers are too short or outside the guest's memory")]
pub(crate) struct BadBuffers;

impl Buffers {
    /// Takes the buffers that the guest wrote.
    pub(crate) fn read_from(&mut self, chain: DescriptorChain<&GuestMemoryMmap>) {
        self.fill(chain, false);
    }

    /// Takes the buffers that the guest wants written.
    pub(crate) fn write_to(&mut self, chain: DescriptorChain<&GuestMemoryMmap>) {
        self.fill(chain, true);
    }

    /// The number of bytes left.
    pub(crate) fn left(&self) -> usize {
        self.left
    }

    /// Reads the next `N` bytes.
    pub(crate) fn read<const N: usize>(&mut self, memory: &GuestMemoryMmap) -> Result<[u8; N], BadBuffers> {
        let mut bytes = [0; N];
        self.read_slice(memory, &mut bytes)?;
        Ok(bytes)
    }

    /// Reads as many bytes as `bytes` is long.
    pub(crate) fn read_slice(&mut self, memory: &GuestMemoryMmap, mut bytes: &mut [u8]) -> Result<(), BadBuffers> {
        while !bytes.is_empty() {
            let run = self.run(memory, bytes.len())?;
            let (now, later) = bytes.split_at_mut(run.len());
            run.copy_to(now);
            self.advance(now.len());
            bytes = later;
        }
        Ok(())
    }

    /// Writes all of `bytes`.
    pub(crate) fn write_slice(&mut self, memory: &GuestMemoryMmap, mut bytes: &[u8]) -> Result<(), BadBuffers> {
        while !bytes.is_empty() {
            let run = self.run(memory, bytes.len())?;
            let (now, later) = bytes.split_at(run.len());
            run.copy_from(now);
            self.advance(now.len());
            bytes = later;
        }
        Ok(())
    }

    /// Copies `count` bytes to another guest's buffers.
    pub(crate) fn copy(
        &mut self,
        memory: &GuestMemoryMmap,
        to: &mut Self,
        to_memory: &GuestMemoryMmap,
        count: usize,
    ) -> Result<(), BadBuffers> {
        let mut left = count;
        while left > 0 {
            let source = self.run(memory, left)?;
            let sink = to.run(to_memory, source.len())?;
            let len = sink.len();
            source.copy_to_volatile_slice(sink);
            self.advance(len);
            to.advance(len);
            left -= len;
        }
        Ok(())
    }

    /// Whether the next `count` bytes are there and in the guest's memory.
    pub(crate) fn holds(&self, memory: &GuestMemoryMmap, count: usize) -> bool {
        let mut left = count;
        for span in self.spans.iter().skip(self.current) {
            let len = span.len.min(left);
            if !memory.check_range(span.start, len) {
                return false;
            }
            left -= len;
        }
        left == 0
    }

    fn fill(&mut self, chain: DescriptorChain<&GuestMemoryMmap>, is_write_only: bool) {
        self.spans.clear();
        self.current = 0;
        self.left = 0;
        for descriptor in chain.filter(|descriptor| descriptor.is_write_only() == is_write_only) {
            let len = descriptor.len() as usize;
            if len > 0 {
                self.left += len;
                self.spans.push(Span { start: descriptor.addr(), len });
            }
        }
    }

    /// The next contiguous bytes, at least 1 and at most `limit`.
    fn run<'m>(&self, memory: &'m GuestMemoryMmap, limit: usize) -> Result<VolatileSlice<'m>, BadBuffers> {
        let span = self.spans.get(self.current).ok_or(BadBuffers)?;
        match memory.get_slices(span.start, span.len.min(limit)).next() {
            Some(Ok(run)) if !run.is_empty() => Ok(run),
            Some(_) | None => Err(BadBuffers),
        }
    }

    fn advance(&mut self, count: usize) {
        self.left -= count;
        if let Some(span) = self.spans.get_mut(self.current) {
            span.len -= count;
            span.start = span.start.unchecked_add(count as u64);
            if span.len == 0 {
                self.current += 1;
            }
        }
    }
}
