//! The few DNS messages that wg-server itself sends and reads (RFC 1035, section 4; RFC 6891; RFC 7873).
//!
//! | offset | bytes | meaning                                                                       |
//! |--------|-------|-------------------------------------------------------------------------------|
//! | 0      | 2     | id                                                                            |
//! | 2      | 2     | QR (1 bit), opcode (4), AA, TC, RD, RA, Z, AD, CD (1 each), RCODE (4)         |
//! | 4      | 8     | how many questions, answers, authorities and additional records, 2 bytes each |

use super::cookie::ClientCookie;

/// Opcode 2, STATUS, which servers answer with NOTIMP and log nowhere.
const STATUS: u8 = 2 << 3;
const RECURSION_DESIRED: u8 = 1;
const CHECKING_DISABLED: u8 = 0x10;
const HEADER_LEN: usize = 12;
/// An OPT record's name, type, size of a datagram, extended flags; its length follows.
const OPT: [u8; 9] = [0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0];
const COOKIE_OPTION: [u8; 2] = [0, 10];
const TYPE_A_CLASS_IN: [u8; 4] = [0, 1, 0, 1];

/// The result of a question (RFC 1035, section 4.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rcode {
    NoError,
    ServFail,
    NxDomain,
    Other(u8),
}

/// A question about the server itself, with a cookie.
pub(super) fn status_question(id: [u8; 2], cookie: ClientCookie) -> Vec<u8> {
    let mut message = vec![id[0], id[1], STATUS, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    message.extend(OPT);
    message.extend([0, 12]);
    message.extend(COOKIE_OPTION);
    message.extend([0, 8]);
    message.extend(cookie);
    message
}

/// Which address a name has; with `is_unchecked`, whatever its signatures are. `None` for a name that DNS cannot carry.
pub(super) fn address_question(id: [u8; 2], name: &str, is_unchecked: bool) -> Option<Vec<u8>> {
    let flags = if is_unchecked { CHECKING_DISABLED } else { 0 };
    let mut message = vec![id[0], id[1], RECURSION_DESIRED, flags, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).ok().filter(|len| *len < 64)?);
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(TYPE_A_CLASS_IN);
    Some(message)
}

/// The server's cookie in the answer to a [`status_question`]: empty if there is none; `None` if this is not the answer.
pub(super) fn server_cookie(answer: &[u8], id: [u8; 2], cookie: ClientCookie) -> Option<&[u8]> {
    let (header, rest) = answer.split_first_chunk::<HEADER_LEN>()?;
    if !is_answer(header, id) {
        return None;
    }
    Some(option(header, rest, cookie).unwrap_or_default())
}

/// The cookie of an answer that has an OPT record with this one option, as the answer to our question has.
fn option<'a>(header: &[u8; HEADER_LEN], rest: &'a [u8], cookie: ClientCookie) -> Option<&'a [u8]> {
    let [.., 0, 0, 0, 0, 0, 0, 0, 1] = header else { return None };
    let opt = rest.strip_prefix(OPT.first_chunk::<3>()?.as_slice())?;
    let (_size_and_flags, data) = opt.split_first_chunk::<6>()?;
    let (length, options) = data.split_first_chunk::<2>()?;
    let options = options.get(..usize::from(u16::from_be_bytes(*length)))?;
    let (length, cookies) = options.strip_prefix(COOKIE_OPTION.as_slice())?.split_first_chunk::<2>()?;
    cookies.get(..usize::from(u16::from_be_bytes(*length)))?.strip_prefix(cookie.as_slice())
}

/// What became of a question; `None` if this is not its answer.
pub(super) fn rcode(answer: &[u8], id: [u8; 2]) -> Option<Rcode> {
    let header = answer.first_chunk::<HEADER_LEN>()?;
    if !is_answer(header, id) {
        return None;
    }
    let [_, _, _, flags, ..] = header;
    Some(match flags & 0x0f {
        0 => Rcode::NoError,
        2 => Rcode::ServFail,
        3 => Rcode::NxDomain,
        other => Rcode::Other(other),
    })
}

fn is_answer([hi, lo, flags, ..]: &[u8; HEADER_LEN], id: [u8; 2]) -> bool {
    [*hi, *lo] == id && flags & 0x80 != 0
}

impl std::fmt::Display for Rcode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoError => f.write_str("NOERROR"),
            Self::ServFail => f.write_str("SERVFAIL"),
            Self::NxDomain => f.write_str("NXDOMAIN"),
            Self::Other(5) => f.write_str("REFUSED"),
            Self::Other(code) => write!(f, "response code {code}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: [u8; 2] = [0x12, 0x34];
    const COOKIE: ClientCookie = [0x99, 0x3d, 0x57, 0x02, 0xa7, 0xda, 0x7d, 0x21];
    /// BIND 9.18's answer to the question below.
    const ANSWER: [u8; 51] = [
        0x12, 0x34, 0x90, 0x04, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0x29, 0x04, 0xd0, 0, 0, 0, 0, 0, 0x1c, 0, 0x0a, 0, 0x18,
        0x99, 0x3d, 0x57, 0x02, 0xa7, 0xda, 0x7d, 0x21, 0x01, 0, 0, 0, 0x6b, 0x0b, 0x2a, 0xed, 0xb9, 0x5e, 0xae, 0x38,
        0x1e, 0x16, 0x56, 0x0a,
    ];

    #[test]
    fn the_question_about_the_server_is_these_bytes() {
        let expected: &[u8] = &[
            0x12, 0x34, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0x29, 0x04, 0xd0, 0, 0, 0, 0, 0, 12, 0, 10, 0, 8, 0x99,
            0x3d, 0x57, 0x02, 0xa7, 0xda, 0x7d, 0x21,
        ];
        assert_eq!(status_question(ID, COOKIE), expected);
    }

    #[test]
    fn the_server_s_cookie_is_found_in_the_answer_and_nowhere_else() {
        assert_eq!(server_cookie(&ANSWER, ID, COOKIE), Some(&ANSWER[35..]));
        assert_eq!(server_cookie(&ANSWER, [0, 0], COOKIE), None, "the answer to something else");
        assert_eq!(server_cookie(&status_question(ID, COOKIE), ID, COOKIE), None, "a question");
        assert_eq!(server_cookie(&ANSWER, ID, [0; 8]), Some(&[][..]), "another client's cookie");
        for len in 12..ANSWER.len() {
            assert_eq!(server_cookie(&ANSWER[..len], ID, COOKIE), Some(&[][..]), "{len} bytes of it");
        }
        for len in 0..12 {
            assert_eq!(server_cookie(&ANSWER[..len], ID, COOKIE), None, "{len} bytes of it");
        }
    }

    #[test]
    fn a_question_for_an_address_is_these_bytes_and_its_answer_has_a_code() {
        let expected = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03aws\x03com\0\0\x01\0\x01";
        assert_eq!(address_question(ID, "aws.com", false).unwrap(), expected);
        assert_eq!(address_question(ID, "aws.com", true).unwrap()[3], 0x10);
        assert_eq!(address_question(ID, &"a".repeat(64), false), None);
        for (code, expected) in
            [(0, "NOERROR"), (2, "SERVFAIL"), (3, "NXDOMAIN"), (5, "REFUSED"), (9, "response code 9")]
        {
            let mut answer = expected_answer();
            answer[3] = 0x80 | code;
            assert_eq!(rcode(&answer, ID).unwrap().to_string(), expected);
        }
        assert_eq!(rcode(&expected_answer(), [0, 0]), None);
        assert_eq!(rcode(&[], ID), None);
    }

    fn expected_answer() -> Vec<u8> {
        let mut answer = address_question(ID, "aws.com", false).unwrap();
        answer[2] |= 0x80;
        answer
    }
}
