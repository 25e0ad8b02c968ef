//! The tags and lengths of BER (X.690, section 8), one element at a time.
//!
//! | bytes  | meaning                                                                        |
//! |--------|--------------------------------------------------------------------------------|
//! | 1      | tag: two bits of class, one for "constructed", five of number; 31 is refused    |
//! | 1      | length below 128; or 128: the content ends with two zero bytes; or 128 + n      |
//! | n      | the length, big endian, with n from 1 to 4                                      |
//! | length | content                                                                        |
//!
//! By hand: the crate `der` reads DER only, and here the depth of nesting has a bound.

use thiserror::Error;

/// How deep elements may nest. An `EnvelopedData` needs 7.
pub(crate) const MAX_DEPTH: usize = 12;

const CONSTRUCTED: u8 = 0x20;
const NUMBER: u8 = 0x1f;
const INDEFINITE: u8 = 0x80;
const LONG_FORM: u8 = 0x80;
const MAX_LENGTH_BYTES: usize = 4;
const _: () = assert!(MAX_LENGTH_BYTES < size_of::<usize>(), "a length fits");

/// The first byte of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag(pub(crate) u8);

/// An element without its tag, length and end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element<'a> {
    pub(crate) tag: Tag,
    pub(crate) content: &'a [u8],
}

/// Takes elements from the front of some bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

/// Why bytes are not the element that they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BerError {
    /// Bytes are missing.
    #[error("ends early")]
    Truncated,
    /// Something else than expected.
    #[error("tag {found:#04x}, expected {expected:#04x}")]
    Tag {
        /// The first byte.
        found: u8,
        /// What it should be.
        expected: u8,
    },
    /// A tag of several bytes, or an unexpected end-of-contents marker.
    #[error("tag {0:#04x}, which nothing here has")]
    StrangeTag(u8),
    /// A length of more than four bytes, or an open end where there can be none.
    #[error("length byte {0:#04x}, which nothing here has")]
    Length(u8),
    /// Nested deeper than anything here is.
    #[error("nested deeper than {MAX_DEPTH} levels")]
    Depth,
    /// Bytes behind the last element.
    #[error("{0} bytes too many")]
    Trailing(usize),
    /// The right kind of element with a content that does not fit.
    #[error("{found} bytes long, expected {expected}")]
    Size {
        /// Its length in bytes.
        found: usize,
        /// What it should be.
        expected: usize,
    },
}

impl Tag {
    pub(crate) const INTEGER: Self = Self(0x02);
    pub(crate) const OCTET_STRING: Self = Self(0x04);
    pub(crate) const NULL: Self = Self(0x05);
    pub(crate) const OBJECT_IDENTIFIER: Self = Self(0x06);
    pub(crate) const SEQUENCE: Self = Self(0x30);
    pub(crate) const SET: Self = Self(0x31);
    const END: Self = Self(0);

    /// `[number]` in front of a primitive value, whose tag it takes the place of.
    pub(crate) const fn context(number: u8) -> Self {
        Self(0x80 | number)
    }

    pub(crate) const fn constructed(self) -> Self {
        Self(self.0 | CONSTRUCTED)
    }

    fn is_constructed(self) -> bool {
        self.0 & CONSTRUCTED != 0
    }
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Whether exactly these bytes are left.
    pub(crate) fn is(&self, bytes: &[u8]) -> bool {
        self.rest == bytes
    }

    /// The next element, whatever it is.
    pub(crate) fn element(&mut self) -> Result<Element<'a>, BerError> {
        self.nested(0)
    }

    /// The content of the next element, which must be a `tag`.
    pub(crate) fn expect(&mut self, tag: Tag) -> Result<&'a [u8], BerError> {
        let element = self.element()?;
        if element.tag != tag {
            return Err(BerError::Tag { found: element.tag.0, expected: tag.0 });
        }
        Ok(element.content)
    }

    /// An octet string in one piece with this tag, or in pieces, which themselves may be in pieces.
    pub(crate) fn octets(&mut self, tag: Tag) -> Result<Vec<u8>, BerError> {
        let mut octets = Vec::new();
        let element = self.element()?;
        join(element, tag, 0, &mut octets)?;
        Ok(octets)
    }

    pub(crate) fn finish(self) -> Result<(), BerError> {
        if self.rest.is_empty() { Ok(()) } else { Err(BerError::Trailing(self.rest.len())) }
    }

    fn nested(&mut self, depth: usize) -> Result<Element<'a>, BerError> {
        let tag = Tag(self.byte()?);
        if tag == Tag::END || tag.0 & NUMBER == NUMBER {
            return Err(BerError::StrangeTag(tag.0));
        }
        let first = self.byte()?;
        let content = match first {
            INDEFINITE if tag.is_constructed() => self.until_end(depth)?,
            INDEFINITE => return Err(BerError::Length(first)),
            short if short < LONG_FORM => self.take(usize::from(short))?,
            long => {
                let count = usize::from(long - LONG_FORM);
                if count > MAX_LENGTH_BYTES {
                    return Err(BerError::Length(long));
                }
                let bytes = self.take(count)?;
                let length = bytes.iter().fold(0, |length, byte| (length << 8) | usize::from(*byte));
                self.take(length)?
            }
        };
        Ok(Element { tag, content })
    }

    /// What lies before the end-of-contents that belongs to the element just begun.
    fn until_end(&mut self, depth: usize) -> Result<&'a [u8], BerError> {
        if depth >= MAX_DEPTH {
            return Err(BerError::Depth);
        }
        let start = self.rest;
        loop {
            if self.rest.first() == Some(&Tag::END.0) {
                let content = start.get(..start.len() - self.rest.len()).expect("the rest is the end of the start");
                self.byte()?;
                return match self.byte()? {
                    0 => Ok(content),
                    other => Err(BerError::Length(other)),
                };
            }
            self.nested(depth + 1)?;
        }
    }

    fn byte(&mut self) -> Result<u8, BerError> {
        let (first, rest) = self.rest.split_first().ok_or(BerError::Truncated)?;
        self.rest = rest;
        Ok(*first)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], BerError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(BerError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }
}

fn join(element: Element<'_>, tag: Tag, depth: usize, octets: &mut Vec<u8>) -> Result<(), BerError> {
    if element.tag == tag {
        octets.extend_from_slice(element.content);
        return Ok(());
    }
    if element.tag != tag.constructed() {
        return Err(BerError::Tag { found: element.tag.0, expected: tag.0 });
    }
    if depth >= MAX_DEPTH {
        return Err(BerError::Depth);
    }
    let mut pieces = Reader::new(element.content);
    while !pieces.is_empty() {
        join(pieces.element()?, Tag::OCTET_STRING, depth + 1, octets)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<u8>, BerError> {
        Reader::new(bytes).octets(Tag::OCTET_STRING)
    }

    #[test]
    fn an_octet_string_is_the_same_in_one_piece_and_in_many() {
        let one = [0x04, 4, 1, 2, 3, 4];
        let definite = [0x24, 8, 0x04, 2, 1, 2, 0x04, 2, 3, 4];
        let indefinite = [0x24, 0x80, 0x04, 2, 1, 2, 0x24, 0x80, 0x04, 2, 3, 4, 0, 0, 0, 0];
        let long_length = [0x04, 0x83, 0, 0, 4, 1, 2, 3, 4];
        for bytes in [&one[..], &definite, &indefinite, &long_length] {
            assert_eq!(read(bytes), Ok(vec![1, 2, 3, 4]), "{bytes:02x?}");
        }
    }

    #[test]
    fn zero_bytes_inside_of_a_value_are_no_end() {
        let mut reader = Reader::new(&[0x30, 0x80, 0x04, 3, 0, 0, 0, 0, 0, 0x05]);
        assert_eq!(reader.expect(Tag::SEQUENCE), Ok(&[0x04, 3, 0, 0, 0][..]));
        assert_eq!(reader.finish(), Err(BerError::Trailing(1)));
    }

    #[test]
    fn what_nothing_here_has_is_refused() {
        assert_eq!(read(&[]), Err(BerError::Truncated));
        assert_eq!(read(&[0x04, 2, 1]), Err(BerError::Truncated));
        assert_eq!(read(&[0x24, 0x80, 0x04, 1, 1]), Err(BerError::Truncated));
        assert_eq!(read(&[0x24, 0x80, 0, 1]), Err(BerError::Length(1)));
        assert_eq!(read(&[0x04, 0x80, 0, 0]), Err(BerError::Length(0x80)));
        assert_eq!(read(&[0x04, 0x85, 0, 0, 0, 0, 1, 1]), Err(BerError::Length(0x85)));
        assert_eq!(read(&[0x04, 0x84, 0xff, 0xff, 0xff, 0xff, 1]), Err(BerError::Truncated));
        assert_eq!(read(&[0x1f, 0x81, 1, 0]), Err(BerError::StrangeTag(0x1f)));
        assert_eq!(read(&[0, 0]), Err(BerError::StrangeTag(0)));
        assert_eq!(read(&[0x05, 0]), Err(BerError::Tag { found: 0x05, expected: 0x04 }));
        assert_eq!(read(&[0x24, 2, 0x05, 0]), Err(BerError::Tag { found: 0x05, expected: 0x04 }));
    }

    #[test]
    fn nesting_has_a_bound_however_it_is_written() {
        assert_eq!(read(&[0x24, 0x80].repeat(1_000)), Err(BerError::Depth));
        let nested = (0..=MAX_DEPTH).fold(vec![0x04, 0], |inner, _| {
            let length = u8::try_from(inner.len()).unwrap();
            [&[0x24, length], &inner[..]].concat()
        });
        assert_eq!(read(&nested), Err(BerError::Depth));
    }
}
