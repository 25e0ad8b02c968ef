//! `Accept` (RFC 9110, 12.5.1): which of the two forms of a document a client prefers.
//!
//! ```text
//! Accept      = #( media-range [ weight ] )          several fields are one list; empty elements are allowed
//! media-range = ( "*/*" / type "/*" / type "/" subtype ) *( OWS ";" OWS name "=" ( token / quoted-string ) )
//! weight      = OWS ";" OWS "q=" ( "0" [ "." 0*3DIGIT ] / "1" [ "." 0*3"0" ] )
//! ```
//!
//! The most specific range gives a form its weight. With equal weights the form that is named goes before the one that a
//! wildcard covers, and of two that are named the first one; otherwise it is JSON. An element that is not of this grammar
//! is not there, and so are parameters other than the weight: neither form has any.

/// Whether `application/cbor` suits the client better than `application/json`. `fields` are the values of all `Accept`s.
#[must_use]
pub fn prefers_cbor<'a>(fields: impl Iterator<Item = &'a [u8]>) -> bool {
    let (mut json, mut cbor) = (Fit::default(), Fit::default());
    let ranges = fields.flat_map(|field| split(field, b',')).filter_map(Range::parse);
    for (at, range) in ranges.enumerate() {
        json.consider(&range, b"json", at);
        cbor.consider(&range, b"cbor", at);
    }
    // Without a wish, or with none that can be met, it is JSON.
    cbor.weight > 0 && (cbor.weight, cbor.specificity, json.at) > (json.weight, json.specificity, cbor.at)
}

/// How well a form suits.
#[derive(Default)]
struct Fit {
    /// In thousandths.
    weight: u16,
    specificity: Specificity,
    /// The place of the range that says so.
    at: usize,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Specificity {
    #[default]
    None,
    Anything,
    Type,
    Exact,
}

/// One element of the list.
struct Range<'a> {
    main: &'a [u8],
    sub: &'a [u8],
    weight: u16,
}

impl Fit {
    /// `range` says it, if it is more specific than what has said it so far; of two alike, the more favourable.
    fn consider(&mut self, range: &Range<'_>, sub: &[u8], at: usize) {
        let specificity = range.covers(sub);
        if specificity > Specificity::None && (specificity, range.weight) > (self.specificity, self.weight) {
            *self = Self { weight: range.weight, specificity, at };
        }
    }
}

impl<'a> Range<'a> {
    fn parse(element: &'a [u8]) -> Option<Self> {
        let mut parts = split(element, b';');
        let range = parts.next()?;
        let slash = range.iter().position(|byte| *byte == b'/')?;
        let (main, sub) = (range.get(..slash)?, range.get(slash + 1..)?);
        if !is_token(main) || !is_token(sub) || (main == b"*" && sub != b"*") {
            return None;
        }
        let mut weight = None;
        for parameter in parts {
            // What RFC 7231 allowed behind the weight may have no value.
            let equals = parameter.iter().position(|byte| *byte == b'=');
            let (name, value) = match equals {
                Some(equals) => (parameter.get(..equals)?, parameter.get(equals + 1..)?),
                None if parameter.is_empty() || weight.is_some() => continue,
                None => return None,
            };
            if name.eq_ignore_ascii_case(b"q") && weight.is_none() {
                weight = Some(thousandths(value)?);
            } else if !is_token(name) || !(is_token(value) || is_quoted(value)) {
                return None;
            }
        }
        Some(Self { main, sub, weight: weight.unwrap_or(1000) })
    }

    fn covers(&self, sub: &[u8]) -> Specificity {
        match (self.main, self.sub) {
            (b"*", b"*") => Specificity::Anything,
            (main, b"*") if main.eq_ignore_ascii_case(b"application") => Specificity::Type,
            (main, own) if main.eq_ignore_ascii_case(b"application") && own.eq_ignore_ascii_case(sub) => {
                Specificity::Exact
            }
            _ => Specificity::None,
        }
    }
}

/// A weight from 0 to 1.
fn thousandths(text: &[u8]) -> Option<u16> {
    let (whole, digits) = match text {
        [whole] => (whole, &[][..]),
        [whole, b'.', digits @ ..] if digits.len() <= 3 => (whole, digits),
        _ => return None,
    };
    let mut value = u16::from(whole.checked_sub(b'0')?);
    for at in 0..3 {
        let digit = digits.get(at).copied().unwrap_or(b'0');
        value = value.checked_mul(10)?.checked_add(u16::from(digit.checked_sub(b'0').filter(|digit| *digit < 10)?))?;
    }
    (value <= 1000).then_some(value)
}

/// The parts between `separator`s outside of quotes, without white space around them.
fn split(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let (mut is_quoted, mut is_escaped) = (false, false);
        let end = text.iter().position(|byte| {
            match (byte, is_escaped) {
                (b'\\', false) if is_quoted => {
                    is_escaped = true;
                    return false;
                }
                (b'"', false) => is_quoted = !is_quoted,
                _ => {}
            }
            is_escaped = false;
            !is_quoted && *byte == separator
        });
        let (part, after) = match end {
            Some(end) => (text.get(..end)?, text.get(end + 1..)),
            None => (text, None),
        };
        rest = after;
        Some(part.trim_ascii())
    })
}

fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

fn is_quoted(text: &[u8]) -> bool {
    text.len() >= 2 && text.starts_with(b"\"") && text.ends_with(b"\"")
}

#[cfg(test)]
mod tests;
