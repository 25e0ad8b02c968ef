//! Frames: how WireGuard's datagrams follow one another in a byte stream.
//!
//! | offset | bytes  | meaning                                              |
//! |--------|--------|------------------------------------------------------|
//! | 0      | 2      | length of the datagram, big endian, 1 to 15,998      |
//! | 2      | length | the datagram, as it was on UDP                       |
//!
//! There is no checksum (WireGuard authenticates every datagram) and no way to find the next frame after a broken one:
//! a length outside of its bounds closes the stream.

use thiserror::Error;

/// Bytes of the length in front of every datagram.
pub const HEADER_LEN: usize = 2;

/// The longest datagram in bytes: two of the longest frames fill a write of [`MAX_WRITE`] exactly.
pub const MAX_DATAGRAM: usize = 15_998;

/// The longest frame in bytes.
pub const MAX_FRAME: usize = HEADER_LEN + MAX_DATAGRAM;

/// The most bytes given to a stream in one write.
///
/// Linux >= 6.12.4x sends larger vsock packets as several descriptors, which hypervisors and vhost-user devices have
/// put together wrongly.
pub const MAX_WRITE: usize = 32_000;

/// Why bytes are not a frame; the stream that carried them is of no further use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// A length of zero.
    #[error("a frame without a datagram")]
    Empty,
    /// A length over [`MAX_DATAGRAM`].
    #[error("a frame of {0} bytes, expected at most {MAX_DATAGRAM}")]
    TooLong(usize),
}

/// Checks a datagram's length.
const fn check(len: usize) -> Result<(), FrameError> {
    match len {
        0 => Err(FrameError::Empty),
        1..=MAX_DATAGRAM => Ok(()),
        _ => Err(FrameError::TooLong(len)),
    }
}

/// A datagram that has come whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whole<'a> {
    /// The datagram.
    pub datagram: &'a [u8],
    /// The bytes behind its frame.
    pub behind: &'a [u8],
}

/// The first frame's datagram; `None` if it has not come whole.
///
/// # Errors
/// A length outside of its bounds, told as soon as both of its bytes are there.
pub fn parse(bytes: &[u8]) -> Result<Option<Whole<'_>>, FrameError> {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER_LEN>() else { return Ok(None) };
    let len = usize::from(u16::from_be_bytes(*header));
    check(len)?;
    Ok(rest.split_at_checked(len).map(|(datagram, behind)| Whole { datagram, behind }))
}

/// A datagram with room for its length in front, so that it goes into the stream from where UDP put it.
#[derive(Debug)]
pub struct Frame {
    bytes: Box<[u8; MAX_FRAME]>,
    /// 0, or [`HEADER_LEN`] and the datagram.
    len: usize,
}

impl Frame {
    /// An empty frame with room for the longest datagram.
    pub fn new() -> Self {
        // Zeroed pages come from the kernel when first touched: a frame that is never used costs addresses only.
        let bytes = vec![0; MAX_FRAME].try_into().expect("MAX_FRAME is the length of the array");
        Self { bytes, len: 0 }
    }

    /// Where a datagram goes; [`Frame::fill`] then says how long it is.
    pub fn space(&mut self) -> &mut [u8] {
        let [_, _, space @ ..] = &mut *self.bytes;
        space
    }

    /// Declares the first `len` bytes of the space to be the datagram.
    ///
    /// # Errors
    /// A length that no frame can have; the frame is empty then.
    pub fn fill(&mut self, len: usize) -> Result<(), FrameError> {
        self.len = 0;
        check(len)?;
        let [.., len_hi, len_lo] = len.to_be_bytes();
        let [hi, lo, ..] = &mut *self.bytes;
        (*hi, *lo) = (len_hi, len_lo);
        self.len = HEADER_LEN + len;
        Ok(())
    }

    /// Forgets the datagram.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// The frame's bytes as they go into the stream; none if it is empty.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).expect("no datagram that `fill` takes is longer than the space")
    }

    /// The datagram; empty if the frame is.
    pub fn datagram(&self) -> &[u8] {
        match self.bytes() {
            [_, _, datagram @ ..] => datagram,
            _ => &[],
        }
    }
}

impl Default for Frame {
    fn default() -> Self {
        Self::new()
    }
}

/// Takes a stream apart into datagrams, in the buffer that the stream was read into.
///
/// Read into [`Decoder::space`], tell [`Decoder::filled`] how much, look at the whole frames with [`Decoder::peek`] and
/// let go of them with [`Decoder::consume`].
#[derive(Debug)]
pub struct Decoder {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Decoder {
    /// A decoder that takes up to `capacity` bytes in one read, but never less than two frames.
    pub fn new(capacity: usize) -> Self {
        Self { buffer: vec![0; capacity.max(2 * MAX_FRAME)].into_boxed_slice(), start: 0, end: 0 }
    }

    /// Forgets what it holds, for another stream.
    pub fn clear(&mut self) {
        self.start = 0;
        self.end = 0;
    }

    /// Where the next read goes: never empty once all whole frames are consumed.
    pub fn space(&mut self) -> &mut [u8] {
        if self.start > 0 {
            // At most one frame's beginning, once per read.
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        self.buffer.get_mut(self.end..).expect("`filled` keeps the end within the buffer")
    }

    /// The first `len` bytes of the space have been read.
    ///
    /// Panics if the space is not that long.
    pub fn filled(&mut self, len: usize) {
        assert!(len <= self.buffer.len() - self.end, "a read of {len} bytes into less space");
        self.end += len;
    }

    /// Puts the next whole datagrams into `datagrams`, and says how many.
    ///
    /// # Errors
    /// The next frame is broken. What came whole before it is handed out first.
    pub fn peek<'a>(&'a self, datagrams: &mut [&'a [u8]]) -> Result<usize, FrameError> {
        let mut rest = self.pending();
        for (count, slot) in datagrams.iter_mut().enumerate() {
            match parse(rest) {
                Ok(Some(Whole { datagram, behind })) => {
                    *slot = datagram;
                    rest = behind;
                }
                Ok(None) => return Ok(count),
                Err(error) if count == 0 => return Err(error),
                Err(_) => return Ok(count),
            }
        }
        Ok(datagrams.len())
    }

    /// Lets go of the first `count` whole datagrams.
    ///
    /// Panics if [`Decoder::peek`] has not handed out as many.
    pub fn consume(&mut self, count: usize) {
        for _ in 0..count {
            let Ok(Some(Whole { behind, .. })) = parse(self.pending()) else {
                panic!("{count} datagrams consumed, of which `peek` has handed out fewer");
            };
            self.start = self.end - behind.len();
        }
    }

    /// The bytes that are not consumed yet: after all whole frames, those of a frame that is still to come whole.
    pub fn pending(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).expect("the start is before the end, and the end within the buffer")
    }
}

#[cfg(test)]
mod tests;
