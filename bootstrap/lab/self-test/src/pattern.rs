//! Pseudo-random bytes that both ends can make from one number.

use sha2::{Digest, Sha256};

/// An endless stream of bytes chosen by a seed (SplitMix64; Steele, Lea and Flood 2014).
#[derive(Clone, Debug)]
pub(crate) struct Pattern(u64);

impl Pattern {
    /// The stream of this seed.
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The stream that the server answers with to a client of this seed.
    pub(crate) const fn answer_to(seed: u64) -> Self {
        Self(!seed)
    }

    /// The bytes of one numbered datagram.
    pub(crate) const fn at(&self, index: u32) -> Self {
        Self(self.0 ^ ((index as u64) << 32 | 0x5bd1_e995))
    }

    /// The next bytes. Successive calls with lengths that are multiples of 8 give one continuous stream.
    pub(crate) fn fill(&mut self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            for (to, from) in chunk.iter_mut().zip(self.next().to_le_bytes()) {
                *to = from;
            }
        }
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// The end of a SHA-256 as text.
pub(crate) fn hex(hash: Sha256) -> String {
    const_hex::encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_does_not_depend_on_how_it_is_cut() {
        let (mut whole, mut parts) = ([0; 64], [0; 64]);
        Pattern::new(3).fill(&mut whole);
        let mut pattern = Pattern::new(3);
        for part in parts.chunks_mut(16) {
            pattern.fill(part);
        }
        assert_eq!(whole, parts);
    }

    #[test]
    fn splitmix64_of_zero_starts_as_published() {
        assert_eq!(Pattern::new(0).next(), 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn the_answer_differs_from_the_question() {
        assert_ne!(Pattern::new(9).next(), Pattern::answer_to(9).next());
        assert_ne!(Pattern::new(9).at(1).next(), Pattern::new(9).at(2).next());
    }
}
