//! A document's payload: a CBOR map with nine keys.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use minicbor::Decoder;
use minicbor::data::Type;
use thiserror::Error;

use crate::pcr::Pcr;

/// The NSM's only digest.
const DIGEST: &str = "SHA384";
/// PCR0 to PCR31.
const PCR_COUNT: usize = 32;
/// PCR0 to PCR15 are locked when an enclave starts, so every document has them.
const LOCKED: u8 = 16;
/// AWS has four; the specification sets no limit.
const MAX_CABUNDLE: usize = 8;
const CERTIFICATE_LEN: [usize; 2] = [1, 1024];
const PUBLIC_KEY_LEN: [usize; 2] = [1, 1024];
const USER_DATA_LEN: [usize; 2] = [0, 512];
const NONCE_LEN: [usize; 2] = [0, 512];

/// The payload, with the limits of AWS's specification.
///
/// | key           | value                                                             |
/// |---------------|-------------------------------------------------------------------|
/// | `module_id`   | text, not empty                                                   |
/// | `digest`      | text, `SHA384`                                                    |
/// | `timestamp`   | milliseconds since 1970, not 0                                    |
/// | `pcrs`        | map from 0..31 to 48 bytes; PCR0 to PCR15 are required            |
/// | `certificate` | 1 to 1024 bytes, DER                                              |
/// | `cabundle`    | array of 1 to 8, each 1 to 1024 bytes of DER, the root first      |
/// | `public_key`  | null, absent, or 1 to 1024 bytes                                  |
/// | `user_data`   | null, absent, or at most 512 bytes                                |
/// | `nonce`       | null, absent, or at most 512 bytes                                |
///
/// Keys may be in any order. Duplicate and unknown keys are refused: an unknown key might change what the others mean.
/// Maps and arrays may have definite length (AWS's documents until 2025) or indefinite (since then).
#[derive(Debug)]
pub(crate) struct Payload<'a> {
    pub(crate) module_id: &'a str,
    pub(crate) timestamp: SystemTime,
    pub(crate) pcrs: BTreeMap<u8, Pcr>,
    pub(crate) certificate: &'a [u8],
    pub(crate) cabundle: Vec<&'a [u8]>,
    pub(crate) public_key: Option<&'a [u8]>,
    pub(crate) user_data: Option<&'a [u8]>,
    pub(crate) nonce: Option<&'a [u8]>,
}

/// The rule of the payload that a document breaks.
#[derive(Debug, Error)]
pub enum PayloadError {
    /// Not CBOR, or of another type.
    #[error("payload: {key}: expected {expected}")]
    Cbor {
        /// The key; "map" for the keys themselves.
        key: &'static str,
        /// The expected type.
        expected: &'static str,
        /// The cause.
        source: minicbor::decode::Error,
    },
    /// Bytes after the map.
    #[error("payload: {0} trailing bytes, expected none")]
    Trailing(usize),
    /// Not one of the nine.
    #[error("payload: unknown key {0:?}, expected the nine of AWS's specification")]
    UnknownKey(String),
    /// Parsers differ on which of the two they use.
    #[error("payload: duplicate key {0}")]
    DuplicateKey(&'static str),
    /// One of the six required keys.
    #[error("payload: {0} is missing")]
    Missing(&'static str),
    /// A length outside the specification's limits.
    #[error("payload: {key} of {len} bytes, expected {} to {}", .expected[0], .expected[1])]
    Length {
        /// The key.
        key: &'static str,
        /// The length.
        len: usize,
        /// The least and the greatest allowed length.
        expected: [usize; 2],
    },
    /// An empty name.
    #[error("payload: module_id is empty")]
    ModuleId,
    /// Another digest.
    #[error("payload: digest {0:?}, expected {DIGEST:?}")]
    Digest(String),
    /// Zero, or beyond `SystemTime`.
    #[error("payload: timestamp {0}, expected milliseconds since 1970")]
    Timestamp(u64),
    /// Not a PCR's number.
    #[error("payload: pcrs[{0}], expected 0 to 31")]
    PcrIndex(u64),
    /// A second value for a PCR.
    #[error("payload: duplicate pcrs[{0}]")]
    DuplicatePcr(u8),
    /// Not a SHA-384.
    #[error("payload: pcrs[{index}] of {len} bytes, expected {expected}", expected = Pcr::LEN)]
    PcrLength {
        /// The PCR's number.
        index: u8,
        /// The length.
        len: usize,
    },
    /// One of the PCRs that every document has.
    #[error("payload: pcrs[{0}] is missing")]
    MissingPcr(u8),
    /// Empty, or longer than any chain of AWS.
    #[error("payload: cabundle of {}, expected 1 to {MAX_CABUNDLE} certificates", if *.0 == 0 { "none" } else { "more" })]
    CabundleCount(usize),
}

impl<'a> Payload<'a> {
    /// Reads all of `bytes`.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, PayloadError> {
        let mut decoder = Decoder::new(bytes);
        let mut fields = Fields::default();
        let mut entries = Entries::new("map", "map", decoder.map().map_err(cbor("map", "map"))?);
        while entries.next(&mut decoder)? {
            fields.read(&mut decoder)?;
        }
        match bytes.len() - decoder.position() {
            0 => fields.check(),
            trailing => Err(PayloadError::Trailing(trailing)),
        }
    }
}

/// The nine keys while they are parsed. The outer `Option` is `None` until the key has been read.
#[derive(Default)]
struct Fields<'a> {
    module_id: Option<&'a str>,
    digest: Option<()>,
    timestamp: Option<SystemTime>,
    pcrs: Option<BTreeMap<u8, Pcr>>,
    certificate: Option<&'a [u8]>,
    cabundle: Option<Vec<&'a [u8]>>,
    public_key: Option<Option<&'a [u8]>>,
    user_data: Option<Option<&'a [u8]>>,
    nonce: Option<Option<&'a [u8]>>,
}

impl<'a> Fields<'a> {
    fn read(&mut self, decoder: &mut Decoder<'a>) -> Result<(), PayloadError> {
        match decoder.str().map_err(cbor("map", "key of text"))? {
            "module_id" => set(&mut self.module_id, "module_id", module_id(decoder)?),
            "digest" => set(&mut self.digest, "digest", digest(decoder)?),
            "timestamp" => set(&mut self.timestamp, "timestamp", timestamp(decoder)?),
            "pcrs" => set(&mut self.pcrs, "pcrs", pcrs(decoder)?),
            "certificate" => set(&mut self.certificate, "certificate", bytes(decoder, "certificate", CERTIFICATE_LEN)?),
            "cabundle" => set(&mut self.cabundle, "cabundle", cabundle(decoder)?),
            "public_key" => set(&mut self.public_key, "public_key", optional(decoder, "public_key", PUBLIC_KEY_LEN)?),
            "user_data" => set(&mut self.user_data, "user_data", optional(decoder, "user_data", USER_DATA_LEN)?),
            "nonce" => set(&mut self.nonce, "nonce", optional(decoder, "nonce", NONCE_LEN)?),
            other => Err(PayloadError::UnknownKey(other.to_owned())),
        }
    }

    fn check(self) -> Result<Payload<'a>, PayloadError> {
        self.digest.ok_or(PayloadError::Missing("digest"))?;
        Ok(Payload {
            module_id: self.module_id.ok_or(PayloadError::Missing("module_id"))?,
            timestamp: self.timestamp.ok_or(PayloadError::Missing("timestamp"))?,
            pcrs: self.pcrs.ok_or(PayloadError::Missing("pcrs"))?,
            certificate: self.certificate.ok_or(PayloadError::Missing("certificate"))?,
            cabundle: self.cabundle.ok_or(PayloadError::Missing("cabundle"))?,
            public_key: self.public_key.flatten(),
            user_data: self.user_data.flatten(),
            nonce: self.nonce.flatten(),
        })
    }
}

fn set<T>(field: &mut Option<T>, key: &'static str, value: T) -> Result<(), PayloadError> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(PayloadError::DuplicateKey(key)),
    }
}

fn module_id<'a>(decoder: &mut Decoder<'a>) -> Result<&'a str, PayloadError> {
    let module_id = decoder.str().map_err(cbor("module_id", "text"))?;
    if module_id.is_empty() { Err(PayloadError::ModuleId) } else { Ok(module_id) }
}

fn digest(decoder: &mut Decoder<'_>) -> Result<(), PayloadError> {
    let digest = decoder.str().map_err(cbor("digest", "text"))?;
    if digest == DIGEST { Ok(()) } else { Err(PayloadError::Digest(digest.to_owned())) }
}

fn timestamp(decoder: &mut Decoder<'_>) -> Result<SystemTime, PayloadError> {
    let milliseconds = decoder.u64().map_err(cbor("timestamp", "unsigned number"))?;
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(milliseconds));
    time.filter(|_| milliseconds > 0).ok_or(PayloadError::Timestamp(milliseconds))
}

fn pcrs(decoder: &mut Decoder<'_>) -> Result<BTreeMap<u8, Pcr>, PayloadError> {
    let mut pcrs = BTreeMap::new();
    let mut entries = Entries::new("pcrs", "map", decoder.map().map_err(cbor("pcrs", "map"))?);
    while entries.next(decoder)? {
        let number = decoder.u64().map_err(cbor("pcrs", "register's number"))?;
        let index = u8::try_from(number).ok().filter(|index| usize::from(*index) < PCR_COUNT);
        let index = index.ok_or(PayloadError::PcrIndex(number))?;
        let value = decoder.bytes().map_err(cbor("pcrs", "byte string"))?;
        let Ok(value) = value.try_into() else {
            return Err(PayloadError::PcrLength { index, len: value.len() });
        };
        if pcrs.insert(index, Pcr(value)).is_some() {
            return Err(PayloadError::DuplicatePcr(index));
        }
    }
    match (0..LOCKED).find(|index| !pcrs.contains_key(index)) {
        Some(missing) => Err(PayloadError::MissingPcr(missing)),
        None => Ok(pcrs),
    }
}

fn cabundle<'a>(decoder: &mut Decoder<'a>) -> Result<Vec<&'a [u8]>, PayloadError> {
    let mut certificates = Vec::new();
    let mut entries = Entries::new("cabundle", "array", decoder.array().map_err(cbor("cabundle", "array"))?);
    while entries.next(decoder)? {
        certificates.push(bytes(decoder, "cabundle", CERTIFICATE_LEN)?);
        if certificates.len() > MAX_CABUNDLE {
            return Err(PayloadError::CabundleCount(certificates.len()));
        }
    }
    if certificates.is_empty() { Err(PayloadError::CabundleCount(0)) } else { Ok(certificates) }
}

fn optional<'a>(
    decoder: &mut Decoder<'a>,
    key: &'static str,
    expected: [usize; 2],
) -> Result<Option<&'a [u8]>, PayloadError> {
    if decoder.datatype().map_err(cbor(key, "byte string"))? == Type::Null {
        decoder.null().map_err(cbor(key, "null"))?;
        return Ok(None);
    }
    bytes(decoder, key, expected).map(Some)
}

fn bytes<'a>(
    decoder: &mut Decoder<'a>,
    key: &'static str,
    expected @ [least, most]: [usize; 2],
) -> Result<&'a [u8], PayloadError> {
    let bytes = decoder.bytes().map_err(cbor(key, "byte string"))?;
    let len = bytes.len();
    if (least..=most).contains(&len) { Ok(bytes) } else { Err(PayloadError::Length { key, len, expected }) }
}

/// The remaining entries of a map or an array.
struct Entries {
    key: &'static str,
    expected: &'static str,
    /// `None`: up to a break.
    remaining: Option<u64>,
}

impl Entries {
    fn new(key: &'static str, expected: &'static str, remaining: Option<u64>) -> Self {
        Self { key, expected, remaining }
    }

    /// Whether another entry follows. Do not call it again after it has returned false.
    fn next(&mut self, decoder: &mut Decoder<'_>) -> Result<bool, PayloadError> {
        match &mut self.remaining {
            Some(0) => return Ok(false),
            Some(remaining) => {
                *remaining -= 1;
                return Ok(true);
            }
            None => {}
        }
        let is_end = decoder.datatype().map_err(cbor(self.key, self.expected))? == Type::Break;
        if is_end {
            decoder.set_position(decoder.position() + 1);
        }
        Ok(!is_end)
    }
}

fn cbor(key: &'static str, expected: &'static str) -> impl FnOnce(minicbor::decode::Error) -> PayloadError {
    move |source| PayloadError::Cbor { key, expected, source }
}
