//! Where the parts of encoded arguments lie, if they lie where an encoder puts them: without a gap, in order, nothing twice.
//!
//! <https://docs.soliditylang.org/en/latest/abi-spec.html>, "Formal Specification of the Encoding"; its "strict mode".

use super::Type;

/// Bytes of a word.
const WORD: usize = 32;

/// How long the encoding of these types at the start of `data` is; none if its offsets are not an encoder's or data is missing. Each
/// byte is looked at once, whatever the offsets are.
pub(super) fn len<'a>(types: impl Iterator<Item = &'a Type> + Clone, data: &[u8]) -> Option<usize> {
    let head = types.clone().try_fold(0_usize, |head, ty| head.checked_add(head_len(ty)))?;
    let (mut at, mut tail) = (0, head);
    for ty in types {
        if ty.is_dynamic() {
            if number(data, at)? != tail {
                return None;
            }
            tail = tail.checked_add(tail_len(ty, data.get(tail..)?)?)?;
        }
        at += head_len(ty);
    }
    (data.len() >= tail).then_some(tail)
}

/// The length of what the offset of a dynamic type points to.
fn tail_len(ty: &Type, data: &[u8]) -> Option<usize> {
    match ty {
        Type::Bytes | Type::String => {
            let len = number(data, 0)?.checked_next_multiple_of(WORD)?.checked_add(WORD)?;
            (data.len() >= len).then_some(len)
        }
        Type::Array(element, None) => {
            let (count, elements) = (number(data, 0)?, data.get(WORD..)?);
            // Each has at least a word in the head.
            if count > elements.len() / WORD {
                return None;
            }
            len(std::iter::repeat_n(&**element, count), elements)?.checked_add(WORD)
        }
        Type::Array(element, Some(count)) => len(std::iter::repeat_n(&**element, *count), data),
        Type::Tuple(fields) => len(fields.iter().map(|field| &field.ty), data),
        Type::Address | Type::Bool | Type::Uint(_) | Type::Int(_) | Type::FixedBytes(_) => None,
    }
}

/// A number that can be a length or an offset.
fn number(data: &[u8], at: usize) -> Option<usize> {
    let word = data.get(at..at.checked_add(WORD)?)?;
    let (high, low) = word.split_at_checked(WORD - size_of::<u64>())?;
    let low = u64::from_be_bytes(low.try_into().ok()?);
    high.iter().all(|byte| *byte == 0).then(|| usize::try_from(low).ok())?
}

/// Bytes in the head: the value itself, or an offset.
fn head_len(ty: &Type) -> usize {
    if ty.is_dynamic() { WORD } else { WORD.saturating_mul(ty.words()) }
}

impl Type {
    fn is_dynamic(&self) -> bool {
        match self {
            Self::Bytes | Self::String | Self::Array(_, None) => true,
            Self::Array(element, Some(_)) => element.is_dynamic(),
            Self::Tuple(fields) => fields.iter().any(|field| field.ty.is_dynamic()),
            Self::Address | Self::Bool | Self::Uint(_) | Self::Int(_) | Self::FixedBytes(_) => false,
        }
    }

    /// The fewest words of any value of the type.
    pub(super) fn words(&self) -> usize {
        match self {
            Self::Array(element, Some(len)) => element.words().saturating_mul(*len),
            Self::Tuple(fields) => fields.iter().fold(0, |words, field| words.saturating_add(field.ty.words())),
            Self::Address
            | Self::Bool
            | Self::Uint(_)
            | Self::Int(_)
            | Self::FixedBytes(_)
            | Self::Bytes
            | Self::String
            | Self::Array(_, None) => 1,
        }
    }
}
