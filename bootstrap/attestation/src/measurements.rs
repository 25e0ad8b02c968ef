//! An image's measurements, from the file that its build wrote.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use thiserror::Error;

use crate::pcr::{Pcr, PcrError};
use crate::printable::Printable;

/// The PCRs that an image's documents must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measurements {
    /// Kernel, command line and all ramdisks.
    pub pcr0: Pcr,
    /// Kernel, command line and first ramdisk: the release.
    pub pcr1: Pcr,
    /// The other ramdisks: the configuration.
    pub pcr2: Pcr,
    /// Other PCRs in the file: PCR8 measures the signer's certificate; programs in the enclave extend PCR16 and above.
    pub others: BTreeMap<u8, Pcr>,
}

/// Why a text is not [`Measurements`].
#[derive(Debug, Error)]
pub enum MeasurementsError {
    /// Not JSON, or values that are not text.
    #[error("expected JSON with \"PCR0\", \"PCR1\" and \"PCR2\", by itself or in \"Measurements\"")]
    Json(#[from] serde_json::Error),
    /// One of the three required PCRs.
    #[error("PCR{0} is missing, expected JSON with \"PCR0\", \"PCR1\" and \"PCR2\", by itself or in \"Measurements\"")]
    Missing(u8),
    /// Not a PCR's value.
    #[error("PCR{index}")]
    Pcr {
        /// The PCR's number.
        index: u8,
        /// The cause.
        #[source]
        source: PcrError,
    },
    /// PCR0, PCR1 and PCR2 are zero only in debug mode.
    #[error("PCR{0} is zero: this describes an enclave in debug mode, expected the measurements of an image")]
    Zero(u8),
    /// Another PCR.
    #[error("PCR{0} is zero, so nothing was measured into it; expected its value, or no PCR{0}")]
    Unused(u8),
    /// `nitro-cli describe-enclaves` while no enclave runs.
    #[error("an empty list of enclaves; expected one, from `nitro-cli describe-enclaves` while it runs")]
    NoEnclave,
    /// `nitro-cli describe-enclaves` while several run.
    #[error("a list of {} enclaves, {}; expected one: select it, as with `jq '.[0]'`", .0.len(), .0.join(", "))]
    Several(Vec<String>),
}

impl Measurements {
    /// Measurements without other PCRs.
    #[must_use]
    pub const fn new(pcr0: Pcr, pcr1: Pcr, pcr2: Pcr) -> Self {
        Self { pcr0, pcr1, pcr2, others: BTreeMap::new() }
    }

    /// Parses this project's `measurements.json`, or the output of `nitro-cli build-enclave`, `describe-eif`, or
    /// `describe-enclaves` while one enclave runs.
    ///
    /// # Errors
    /// If one of the three PCRs is missing, a PCR is zero, or several enclaves are listed.
    pub fn parse(json: &str) -> Result<Self, MeasurementsError> {
        let object = match serde_json::from_str(json.trim_start_matches('\u{feff}'))? {
            File::One(object) => object,
            File::List(list) => match <[Object; 1]>::try_from(list) {
                Ok([object]) => object,
                Err(list) if list.is_empty() => return Err(MeasurementsError::NoEnclave),
                Err(list) => return Err(MeasurementsError::Several(list.iter().map(Object::name).collect())),
            },
        };
        let mut pcrs = object.measurements.map_or(object.pcrs, |inner| inner.pcrs);
        let mut required = |index| register(index, &pcrs.remove(&index).ok_or(MeasurementsError::Missing(index))?);
        let (pcr0, pcr1, pcr2) = (required(0)?, required(1)?, required(2)?);
        let others = pcrs.iter().map(|(&index, text)| Ok((index, register(index, text)?)));
        Ok(Self { pcr0, pcr1, pcr2, others: others.collect::<Result<_, MeasurementsError>>()? })
    }
}

fn register(index: u8, text: &str) -> Result<Pcr, MeasurementsError> {
    let pcr: Pcr = text.parse().map_err(|source| MeasurementsError::Pcr { index, source })?;
    match (pcr.is_zero(), index) {
        (false, _) => Ok(pcr),
        (true, 0..=2) => Err(MeasurementsError::Zero(index)),
        (true, _) => Err(MeasurementsError::Unused(index)),
    }
}

enum File {
    One(Object),
    List(Vec<Object>),
}

/// An object with PCRs, or with `Measurements` that have them. Each key once: parsers differ on which duplicate they
/// use.
#[derive(Default)]
struct Object {
    pcrs: BTreeMap<u8, String>,
    measurements: Option<Box<Self>>,
    id: Option<String>,
    cid: Option<u64>,
}

impl Object {
    fn name(&self) -> String {
        match (&self.id, self.cid) {
            (Some(id), _) => Printable(id).to_string(),
            (None, Some(cid)) => format!("CID {cid}"),
            (None, None) => "an unnamed one".to_owned(),
        }
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = File;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or a list of them")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<File, A::Error> {
        let mut object = Object::default();
        while let Some(key) = map.next_key::<String>()? {
            let is_new = match (key.as_str(), index(&key)) {
                (_, Some(index)) => object.pcrs.insert(index, map.next_value()?).is_none(),
                ("Measurements", _) => object.measurements.replace(map.next_value()?).is_none(),
                ("EnclaveID", _) => object.id.replace(map.next_value()?).is_none(),
                ("EnclaveCID", _) => object.cid.replace(map.next_value()?).is_none(),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    true
                }
            };
            if !is_new {
                return Err(de::Error::custom(format_args!("duplicate key {key}")));
            }
        }
        Ok(File::One(object))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<File, A::Error> {
        let mut objects = Vec::new();
        while let Some(object) = list.next_element()? {
            objects.push(object);
        }
        Ok(File::List(objects))
    }
}

/// The number in `PCR0` to `PCR31`.
fn index(key: &str) -> Option<u8> {
    let index = key.strip_prefix("PCR")?.parse().ok().filter(|index| *index < Pcr::COUNT)?;
    (key == format!("PCR{index}")).then_some(index)
}

impl<'de> Deserialize<'de> for File {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match File::deserialize(deserializer)? {
            File::One(object) => Ok(object),
            File::List(_) => Err(de::Error::custom("a list, expected an object")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(pcr2: &str) -> String {
        let [pcr0, pcr1] = ["a", "b"].map(|digit| digit.repeat(96));
        format!(r#""PCR0": "{pcr0}", "PCR1": "{pcr1}", "PCR2": "{pcr2}""#)
    }

    fn image() -> Measurements {
        Measurements::new(Pcr([0xaa; 48]), Pcr([0xbb; 48]), Pcr([0xcc; 48]))
    }

    /// An element of what `nitro-cli describe-enclaves` prints.
    fn enclave(id: &str, registers: &str) -> String {
        format!(
            r#"{{"EnclaveName": "signer", "EnclaveID": "{id}", "ProcessID": 4711, "EnclaveCID": 16, "NumberOfCPUs": 2,
                "CPUIDs": [1, 3], "MemoryMiB": 512, "State": "RUNNING", "Flags": "NONE",
                "Measurements": {{"HashAlgorithm": "Sha384 {{ ... }}", {registers}}}}}"#
        )
    }

    #[test]
    fn our_file_and_those_of_nitro_cli_give_the_same_measurements() {
        let pcrs = json(&"c".repeat(96));
        let ours = format!(r#"{{"hashAlgorithm": "SHA384", {pcrs}, "sha256": {{"eif": "00"}}}}"#);
        let built = format!(r#"{{"Measurements": {{"HashAlgorithm": "Sha384 {{ ... }}", {pcrs}}}}}"#);
        let described = format!(
            r#"{{"EifVersion": 4, "Measurements": {{"HashAlgorithm": "Sha384 {{ ... }}", {pcrs}}}, "IsSigned": false,
                "CheckCRC": true, "ImageName": "enclave", "Metadata": {{"BuildTime": "2026"}}}}"#
        );
        let runs = enclave("i-1-enc1", &pcrs);
        for text in [&ours, &built, &described, &runs, &format!("[{runs}]"), &format!("\u{feff}{ours}\r\n")] {
            assert_eq!(Measurements::parse(text).unwrap(), image(), "{text}");
        }
    }

    #[test]
    fn registers_beyond_the_three_are_read_too() {
        let [pcr8, pcr31] = ["8", "f"].map(|digit| digit.repeat(96));
        let text = format!(r#"{{{}, "PCR8": "{pcr8}", "PCR31": "{pcr31}"}}"#, json(&"c".repeat(96)));
        let others = [(8, Pcr([0x88; 48])), (31, Pcr([0xff; 48]))].into();
        assert_eq!(Measurements::parse(&text).unwrap(), Measurements { others, ..image() });
        let zero = text.replace(&pcr31, &"0".repeat(96));
        assert!(matches!(Measurements::parse(&zero), Err(MeasurementsError::Unused(31))));
    }

    #[test]
    fn of_several_enclaves_none_is_chosen_and_all_are_named() {
        let pcrs = json(&"c".repeat(96));
        let list = format!("[{}, {}]", enclave("i-1-enc1", &pcrs), enclave("i-1-enc2", &pcrs));
        let error = Measurements::parse(&list).unwrap_err().to_string();
        assert_eq!(error, "a list of 2 enclaves, i-1-enc1, i-1-enc2; expected one: select it, as with `jq '.[0]'`");
        assert!(matches!(Measurements::parse("[]"), Err(MeasurementsError::NoEnclave)));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let parse = |text: &str| Measurements::parse(text).unwrap_err();
        for text in ["PCR0", "7", r#"{"PCR0": 7}"#, "[[]]", r#"{"Measurements": []}"#] {
            assert!(matches!(parse(text), MeasurementsError::Json(_)), "{text}");
        }
        assert!(matches!(parse("{}"), MeasurementsError::Missing(0)));
        assert!(matches!(parse(r#"{"PCR00": "00"}"#), MeasurementsError::Missing(0)));
        assert!(matches!(parse(r#"{"PCR0": "00"}"#), MeasurementsError::Pcr { index: 0, .. }));
        assert!(matches!(parse(&format!("{{{}}}", json("cc"))), MeasurementsError::Pcr { index: 2, .. }));
        assert!(matches!(parse(&format!("{{{}}}", json(&"0".repeat(96)))), MeasurementsError::Zero(2)));
        let twice = format!(r#"{{{}, "PCR2": "{}"}}"#, json(&"c".repeat(96)), "d".repeat(96));
        assert!(matches!(parse(&twice), MeasurementsError::Json(_)));
    }
}
